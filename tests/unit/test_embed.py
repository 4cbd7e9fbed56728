"""Each distinct text is bought once, whatever threads and options do."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from kai.families import RequestLimits
from kai.models import EmbeddingSettings
from kai.vectors import Vector
from migration.embedding.cache import VectorCache
from migration.embedding.embed import Embedder, text_hash
from migration.embedding.provider import Provider
from migration.runtime.meter import Meter


class Seller:
    """A provider that notes what it sells."""

    def __init__(self) -> None:
        self.sold: list[str] = []

    def vectors(self, texts: Sequence[str]) -> list[Vector]:
        self.sold += texts
        return [np.full(4, len(text), np.float32) for text in texts]


class HesitantCache(VectorCache):
    """The first look into it finds nothing, and takes until the other thread has bought what it looked for."""

    def __init__(self, home: Path, bought: threading.Event) -> None:
        super().__init__(home)
        self._bought = bought
        self._looks = 0

    def get_many(self, space: str, text_hashes: Sequence[bytes], dimensions: int | None = None) -> dict[bytes, Vector]:
        self._looks += 1
        found = super().get_many(space, text_hashes, dimensions)
        if self._looks == 1:
            assert self._bought.wait(10)
        return found


@pytest.fixture
def seller() -> Seller:
    return Seller()


def embedder(seller: Seller, cache: VectorCache) -> Embedder:
    limits = RequestLimits(texts=100, tokens=100_000)
    return Embedder(cast(Provider, seller), limits=limits, space="space", cache=cache, meter=Meter())


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[VectorCache]:
    with VectorCache(tmp_path) as made:
        yield made


def test_what_another_thread_bought_between_the_look_and_the_claim_is_not_bought_again(
    seller: Seller, tmp_path: Path
) -> None:
    bought = threading.Event()
    with HesitantCache(tmp_path, bought) as cache:
        shared = embedder(seller, cache)
        slow = threading.Thread(target=lambda: shared.embed(["x"]))
        slow.start()
        while cache._looks == 0:
            pass
        shared.embed(["x"])
        bought.set()
        slow.join()
    assert seller.sold == ["x"]


def test_a_repeated_text_is_bought_once_even_if_all_are_to_be_bought_afresh(seller: Seller, cache: VectorCache) -> None:
    cache.put_many("space", [(text_hash("x"), np.full(4, 9, np.float32))])
    shared = embedder(seller, cache)
    first = shared.embed(["x"], cache="refresh")
    second = shared.embed(["x", "yy"], cache="refresh")
    assert seller.sold == ["x", "yy"]
    assert np.array_equal(first["x"], second["x"])  # type: ignore[arg-type]
    assert np.array_equal(first["x"], np.ones(4))  # type: ignore[arg-type]


def test_a_comparison_with_what_the_provider_gives_now_asks_it_whatever_was_bought(
    seller: Seller, cache: VectorCache
) -> None:
    shared = embedder(seller, cache)
    shared.embed(["x"])
    shared.embed(["yy"], cache="refresh")
    shared.embed(["x", "yy", "zzz"], cache="bypass")
    assert seller.sold == ["x", "yy", "x", "yy", "zzz"]
    assert not cache.get_many("space", [text_hash("zzz")])  # Whether it is worth keeping is not known yet.


@pytest.mark.parametrize("takes_cut", [True, False])
def test_what_was_cut_is_taken_for_bought_unless_everything_is_to_be_embedded(
    seller: Seller, cache: VectorCache, takes_cut: bool
) -> None:
    cache.name("space", EmbeddingSettings("openai", "m", 4))
    limits = RequestLimits(texts=100, tokens=100_000)
    provider = cast(Provider, seller)
    shared = Embedder(provider, limits=limits, space="space", cache=cache, meter=Meter(), takes_cut=takes_cut)
    shared.embed(["bought"])
    shared.keep_cut({text_hash(text): np.full(4, 9, np.float32) for text in ("cut", "bought")}, 8)
    found = shared.embed(["cut", "bought"])
    assert seller.sold == (["bought"] if takes_cut else ["bought", "cut"])
    assert found["bought"].tolist() == [6.0] * 4  # type: ignore[union-attr]
    assert found["cut"].tolist() == [9.0 if takes_cut else 3.0] * 4  # type: ignore[union-attr]
    assert shared.cut_from([text_hash("cut"), text_hash("bought")]) == ({text_hash("cut"): 8} if takes_cut else {})
