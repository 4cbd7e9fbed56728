"""Pages of documents: read, their vectors as text, written; the schemas that they have."""
