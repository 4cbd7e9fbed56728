"""A page as one HTML file, which opens anywhere without a network: no script, no font, nothing that is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from kai.settings import redact
from migration.reporting.page import Page, Plot
from migration.reporting.plots import draw


def html(page: Page, secrets: Iterable[str] = ()) -> str:
    """The page, with secrets replaced by `***` wherever they would show."""
    return template().render(page=_without(tuple(secrets), page))


@cache
def template() -> Template:
    """The page's template, compiled."""
    environment = Environment(
        loader=PackageLoader("migration.reporting", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"drawn": _drawn, "coded": _coded}
    return environment.get_template("page.html")


def _drawn(plot: Plot) -> Markup:
    return Markup(draw(plot))  # noqa: S704 - an XML writer has escaped what it was given


def _coded(text: str) -> Markup:
    """What stands between backticks as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts))


def _without(secrets: tuple[str, ...], value: Any) -> Any:
    """A value of a page; before it is escaped, which would hide a secret."""
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, list | tuple):
        return tuple(_without(secrets, entry) for entry in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        entries = {field.name: _without(secrets, getattr(value, field.name)) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **entries)
    return value
