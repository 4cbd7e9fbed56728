"""Keeps docs/reference.md what the code says: `python -m tests.examples.reference` rewrites it.

What is generated stands between a mark such as `<!-- variables -->` and `<!-- end -->`; the rest is written by hand.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from kai.families import FAMILIES
from kai.settings import load_settings
from kai.settings_values import Reader
from migration.assessment.evaluation.verdict import EXIT_STATUS
from migration.operations.runs import results

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENT = REPOSITORY / "docs" / "reference.md"
EXAMPLE = REPOSITORY / ".env.example"
_BLOCK = re.compile(r"<!-- (?P<name>[a-z ]+) -->\n.*?<!-- end -->", re.DOTALL)
_ASSIGNMENT = re.compile(r"(?:# )?(?P<name>[A-Z][A-Z0-9_]+)=(?P<value>.*)")


def variables_read() -> set[str]:
    """The names of all variables that the settings look at."""
    asked: set[str] = set()
    look_up = Reader._stripped

    def noted(self: Reader, variable: str) -> str | None:
        asked.add(variable)
        return look_up(self, variable)

    with patch.object(Reader, "_stripped", noted):
        for family in FAMILIES:
            load_settings(environ={"EMBEDDING_FAMILY": family}, needs=())
    return asked


def explained() -> dict[str, tuple[str, str]]:
    """What .env.example says of each variable, and the value that it shows; a comment counts for those right below."""
    found: dict[str, tuple[str, str]] = {}
    comment: list[str] = []
    is_open = False
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        if match := _ASSIGNMENT.fullmatch(line):
            found[match["name"]] = " ".join(comment), match["value"]
            is_open = False
        elif line.startswith("# ---") or not line:
            comment = []
        elif line.startswith("# "):
            comment = [*comment, line[2:]] if is_open else [line[2:]]
            is_open = True
    return found


def variables() -> Iterator[str]:
    """A row for each variable."""
    of_families = {
        variable.name: (variable, [row.name for row in FAMILIES.values() if variable in row.variables])
        for family in FAMILIES.values()
        for variable in family.variables
    }
    yield "| variable | | default |"
    yield "|---|---|---|"
    for name, (said, example) in explained().items():
        words, shown = said, example
        if name in of_families:
            variable, families = of_families[name]
            kind = {"key": "Key", "url": "Base URL", "urls": "Base URL"}.get(variable.kind, "Setting")
            several = ", or several, separated by commas" if variable.kind == "urls" else ""
            words = f"{kind} of {', '.join(families)}{several}{'; required' if variable.required else ''}"
            shown = variable.default
        yield f"| `{name}` | {words.replace('|', chr(92) + '|')} | {f'`{shown}`' if shown else ''} |"


def statuses() -> Iterator[str]:
    """A row for each exit status, by the words that stand below it in the code."""
    yield "| exit status | |"
    yield "|---|---|"
    body = ast.parse(Path(results.__file__).read_text(encoding="utf-8")).body
    for constant, words in itertools.pairwise(body):
        if isinstance(constant, ast.AnnAssign) and isinstance(constant.value, ast.Constant):
            assert isinstance(words, ast.Expr) and isinstance(words.value, ast.Constant)
            yield f"| {constant.value.value!r} | {words.value.value!s} |"
    told = ", ".join(f"{status} {verdict}" for verdict, status in EXIT_STATUS.items())
    yield f"| {max(EXIT_STATUS.values())} | `evaluate` alone, whose verdicts are {told}. |"


def renewed(text: str) -> str:
    """The document with every block as the code says it now."""
    blocks = {"variables": variables, "exit statuses": statuses}
    return _BLOCK.sub(
        lambda match: f"<!-- {match['name']} -->\n{chr(10).join(blocks[match['name']]())}\n<!-- end -->", text
    )


if __name__ == "__main__":
    DOCUMENT.write_text(renewed(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
