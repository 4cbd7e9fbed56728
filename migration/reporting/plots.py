"""Plots as SVG without a colour of its own: the page's style gives it, in light and in dark.

pygal draws lines and axes and names their parts by classes. Its own style sheet and script are left out: the page has
one for all plots, and runs no script.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Final
from xml.etree.ElementTree import Element

import pygal
from pygal.style import Style

from migration.reporting.page import Bar, BarPlot, Line, LinePlot, Plot

_SIZE: Final = {"width": 480, "height": 250}
"""In units of the drawing, which is scaled to the page: text of 13 has about 10 pixels on a telephone."""
_TEXT: Final = 13
_MOST_POINTS: Final = 160
"""Of a line: finer than that it is noise at this size."""
_STYLE: Final = Style(
    **{f"{part}_font_size": _TEXT for part in ("label", "major_label", "title", "no_data", "value", "value_label")}
)
_UNITS: Final = ((300.0, 1.0, "s"), (3 * 3600.0, 60.0, "min"), (3 * 86400.0, 3600.0, "h"), (float("inf"), 86400.0, "d"))
"""Up to so many seconds: the seconds of a unit, and the unit."""
_OF_THE_SCRIPT: Final = ("tooltip", "plot text-overlay", "plot tooltip-overlay")
"""Parts that only the script would show, which is left out."""
_LONG_NUMBER: Final = re.compile(r"(\d+\.\d)\d+")


def draw(plot: Plot) -> str:
    """The plot as an `<svg>` element to stand in a page."""
    return _draw_lines(plot) if isinstance(plot, LinePlot) else _draw_bars(plot)


def _draw_lines(plot: LinePlot) -> str:
    longest = max([plot.until, *(x for line in plot.lines for x, _ in line.points)])
    _, seconds, unit = next(each for each in _UNITS if longest <= each[0])
    lines = [Line(line.name, _coarser(line.points, longest)) for line in plot.lines]
    values = [y for line in lines for _, y in line.points if y is not None]
    scale = _common(max(values, default=0.0), plot.unit)
    height: Callable[[float], float] = float
    if plot.logarithmic and values:
        # By powers of ten. pygal's own logarithmic scale would be that of the time as well.
        scale |= _powers(min(values), max(values), scale["value_formatter"])
        height = math.log10
    chart = pygal.XY(
        **scale,
        dots_size=2,
        allow_interruptions=True,
        xrange=(0, longest / seconds or 1),
        x_value_formatter=lambda value: f"{_number(value)} {unit}",
    )
    chart.x_labels = _ticks(longest / seconds)
    for line in lines:
        chart.add(
            line.name, [(x / seconds, y if y is None else height(y)) for x, y in line.points], show_dots=_is_alone(line)
        )
    return _rendered(chart, plot.title)


def _draw_bars(plot: BarPlot) -> str:
    values = [bar for _, bars in plot.bars for bar in bars if bar is not None]
    ends = [end for bar in values for end in (bar.value, bar.least, bar.most) if end is not None]
    chart = pygal.Bar(**_common(max(ends, default=0.0), plot.unit, min(ends, default=0.0)))
    chart.x_labels = plot.labels
    for name, bars in plot.bars:
        chart.add(name, [None if bar is None else _value(bar) for bar in bars])
    return _rendered(chart, plot.title)


def _common(most: float, unit: str, least: float = 0.0) -> dict[str, Any]:
    behind, ticks = f" {unit}" if unit else "", _ticks(most, least)
    return {
        **_SIZE,
        "style": _STYLE,
        "css": (),
        "js": (),
        "no_prefix": True,
        "disable_xml_declaration": True,
        "show_legend": False,
        "margin": 6,
        "margin_right": 18,
        "spacing": 6,
        "y_labels": ticks,
        "range": (min(least * 1.05, ticks[0]), max(most * 1.05, ticks[-1])),
        "value_formatter": lambda value: f"{_number(value)}{behind}",
    }


def _powers(least: float, most: float, written: Callable[[float], str]) -> dict[str, Any]:
    """A scale of the powers of ten that both lie between."""
    first, last = math.floor(math.log10(least)), math.ceil(math.log10(most))
    powers = list(range(first, max(last, first + 1) + 1))
    return {
        "y_labels": powers,
        "range": (powers[0], powers[-1]),
        "value_formatter": lambda power: written(10.0**power),
    }


def _ticks(most: float, least: float = 0.0) -> list[float]:
    """Round numbers between these two, 0 among them, three to six on the longer side."""
    above, below = max(most, 0.0), max(-least, 0.0)
    if not (above or below):
        return [0.0, 1.0]
    longer = max(above, below)
    power = 10.0 ** math.floor(math.log10(longer))
    step = next(part * power for part in (0.2, 0.5, 1.0, 2.0) if longer / (part * power) <= 5)
    first, last = (int(end / step * (1 + 1e-9)) for end in (below, above))
    return [step * number for number in range(-first, last + 1)]


def _number(value: float) -> str:
    return f"{value:,.6g}" if value < 1000 else f"{value:,.0f}"


def _value(bar: Bar) -> Any:
    if bar.least is None or bar.most is None:
        return bar.value
    return {"value": bar.value, "ci": {"low": bar.least, "high": bar.most}}


def _is_alone(line: Line) -> bool:
    """Whether a point of the line has no neighbour, so that no line would show it."""
    there = [False, *(y is not None for _, y in line.points), False]
    return any(
        here and not before and not after for before, here, after in zip(there, there[1:], there[2:], strict=False)
    )


def _coarser(points: Sequence[tuple[float, float | None]], longest: float) -> tuple[tuple[float, float | None], ...]:
    """The means of neighbouring points, where there are more than can be seen."""
    if len(points) <= _MOST_POINTS:
        return tuple(points)
    width = longest / _MOST_POINTS or 1.0
    found: list[tuple[float, float | None]] = []
    together: list[tuple[float, float]] = []

    def close() -> None:
        if together:
            found.append((sum(x for x, _ in together) / len(together), sum(y for _, y in together) / len(together)))
            together.clear()

    for x, y in points:
        if y is None or (together and int(x / width) != int(together[0][0] / width)):
            close()
        if y is None:
            found.append((x, None))
        else:
            together.append((x, y))
    close()
    return tuple(found)


def _rendered(chart: Any, title: str) -> str:
    def bare(root: Element) -> Element:
        for parent in list(root.iter()):
            for child in list(parent):
                kind = child.get("class", "")
                if child.tag == "desc" and kind == "value":
                    child.tag = "title"  # Which a browser shows of itself.
                elif not isinstance(child.tag, str) or child.tag in ("defs", "desc") or kind in _OF_THE_SCRIPT:
                    parent.remove(child)
        for name in root.findall("title"):
            root.remove(name)
        root.attrib.pop("id", None)
        root.set("role", "img")
        root.set("aria-label", title)
        return root

    chart.add_xml_filter(bare)
    drawn: str = chart.render(is_unicode=True)
    return _LONG_NUMBER.sub(r"\1", drawn)
