"""Everything that can go wrong between a text and its vector, for all stand-ins alike."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

FaultName = Literal[
    "status",
    "time_out",
    "drop",
    "drop_in_body",
    "truncated_body",
    "not_json",
    "too_few",
    "wrong_length",
    "nan",
    "zeros",
    "duplicated",
]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong with one request.

    Attributes:
        name: `status` answers with an error status; `time_out` waits `seconds` and closes the connection;
            `drop` closes it unanswered, `drop_in_body` after half of the body; `truncated_body` sends half of
            the JSON as if it were all; `not_json` a page of HTML with status 200; `too_few` leaves out the
            last vector; `wrong_length` makes the last vector one number shorter or, alone, longer; `nan` and
            `zeros` spoil the last vector; `duplicated` repeats the first vector in place of all others.
        status: For `status`.
        retry_after: Seconds, or an HTTP date, in the words of the protocol; `None` to leave it out.
        message: For `status`: the provider's words.
        seconds: For `time_out`.
    """

    name: FaultName
    status: int = 500
    retry_after: float | str | None = None
    message: str = "The server had an error while processing your request."
    seconds: float = 30.0


Faults = Callable[[int, list[str]], Fault | None]
"""A script: from the number of the request, counted from 1, and its texts, to what goes wrong with it."""


class RandomFaults:
    """A script of server errors and dropped connections, each with its rate, the same for the same seed."""

    def __init__(self, *, failure_rate: float, drop_rate: float, seed: int) -> None:
        self._failure_rate = failure_rate
        self._drop_rate = drop_rate
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret

    def __call__(self, _number: int, _texts: list[str]) -> Fault | None:
        chance = self._random.random()
        if chance < self._failure_rate:
            return Fault("status", status=self._random.choice((500, 503)))
        if chance < self._failure_rate + self._drop_rate:
            return Fault(self._random.choice(("drop", "drop_in_body")))
        return None


def spoil(vectors: list[FloatArray], fault: Fault | None) -> list[FloatArray]:
    """The vectors as a provider with this fault sends them."""
    if fault is None or not vectors:
        return vectors
    last = vectors[-1].copy()
    match fault.name:
        case "too_few":
            return vectors[:-1]
        case "wrong_length":
            return [*vectors[:-1], np.append(last, np.float32(0.1)) if len(vectors) == 1 else last[:-1]]
        case "nan":
            last[len(last) // 2] = np.nan
            return [*vectors[:-1], last]
        case "zeros":
            return [*vectors[:-1], np.zeros_like(last)]
        case "duplicated":
            return [vectors[0]] * len(vectors)
        case _:
            return vectors
