"""The tables of docs/providers.md, made of the code: `python -m tests.families.documented` writes them there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from kai.families import FAMILIES, Family, find_family
from kai.models import CATALOGUE, Model

DOCUMENT = Path(__file__).parents[2] / "docs" / "providers.md"


def tables() -> dict[str, str]:
    """The tables, by the name of the place where they stand."""
    return {"families": "\n".join(_families()), "models": "\n".join(_models())}


def renewed(text: str) -> str:
    """The document with the tables of now."""
    for name, table in tables().items():
        place = re.compile(rf"<!-- {name} -->\n.*?<!-- end of {name} -->", re.DOTALL)
        before, after = place.split(text)[0], place.split(text)[-1]
        text = f"{before}<!-- {name} -->\n{table}\n<!-- end of {name} -->{after}"
    return text


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _families() -> Iterator[str]:
    yield _row(("family", "settings", "extra", "texts, tokens a request", "type", "computed by"))
    yield "|---|---|---|---|---|---|"
    own = find_family("custom:a:B")
    assert own is not None
    for row in (*FAMILIES.values(), own):
        yield _row(
            (
                f"`{row.name}`" if row.package else "`custom:package.module:Class`",
                ", ".join(_settings(row)) or "none",
                f"`{row.extra}`" if row.extra else "",
                f"{row.limits.texts:,}, {row.limits.tokens:,}",
                ", ".join(f"`{each}`" for each in row.task_types),
                row.package or "your class",
            )
        )


def _settings(row: Family) -> Iterator[str]:
    for variable in row.variables:
        several = ", one or several" if variable.kind == "urls" else ""
        default = f", default {variable.default}" if variable.default else ""
        text = f"`{variable.name}`{several}{default}"
        yield text if variable.required else f"[{text}]"


def _models() -> Iterator[str]:
    yield _row(("family", "model", "dimensions", "tokens a text", "USD"))
    yield "|---|---|---|---|---|"
    for model in CATALOGUE:
        yield _row(
            (
                model.family,
                f"`{model.name}`",
                str(model.dimensions or model.usual_dimensions),
                f"{model.token_limit:,}" if model.token_limit else "",
                _price(model),
            )
        )


def _price(model: Model) -> str:
    if model.usd_per_million_tokens is None:
        return "unknown"
    return f"{model.usd_per_million_tokens:.2f}" if model.usd_per_million_tokens else "0"


if __name__ == "__main__":
    DOCUMENT.write_text(renewed(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
