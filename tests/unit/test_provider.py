"""The provider's patience, shared by several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from migration.meter import Meter
from migration.provider import Provider, ProviderStopped
from migration.throttle import Throttle
from migration.vectors import Vector
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
