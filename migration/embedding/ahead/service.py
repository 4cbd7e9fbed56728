"""What a provider's batch interface is to us: a file goes up, a batch is made of it, answers come within a day.

One text a line, and the line's name is the SHA-256 of the text. The providers count texts, not lines, so several texts
a line would bring no more of them into a batch; alone, a text that is refused takes no other with it, nothing has to
be halved and sent again, and an answer says by itself which text it is for, even if everything on this side is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from kai.vectors import Vector

Stage: TypeAlias = Literal["checking", "waiting", "answered", "failed", "no room", "gone"]
"""Of a batch: the provider looks whether it takes it; it does, and works on it; there are answers, perhaps not to every
line; it was not taken, and why; it was not, because too much is waiting; the provider knows none of this name."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How far a batch is.

    Attributes:
        stage: what that means to us.
        words: what the provider calls it.
        answered: lines that are answered, where it says so.
        is_cancelled: whether somebody has cancelled it.
        reason: why it failed, in the provider's words.
    """

    stage: Stage
    words: str
    answered: int | None = None
    is_cancelled: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NoVector:
    """Why a line has no vector, and whether it may have one if it is sent again."""

    reason: str
    may_pass: bool


Answer: TypeAlias = tuple[bytes, Vector | NoVector]
"""The hash of a text, and what the provider said; the vector unchecked."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one batch may carry; `size` is in bytes."""

    texts: int = 50_000
    size: int = 200_000_000
    tokens: int | None = None


class NoBatches(Exception):  # noqa: N818
    """The provider has no batch interface that could be used; the message says what there is instead."""


class BatchService(Protocol):
    """A provider's batch interface. Nothing is repeated here but by the caller; errors are the SDK's.

    Attributes:
        limits: of one batch.
        key: the attribute of a line that names it.
    """

    limits: BatchLimits
    key: str

    def check(self) -> None:
        """Look whether there is a batch interface, before anything is sent.

        Raises:
            NoBatches: there is none.
        """

    def line(self, digest: bytes, text: str) -> bytes:
        """The line that asks for the vector of a text, without its end.

        Raises:
            ValueError, TypeError: the provider would not take the text, or cut it; the message says so.
        """

    def upload(self, file: Path, name: str) -> str:
        """Send a file of lines; the provider's name of it."""

    def submit(self, file_id: str, name: str) -> str:
        """Make a batch of a file that was sent, under a name of ours; the provider's name of it."""

    def find(self, name: str, since: datetime) -> str | None:
        """The provider's name of the batch that has this name of ours, made no earlier than `since`; None for none."""

    def look(self, batch_id: str) -> Seen:
        """How far it is."""

    def answers(self, batch_id: str) -> Iterator[Answer]:
        """What came of its lines, in any order; missing are those that were not answered, or whose file is gone."""

    def cancel(self, batch_id: str) -> None:
        """Ask for its end; what is done by then is answered, and paid for."""

    def clean(self, batch_id: str | None, file_id: str | None) -> None:
        """Delete the files of a batch whose answers are kept; what is not there any more is no error."""
