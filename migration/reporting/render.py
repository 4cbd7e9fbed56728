"""A page as one HTML file, which opens anywhere without a network: no script, no font, nothing that is loaded."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kai.settings import redact
from migration.reporting.page import Page, Plot
from migration.reporting.plots import draw


def html(page: Page, secrets: tuple[str, ...] = ()) -> str:
    """The page, with secrets replaced by `***` wherever they would show."""

    def without_secrets(value: Any) -> Any:
        return redact(value, secrets) if isinstance(value, str) and not isinstance(value, Markup) else value

    def drawn(plot: Plot) -> Markup:
        return Markup(redact(draw(plot), secrets))  # noqa: S704 - an XML writer has escaped what it was given

    # `finalize` sees every value before it is escaped: what escaping changes would not be recognised any more.
    environment = Environment(
        loader=PackageLoader("migration.reporting", ""),
        autoescape=True,
        finalize=without_secrets,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["drawn"] = drawn
    return environment.get_template("page.html").render(page=page)
