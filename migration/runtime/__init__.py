"""What a run works beside: the console, stop and pause, status, figures, the lock."""
