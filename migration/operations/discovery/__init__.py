"""What a server's schemas and documents let one guess about collections that nobody has described."""
