"""The provider's side of what goes wrong: a stand-in that goes by a script and remembers what it was asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.providers import Fault, OpenAIStandIn
from tests.providers.standin import Asked, FloatArray

PROBE = "probe"


@dataclass(frozen=True, slots=True)
class PlannedAnswer:
    """A fault and the requests that it meets: from the `first` (1 is the probe of the run) on, `times` of them."""

    fault: Fault
    first: int = 1
    times: int = 1


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came, and what went wrong with it."""

    texts: tuple[str, ...]
    fault: Fault | None


class ScriptedProvider(OpenAIStandIn):
    """OpenAI's protocol, and faults as planned.

    Attributes:
        planned: the first one that meets a request is what happens to it.
        received: every request since `script` was called last.
        constant_from: the request from which on every text gets the vector of one and the same text; None for never.
    """

    def __init__(self) -> None:
        super().__init__(faults=self._next_fault)
        self.planned: Sequence[PlannedAnswer] = ()
        self.received: list[Received] = []
        self.constant_from: int | None = None
        self._begun = 0

    def script(self, *planned: PlannedAnswer) -> None:
        """Go by these faults from the next request on, which counts as the first."""
        self.planned = planned
        self.received.clear()
        self._begun = self.requests

    @property
    def fired(self) -> list[Fault]:
        """What went wrong."""
        return [each.fault for each in self.received if each.fault is not None]

    def paid(self) -> Counter[str]:
        """How often each text was answered as it should be, probes left out."""
        return Counter(text for each in self.received if each.fault is None for text in each.texts if text != PROBE)

    def embed(self, asked: Asked) -> Iterator[FloatArray]:
        """The vectors of the texts, or one for all of them."""
        constant = self.constant_from is not None and self.requests - self._begun >= self.constant_from
        for vector in super().embed(asked):
            yield self.vector_for("anything", model=asked.model, dimensions=len(vector)) if constant else vector

    def _next_fault(self, number: int, texts: list[str]) -> Fault | None:
        place = number - self._begun
        met = (each.fault for each in self.planned if each.first <= place < each.first + each.times)
        fault = next(met, None)
        self.received.append(Received(tuple(texts), fault))
        return fault
