"""A report as files: `report.json` for programs, `report.html` for people, each put in place in one step."""

from __future__ import annotations

import platform
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson

from migration.reporting.page import Page
from migration.runtime.values import moment, plain
from migration.runtime.version import program_version

HTML: Final = "report.html"
JSON: Final = "report.json"


def write(folder: Path, page: Page, facts: Any, secrets: tuple[str, ...] = ()) -> Path:
    """Write both files of a report.

    Args:
        folder: where to; it is made.
        page: what is shown.
        facts: what a program reads: a frozen dataclass of plain values.
        secrets: replaced by `***` wherever they would show.

    Returns:
        The HTML file.

    Raises:
        OSError: they cannot be written.
    """
    from migration.reporting.render import html  # A fifth of a second, which whoever writes no report need not wait.

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _put(folder / JSON, orjson.dumps(plain(facts, secrets)))
    _put(folder / HTML, html(page, secrets).encode())
    return folder / HTML


def signed(at: datetime) -> str:
    """When a report is written, by what, and where: the beginning of its footer."""
    python = f"Python {platform.python_version()}, {platform.system()}"
    return f"Written {moment(at)} by kai-migrate {program_version()} on {python}."


def _put(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(path.suffix + ".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
