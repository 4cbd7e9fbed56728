"""On a cluster: pages go to workers, and what comes back is checked, and in the cache before it is told of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kai.models import EmbeddingSettings
from kai.vectors import Vector, WrongVectors
from migration.embedding.ahead import cluster
from migration.embedding.ahead.actors import Answer, OnActors, Worker
from migration.embedding.ahead.cluster import NoCluster, check_usable, ray_pool, size_of
from migration.embedding.ahead.via import Texts
from migration.embedding.cache import VectorCache
from migration.embedding.embed import text_hash
from migration.embedding.provider import PROBE_TEXT, ProviderStopped
from migration.embedding.throttle import Stopped
from migration.runtime.control import Control
from migration.runtime.meter import Meter
from tests.commands.conftest import Invoke, invoke
from tests.providers import OpenAIStandIn
from tests.world import World, openai

__all__ = ["invoke"]

SPACE, DIMENSIONS = "space", 4
LOCAL = EmbeddingSettings("local", "wordllama", 64)


class Workers:
    """A pool in this process: pages wait until they are asked for, the last one first."""

    size = 2

    def __init__(self) -> None:
        self.waiting: list[tuple[int, Texts]] = []
        self.most_waiting = 0
        self.let_go_at: list[int] = []
        self.is_silent = False
        self.vectors: Vector | None = None
        self.refused: Mapping[str, str] = {}

    def submit(self, page: int, texts: Texts) -> None:
        self.waiting.append((page, texts))
        self.most_waiting = max(self.most_waiting, len(self.waiting))

    def next(self, seconds: float) -> Answer | None:
        if self.is_silent or not self.waiting:
            return None
        page, texts = self.waiting.pop()
        failures = {digest: self.refused[text] for digest, text in texts.items() if text in self.refused}
        digests = tuple(digest for digest in texts if digest not in failures)
        rows = np.ones((len(digests), DIMENSIONS), np.float32) if self.vectors is None else self.vectors
        return Answer(page, digests, rows, failures, tokens=1, seconds=0.1)

    def let_go(self) -> None:
        self.let_go_at.append(len(self.waiting))


class Bench:
    """The way, its cache, and what it told."""

    def __init__(self, home: Path) -> None:
        self.workers, self.control, self.cache, self.now = Workers(), Control(), VectorCache(home), 0.0
        self.done, self.failures = 0, dict[bytes, str]()
        self.said: list[str] = []
        self.way = OnActors(
            self.workers,
            self.cache,
            space=SPACE,
            dimensions=DIMENSIONS,
            control=self.control,
            meter=Meter(),
            announce=self.said.append,
            patience=100.0,
            clock=self.tick,
        )

    def tick(self) -> float:
        self.now += 1.0
        return self.now

    def told(self, done: int, failures: Mapping[bytes, str]) -> None:
        self.done += done
        self.failures.update(failures)
        assert len(self.kept()) >= self.done  # In the cache first.

    def kept(self) -> dict[bytes, Vector]:
        return self.cache.get_many(SPACE, [digest for page in PAGES for digest in page])

    def run(self) -> None:
        self.way.embed(lambda: iter(PAGES), self.told)


PAGES: list[Texts] = [{text_hash(f"text {p} {n}"): f"text {p} {n}" for n in range(3)} for p in range(10)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    with made.cache:
        yield made


def test_every_text_is_told_of_once_and_no_more_pages_are_in_hand_than_the_workers_can_use(bench: Bench) -> None:
    bench.run()
    assert (bench.done, bench.failures, len(bench.kept())) == (30, {}, 30)
    assert bench.workers.most_waiting == 4


def test_workers_are_let_go_only_when_there_are_no_more_pages(bench: Bench) -> None:
    bench.run()
    assert bench.workers.let_go_at == [4, 3, 2, 1]


def test_a_text_without_a_vector_is_named_and_the_others_of_its_page_are_kept(bench: Bench) -> None:
    bench.workers.refused = {"text 3 1": "too long"}
    bench.run()
    assert (bench.done, bench.failures) == (29, {text_hash("text 3 1"): "too long"})


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        (np.ones((2, DIMENSIONS), np.float32), "a worker: the provider returned 2 vectors for 3 texts"),
        (np.ones((3, 5), np.float32), "a worker: the provider returned vectors of length 5, not 4"),
        (np.full((3, DIMENSIONS), np.nan, np.float32), "a number that is not finite"),
        (np.zeros((3, DIMENSIONS), np.float32), "a vector of zeros"),
    ],
)
def test_a_vector_that_cannot_be_right_is_not_kept(bench: Bench, vectors: Vector, said: str) -> None:
    bench.workers.vectors = vectors
    with pytest.raises(ProviderStopped, match=said):
        bench.run()
    assert not bench.kept()


def test_an_answer_for_other_texts_is_not_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Answer(0, tuple(PAGES[5]), np.ones((3, DIMENSIONS), np.float32), {}, tokens=1, seconds=0.1)
    monkeypatch.setattr(bench.workers, "next", lambda _: other)
    with pytest.raises(ProviderStopped, match="answered for other texts than its page has"):
        bench.run()
    assert not bench.kept()


def test_a_cluster_that_stays_silent_is_told_of_and_then_given_up(bench: Bench) -> None:
    bench.workers.is_silent = True
    with pytest.raises(ProviderStopped, match="no page has come back from the Ray cluster for 100 s"):
        bench.run()
    assert bench.said == ["No page has come back from the Ray cluster for 60 s; waiting for it."]


def test_who_asks_to_stop_keeps_what_is_in_hand(bench: Bench) -> None:
    def pages() -> Iterator[Texts]:
        yield from PAGES[:3]
        bench.control.stop()
        raise Stopped

    with pytest.raises(Stopped):
        bench.way.embed(pages, bench.told)
    assert (bench.done, len(bench.kept())) == (9, 9)


def test_who_asks_to_stop_is_not_kept_by_a_cluster_that_stays_silent(bench: Bench) -> None:
    def pages() -> Iterator[Texts]:
        yield PAGES[0]
        bench.control.stop()
        yield PAGES[1]

    bench.workers.is_silent = True
    with pytest.raises(Stopped):
        bench.way.embed(pages, bench.told)
    assert bench.done == 0


@pytest.mark.parametrize(
    ("resources", "family", "asked", "count", "gpus"),
    [
        ({"CPU": 6.0}, "local", None, 6, 0),
        ({"CPU": 6.0, "GPU": 2.0}, "local", None, 6, 0),
        ({"CPU": 6.0, "GPU": 2.0}, "sentence-transformers", None, 2, 1),
        ({"CPU": 6.0}, "sentence-transformers", None, 6, 0),
        ({"CPU": 6.0, "GPU": 2.0}, "sentence-transformers", 4, 4, 1),
        ({"CPU": 6.0}, "local", 2, 2, 0),
        ({}, "local", None, 1, 0),  # A cluster whose nodes come when they are wanted.
    ],
)
def test_there_is_a_worker_for_each_gpu_or_cpu_unless_a_number_is_given(
    resources: dict[str, float], family: str, asked: int | None, count: int, gpus: int
) -> None:
    found, needs = size_of(resources, family, asked)
    assert (found, needs["num_cpus"], needs.get("num_gpus", 0)) == (count, 1, gpus)


@pytest.mark.parametrize("address", ["nonsense", "http://localhost:1", "localhost", "ray://localhost", "h:1x", ":6379"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(NoCluster, match=r"--ray-address: .* is none; write auto, ray://HOST:PORT or HOST:PORT"):
        cluster._check_reachable(address)


def test_an_address_at_which_nobody_answers_is_refused() -> None:
    with pytest.raises(NoCluster, match=r"--ray-address: nobody answers at ray://127\.0\.0\.1:1 .*is the cluster up"):
        cluster._check_reachable("ray://127.0.0.1:1")


def test_a_family_that_asks_a_server_is_refused_before_anybody_is_asked(
    invoke: Invoke, world: World, provider: OpenAIStandIn
) -> None:
    answer = invoke("embed", "--via", "ray", **world.environment(**openai(provider)))
    assert answer.status == 2
    assert "family openai asks a server; take --via direct" in answer.text
    assert not provider.batches


def test_where_ray_is_not_installed_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda _: None)
    with pytest.raises(NoCluster, match=r"needs ray: pip install 'kai-embedding-migration\[ray\]'"):
        check_usable(LOCAL)


def vectors_of(texts: list[str]) -> Vector:
    """By the model in this process."""
    from kai.embeddings import make_embeddings
    from kai.settings import Settings, TypesenseSettings

    embeddings: Any = make_embeddings(Settings(LOCAL, TypesenseSettings()))
    found: Vector = embeddings.embed_array(texts)
    return found


def test_a_worker_gives_the_vectors_of_the_model_and_names_what_has_none() -> None:
    worker = Worker(LOCAL, vectors_of([PROBE_TEXT])[0])
    page = {text_hash(text): text for text in ("a river", "a \ud800 stone", "an apple")}
    answer = worker.embed(7, page)
    assert (answer.page, answer.digests) == (7, (text_hash("a river"), text_hash("an apple")))
    assert np.array_equal(answer.vectors, vectors_of(["a river", "an apple"]))
    assert list(answer.failures) == [text_hash("a \ud800 stone")]


def test_a_worker_whose_model_is_another_one_refuses_to_begin() -> None:
    with pytest.raises(WrongVectors, match="gives other vectors there than here"):
        Worker(LOCAL, vectors_of(["something else"])[0])


def test_a_cluster_loses_a_node_and_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # On 127.0.0.1 alone; read at the first import.
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="ray is not installed")
    small = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "node_ip_address": "127.0.0.1"}
    texts = {text_hash(text): text for text in (f"stone {n} of the river" for n in range(6_000))}
    items = list(texts.items())
    told: list[int] = []
    three = cluster_utils.Cluster(initialize_head=True, head_node_args=small | {"include_dashboard": False})
    try:
        one, _ = three.add_node(**small), three.add_node(**small)

        def heard(done: int, failures: Mapping[bytes, str]) -> None:
            assert not failures
            told.append(done)
            if len(told) == 8:
                three.remove_node(one, allow_graceful=False)

        with (
            VectorCache(tmp_path) as cache,
            ray_pool(LOCAL, vectors_of([PROBE_TEXT])[0], address=three.address) as pool,
        ):
            assert pool.size == 3
            way = OnActors(pool, cache, space=SPACE, dimensions=64, control=Control(), meter=Meter())
            way.embed(lambda: (dict(items[at : at + 100]) for at in range(0, len(items), 100)), heard)
            kept = cache.get_many(SPACE, list(texts), 64)
    finally:
        three.shutdown()
    assert sum(told) == len(kept) == len(texts)
    for at in range(0, len(items), 1000):
        wanted = vectors_of([text for _, text in items[at : at + 1000]])
        assert np.array_equal(np.stack([kept[digest] for digest, _ in items[at : at + 1000]]), wanted)
