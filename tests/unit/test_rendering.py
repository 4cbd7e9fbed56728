"""A report's page as HTML: nothing is loaded, nothing is carried out, nothing secret shows, and every plot is drawn."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migration.operations.models.overlap import Kept
from migration.reporting import files
from migration.reporting.page import (
    Bar,
    BarPlot,
    Commands,
    Facts,
    Line,
    LinePlot,
    Notes,
    Page,
    Plots,
    Table,
    Verdict,
)
from migration.reporting.plots import _ticks, draw
from migration.reporting.render import html

LINES = LinePlot("Speed", "ms", (Line("a", ((0.0, 1.0), (10.0, 3.0), (11.0, None), (20.0, 2.0))),))
BARS = BarPlot(
    "Recall at 10",
    "",
    ("all", "short"),
    (("old", (Bar(0.5, 0.4, 0.6), Bar(0.25))), ("new", (Bar(0.75, 0.7, 0.8), None))),
)
NASTY = "<script>alert('x')</script> & \"quoted\""
KEY = 'key-with-<&"-0123456789'


def page(text: str = "words") -> Page:
    """One of each kind of section, with a text wherever there is one."""
    return Page(
        subject=text,
        title=text,
        summary=text,
        verdict=Verdict(text, text, "bad"),
        highlights=((text, text),),
        sections=(
            Plots(text, (LINES, BarPlot(text, text, (text,), ((text, (Bar(1.0),)), (text, (None,))), text, (text,)))),
            Facts(text, ((text, text),), text),
            Table(text, (text, f"#{text}"), ((text, text),), ("bad",), text, text),
            Commands(text, ((text, text), (text, ""))),
            Notes(text, (text, f"give `{text}` now")),
        ),
        footer=text,
    )


def parsed(drawn: str) -> ElementTree.Element:
    """A plot as XML."""
    return ElementTree.fromstring(drawn)  # noqa: S314 - our own


class Elements(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_nothing_in_a_page_is_loaded_or_carried_out() -> None:
    content = html(page(NASTY))
    elements = Elements(content).found
    assert {tag for tag, _ in elements}.isdisjoint({"script", "link", "img", "iframe", "object", "base", "a"})
    attributes = {name for _, attributes in elements for name in attributes}
    assert not {name for name in attributes if name.startswith("on")}
    assert attributes.isdisjoint({"src", "href", "srcset", "xlink:href", "style"})
    assert set(re.findall(r"https?://[^\"'\s<]+", content)) == {"http://www.w3.org/2000/svg"}, "a name, not an address"
    assert "url(" not in content
    assert "@import" not in content


def test_what_stands_in_names_is_text_and_no_markup() -> None:
    content = html(page(NASTY))
    assert "<script" not in content
    assert content.count("&lt;script&gt;") > 20


def test_a_key_shows_nowhere_however_it_would_be_escaped() -> None:
    content = html(page(f"refused with {KEY}"), (KEY,))
    assert "0123456789" not in content
    assert content.count("refused with ***") > 20


def test_a_plot_has_no_colour_of_its_own_and_follows_the_page() -> None:
    for plot in (LINES, BARS):
        drawn = parsed(draw(plot))
        assert drawn.get("viewBox") == "0 0 480 250"
        assert drawn.get("width") is None
        assert (drawn.get("role"), drawn.get("aria-label")) == ("img", plot.title)
        names = {element.tag.split("}")[-1] for element in drawn.iter()}
        assert names <= {"svg", "g", "path", "rect", "text", "circle", "title", "line"}
        assert not {"fill", "stroke", "style"} & {name for each in drawn.iter() for name in each.attrib}


def test_each_line_and_each_group_of_bars_is_drawn() -> None:
    lines = draw(LinePlot("x", "", (*LINES.lines, Line("b", ((0.0, 2.0), (20.0, 2.0))))))
    assert [f"serie-{number} color-{number}" in lines for number in range(3)] == [True, True, False]
    bars = draw(BARS)
    assert bars.count('class="rect') == 3
    assert bars.count('class="ci"') == 2, "the intervals that are known"


def test_a_value_without_neighbours_is_a_dot_because_no_line_would_show_it() -> None:
    assert 'class="dot' in draw(LinePlot("x", "", (Line("a", ((3.0, 5.0),)),)))
    assert 'class="dot' not in draw(LinePlot("x", "", (Line("a", ((3.0, 5.0), (4.0, 5.0))),)))


@pytest.mark.parametrize(("seconds", "last"), [(20.0, "20 s"), (1_200.0, "20 min"), (36_000.0, "10 h"), (4e5, "4 d")])
def test_the_axis_of_time_has_the_unit_that_suits_it(seconds: float, last: str) -> None:
    drawn = parsed(draw(LinePlot("x", "", (Line("a", ((0.0, 1.0), (seconds, 1.0))),))))
    texts = [element.text for element in drawn.iter() if element.tag.endswith("text")]
    assert last in texts


@settings(max_examples=25)
@given(st.floats(1e-6, 1e9), st.floats(1e-6, 1e9))
def test_on_a_logarithmic_scale_every_value_lies_between_two_powers_of_ten(one: float, other: float) -> None:
    drawn = draw(LinePlot("x", "", (Line("a", ((0.0, one), (9.0, other))),), logarithmic=True))
    bottom = max(float(height) for height in re.findall(r'<g class="guides"><path d="M[\d.]+ ([\d.]+) h', drawn))
    (line,) = re.findall(r'<path d="([^"]*)" class="line reactive nofill"', drawn)
    heights = [float(height) for height in re.findall(r"[\d.]+ (-?[\d.]+)", line)]
    assert len(heights) == 2
    assert all(-0.1 <= height <= bottom + 0.1 for height in heights)


@given(st.floats(1e-6, 1e12))
def test_ticks_are_few_round_and_begin_at_nothing(most: float) -> None:
    ticks = _ticks(most)
    assert 3 <= len(ticks) <= 6
    assert ticks[0] == 0
    assert ticks[-1] <= most * (1 + 1e-6)


values = st.one_of(st.none(), st.floats(0, 1e9))


@settings(max_examples=25)
@given(
    points=st.lists(st.tuples(st.floats(0, 1e7), values), max_size=40).map(
        lambda all_: tuple(sorted(all_, key=lambda point: point[0]))
    )
)
def test_any_course_of_values_can_be_drawn(points: tuple[tuple[float, float | None], ...]) -> None:
    parsed(draw(LinePlot("x", "ms", (Line("a", points),))))


def test_a_line_of_many_points_has_no_more_than_can_be_seen() -> None:
    points = tuple((float(second), float(second % 7)) for second in range(100_000))
    assert len(draw(LinePlot("x", "", (Line("a", points),)))) < 10_000


def test_both_files_take_the_place_of_earlier_ones_in_one_step(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a-run"
    facts = Kept(f"id {KEY}", 0.5, True)
    assert files.write(folder, page(), {"old": 1}) == folder / "report.html"
    files.write(folder, page(KEY), facts, (KEY,))
    assert orjson.loads((folder / "report.json").read_bytes()) == {
        "document_id": "id ***",
        "share": 0.5,
        "same_nearest": True,
    }
    assert "<title>*** · *** ***</title>" in (folder / "report.html").read_text()
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]
