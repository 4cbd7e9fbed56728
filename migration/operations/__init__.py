"""What each command does, usable from Python: how a run begins, is resumed and ends."""
