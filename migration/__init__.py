"""Re-embed every document of a Typesense search when its embedding model changes."""
