"""What goes wrong with the vector cache."""


class CacheError(Exception):
    """The cache cannot take what was paid for. The message is one line with cause and remedy."""
