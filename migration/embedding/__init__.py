"""Texts to vectors: the provider, its pace, and the cache of what was paid for."""
