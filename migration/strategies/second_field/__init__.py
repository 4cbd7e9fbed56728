"""A second vector field beside the one that serves (`expand`), and what the server says of it (`mark`)."""
