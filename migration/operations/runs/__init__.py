"""What every run shares, whichever operation it is: its record, its course, its end, and what it came to."""
