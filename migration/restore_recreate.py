"""The way back across a change of dimensions: the collection is recreated with the vectors of a backup."""

from __future__ import annotations

from typing import Any

from migration.plan import Refused


class RestoreByRecreating:
    """Recreates a collection with its old dimensions and old vectors."""

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        raise Refused(["a rollback across a change of dimensions is not possible yet"])
