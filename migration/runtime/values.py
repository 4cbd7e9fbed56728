"""How single values look to a person and to a program."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kai.settings import redact

NOTHING = "-"
"""What a table shows where nothing is known."""


def plain(value: Any, secrets: tuple[str, ...] = ()) -> Any:
    """A value as JSON has it. Secrets are taken out of each text, so that the document stays valid JSON."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name), secrets) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(entry, secrets) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry, secrets) for entry in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, str | Path):
        return redact(str(value), secrets).encode("utf-8", "replace").decode()
    return value


def text(value: Any) -> str:
    """Any value in a cell: `-` for nothing, on one line."""
    return NOTHING if value is None or value == "" else " ".join(str(value).split())


def moment(value: datetime | None) -> str:
    """A time to the second, UTC."""
    return NOTHING if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def amount(value: float | None) -> str:
    """A number: whole ones whole, others with the digits that say something."""
    if value is None:
        return NOTHING
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 1 or value == 0 else f"{value:.2g}"


def seconds(value: float | None) -> str:
    """A duration: `4.2 s`, `3 min 12 s`, `2 h 05 min`."""
    if value is None:
        return NOTHING
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def usd(value: float | None) -> str:
    """A cost."""
    if value is None:
        return NOTHING
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.2g}" if value >= 0.0001 else "<$0.0001"


def megabytes(size: int | None) -> str:
    """A number of bytes in megabytes, without the unit."""
    return NOTHING if size is None else amount(size / 1e6)


def typical_and_slow(p50: float | None, p95: float | None) -> str:
    """Two latencies in milliseconds, without the unit: `3.9 / 11.3`."""
    return NOTHING if p50 is None else f"{amount(p50)} / {amount(p95)}"


def percent(value: float | None) -> str:
    """A share or a change."""
    return NOTHING if value is None else f"{100 * value:.1f} %"
