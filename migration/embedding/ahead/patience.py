"""How long a provider is waited for, and how often it is asked what may be asked twice."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeVar

import tenacity

from kai.provider_errors import MESSAGE_LENGTH, provider_fault
from kai.settings import redact
from migration.embedding.cache import CacheError
from migration.embedding.provider import ProviderStopped
from migration.embedding.throttle import Stopped
from migration.ledger import LedgerError

T = TypeVar("T")

_ATTEMPTS: Final = 12
"""Of a request that fails in passing: with the waits between them, about eight minutes."""
_OURS: Final = (Stopped, ProviderStopped, CacheError, LedgerError)
"""What is not the provider's fault, though it may come up while it answers."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """How long to wait, and by which clock.

    Attributes:
        most: seconds to wait for answers; 0 to leave once everything is sent.
        clock: seconds that only go up.
        now: the time of day.
        rest: waits so many seconds, unless `stopped` is set meanwhile.
        stopped: set when the process is to end.
    """

    most: float = math.inf
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    rest: Callable[[float], object] | None = None
    stopped: threading.Event = field(default_factory=threading.Event)


class Patience:
    """Asks a provider, and waits.

    Args:
        waiting: by which clock, and until when.
        secrets: what must not show in any reason.
    """

    def __init__(self, waiting: Waiting, secrets: tuple[str, ...] = ()) -> None:
        self._waiting, self._secrets = waiting, secrets
        self._deadline = waiting.clock() + waiting.most

    @property
    def left(self) -> float:
        """Seconds for which answers are still waited for; 0 or less for none."""
        return self._deadline - self._waiting.clock()

    def now(self) -> datetime:
        """The time of day."""
        return self._waiting.now()

    def ask(self, call: Callable[[], T]) -> T:
        """What the provider answers to what may be asked twice, asked for as long as it fails in passing.

        Raises:
            ProviderStopped: it does not answer, or not as it should.
        """

        def may_pass(error: BaseException) -> bool:
            return not isinstance(error, _OURS) and provider_fault(error).kind in ("rate_limited", "transient")

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = provider_fault(error).retry_after if error else None
            return min(asked or 2.0**state.attempt_number, 60.0)

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(may_pass),
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            wait=wait,
            sleep=self.rest,
            reraise=True,
        )
        try:
            result: T = retrying(call)
        except _OURS:
            raise
        except Exception as error:
            fault = provider_fault(error, self._secrets)
            if fault.kind == "bug":
                raise
            raise ProviderStopped(fault.message) from error
        return result

    def rest(self, seconds: float) -> None:
        """Wait so long.

        Raises:
            Stopped: somebody asked to stop meanwhile.
        """
        (self._waiting.rest or self._waiting.stopped.wait)(seconds)
        self.check_stopped()

    def check_stopped(self) -> None:
        """Go on, unless somebody asked to stop.

        Raises:
            Stopped: somebody did.
        """
        if self._waiting.stopped.is_set():
            raise Stopped

    def in_words(self, told: str) -> str:
        """What a provider says in an answer, on one line, not endless, without secrets."""
        return redact(" ".join(told.split()), self._secrets)[:MESSAGE_LENGTH]
