"""The provider's patience, shared by several threads."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from kai.vectors import Vector
from migration.embedding.provider import Provider, ProviderStopped
from migration.embedding.throttle import Throttle
from migration.runtime.meter import Meter
from tests.unit.test_provider_errors import openai_error


class UsedUp:
    """Embeddings whose daily quota is used up."""

    def __init__(self) -> None:
        self.asked = 0

    def embed_array(self, texts: list[str]) -> Vector:
        self.asked += 1
        raise openai_error(429, headers={"retry-after": "3600"})


@pytest.mark.parametrize("pages", [1, 12])
def test_a_quota_that_is_used_up_stops_every_page_at_once(pages: int) -> None:
    embeddings = UsedUp()
    provider = Provider(embeddings, 4, throttle=Throttle(2), meter=Meter())
    with ThreadPoolExecutor(pages) as pool:
        asked = [pool.submit(provider.vectors, [f"text {number}"]) for number in range(pages)]
        for answer in asked:
            assert isinstance(answer.exception(timeout=20), ProviderStopped)
    assert embeddings.asked <= pages


def test_a_page_that_was_to_wait_ends_with_the_provider_too() -> None:
    class Patient(UsedUp):
        def embed_array(self, texts: list[str]) -> Vector:
            if texts == ["first"]:
                raise openai_error(429, headers={"retry-after": "60"})
            return super().embed_array(texts)

    throttle = Throttle(4)
    throttle.overloaded = lambda retry_after=None: None  # type: ignore[method-assign] # holds nobody back
    provider = Provider(Patient(), 4, throttle=throttle, meter=Meter(), patience=300)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(provider.vectors, ["first"])
        time.sleep(0.2)
        assert isinstance(pool.submit(provider.vectors, ["second"]).exception(timeout=10), ProviderStopped)
        throttle._held_until = time.monotonic() + 900
        assert isinstance(first.exception(timeout=10), ProviderStopped)
