"""What a report shows, whatever it is about: a verdict first, then sections of figures, plots, tables and commands.

Plain values without layout, so that a run, an evaluation and a doctor's findings are shown by one renderer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Tone = Literal["good", "warning", "bad", "unknown"]
"""How a verdict, or a row of a table, is to look."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The first thing that is read: a word, and the sentence that it stands for."""

    word: str
    sentence: str
    tone: Tone


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a plot; a point without a value (None) interrupts it."""

    name: str
    points: tuple[tuple[float, float | None], ...]


@dataclass(frozen=True, slots=True)
class LinePlot:
    """Values over time.

    Attributes:
        title: what is shown.
        unit: of the values, as it is written behind them.
        lines: their points have seconds and values.
        note: a sentence on how to read it.
        logarithmic: whether ten times as much is as far away everywhere; its values are all above 0.
        until: seconds at the end of the axis; where the last point is, if that is later.
    """

    title: str
    unit: str
    lines: tuple[Line, ...]
    note: str = ""
    logarithmic: bool = False
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A value, and the bounds of its confidence interval where it has one."""

    value: float
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class BarPlot:
    """Values side by side.

    Attributes:
        title: what is shown.
        unit: of the values, as it is written behind them.
        labels: of the places along the axis, each a word or a number.
        bars: by the name of their group, a bar or None for each label.
        note: a sentence on how to read it.
        legend: what each label means, where it is an abbreviation.
    """

    title: str
    unit: str
    labels: tuple[str, ...]
    bars: tuple[tuple[str, tuple[Bar | None, ...]], ...]
    note: str = ""
    legend: tuple[str, ...] = ()


Plot: TypeAlias = LinePlot | BarPlot


@dataclass(frozen=True, slots=True)
class Plots:
    """Plots side by side, where there is room."""

    title: str
    plots: tuple[Plot, ...]
    note: str = ""
    kind: Literal["plots"] = "plots"


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values."""

    title: str
    facts: tuple[tuple[str, str], ...]
    note: str = ""
    kind: Literal["facts"] = "facts"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under titles; one that is long scrolls.

    Attributes:
        columns: their titles; of numbers one begins with `#`, which is not shown.
        tones: of the rows; empty where they all look the same.
        note: what is to be said below it, such as what is left out.
        command: that shows the rest; empty where there is none.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    tones: tuple[Tone, ...] = ()
    note: str = ""
    command: str = ""
    kind: Literal["table"] = "table"


@dataclass(frozen=True, slots=True)
class Commands:
    """What can be done: for what, and the exact line to type."""

    title: str
    steps: tuple[tuple[str, str], ...]
    note: str = ""
    kind: Literal["commands"] = "commands"


@dataclass(frozen=True, slots=True)
class Notes:
    """Sentences."""

    title: str
    sentences: tuple[str, ...]
    kind: Literal["notes"] = "notes"


Section: TypeAlias = Plots | Facts | Table | Commands | Notes


def with_content(sections: Iterable[Section]) -> list[Section]:
    """Those that have something to show."""
    content = {"plots": "plots", "facts": "facts", "table": "rows", "commands": "steps", "notes": "sentences"}
    return [section for section in sections if getattr(section, content[section.kind])]


@dataclass(frozen=True, slots=True)
class Page:
    """A report as it is laid out.

    Attributes:
        subject: what kind of thing it is about, such as `Migration`.
        title: its name.
        summary: a line below it: from what to what, when.
        verdict: what it came to.
        highlights: a few figures, each with its name, that are shown large.
        sections: in their order; those without content are left out.
        footer: what made it, and when.
    """

    subject: str
    title: str
    summary: str
    verdict: Verdict
    highlights: tuple[tuple[str, str], ...]
    sections: Sequence[Section]
    footer: str
