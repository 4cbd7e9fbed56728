"""The least that a way can take: the requests that it cannot do without, sent raw, one after the other.

What the server does beside its writes (reading, most of all) is left out where a migration can have it done then;
what must follow on all writes, to see that they stand and are found, is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, cast

import orjson

from benchmarks.processes import PROVIDER_KEY, provider
from benchmarks.scene import FIELD, PAGE, SECOND, Scene
from kai.embeddings import ArrayEmbeddings, make_embeddings
from kai.settings import EmbeddingSettings, Settings, TypesenseSettings

Bodies = Iterator[bytes]


def embedding_alone(where: Scene, latency: float, concurrency: int) -> float:
    """Seconds for the same embedding requests through the same `Embeddings`, with nothing else done."""
    pages = [
        [where.question(number) for number in range(start, min(start + PAGE, where.documents))]
        for start in range(0, where.documents, PAGE)
    ]
    with provider(latency) as embedding:
        settings = Settings(
            EmbeddingSettings("openai", "text-embedding-3-small", where.dimensions),
            TypesenseSettings(),
            provider={"OPENAI_API_KEY": PROVIDER_KEY, "OPENAI_API_BASE": embedding.base},
        )
        embeddings = cast(ArrayEmbeddings, make_embeddings(settings))

        def embed(texts: list[str]) -> int:
            return len(embeddings.embed_array(texts))

        embed(["the first request opens a connection"])
        with ThreadPoolExecutor(concurrency) as threads:
            begun = time.monotonic()
            embedded = sum(threads.map(embed, pages))
            seconds = time.monotonic() - begun
    assert embedded == where.documents  # noqa: S101
    return seconds


def server_alone(where: Scene, folder: Path, strategy: str) -> float:
    """Seconds for what the server has to do, by this strategy. The collection has other vectors afterwards.

    The bodies are made before; they wait in a file, which the system keeps in memory: a large collection's do not fit
    into this process.
    """
    file = folder / "imports"
    with file.open("wb") as bodies:
        field = SECOND if strategy == "into" else FIELD
        pages = where.update_lines(2, field=field)
        if strategy in ("recreate", "alias"):
            pages = where.whole_lines(2, where.dimensions)
        sizes = [bodies.write(b"\n".join(lines)) for lines in pages]

    def read() -> Bodies:
        with file.open("rb") as made:
            for size in sizes:
                yield made.read(size)

    begun = time.monotonic()
    _WAYS[strategy](where, read)
    where.search(field)
    seconds = time.monotonic() - begun
    file.unlink()
    return seconds


def _in_place(where: Scene, read: Callable[[], Bodies]) -> None:
    for body in read():
        where.import_body(body, "update")


def _empty_then_fill(where: Scene, read: Callable[[], Bodies]) -> None:
    where.change_fields([{"name": FIELD, "drop": True}])
    for start in range(0, where.documents, PAGE):
        numbers = range(start, min(start + PAGE, where.documents))
        where.import_body(b"\n".join(orjson.dumps({"id": str(number), FIELD: None}) for number in numbers), "update")
    where.change_fields([where.vector_field(where.dimensions)])
    _in_place(where, read)
    where.export(without=FIELD)


def _beside(where: Scene, read: Callable[[], Bodies]) -> None:
    where.change_fields([where.vector_field(where.dimensions, SECOND)])
    _in_place(where, read)
    where.export(without=FIELD)


def _copy(where: Scene, read: Callable[[], Bodies]) -> Scene:
    shadow = where.beside("shadow")
    shadow.create(where.dimensions)
    for body in read():
        shadow.import_body(body, "create")
    where.export(without=FIELD)  # What came meanwhile.
    shadow.export()
    return shadow


def _recreate(where: Scene, read: Callable[[], Bodies]) -> None:
    shadow = _copy(where, read)
    where.delete()
    where.create(where.dimensions)
    for body in read():
        where.import_body(body, "create")
    where.export()
    shadow.delete()


_WAYS: Final[dict[str, Callable[[Scene, Callable[[], Bodies]], object]]] = {
    "auto": _in_place,
    "rebuild": _empty_then_fill,
    "alter": _empty_then_fill,
    "recreate": _recreate,
    "into": _beside,
    "alias": _copy,
}
