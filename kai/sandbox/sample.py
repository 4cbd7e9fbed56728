"""Sample data in KAI's shape."""

from __future__ import annotations

from kai.sandbox.store import Store

DEFAULT_NUM_DIM = 128


def load_sample(store: Store, *, num_dim: int = DEFAULT_NUM_DIM) -> None:
    """Create the sample collections in an empty store."""
