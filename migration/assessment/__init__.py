"""What is found by looking alone: what is wrong (`diagnosis`), and whether another model is better (`evaluation`)."""
