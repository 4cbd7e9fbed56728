"""A change of dimensions under everything that can go wrong."""
