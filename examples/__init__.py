"""Programs to look at and to try."""
