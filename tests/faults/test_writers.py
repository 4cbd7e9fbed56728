"""The application writes while a run is under way in place: every document ends with the vector of its own text."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.faults.bench import DIMENSIONS, PREVIOUS, SMALL, Bench
from tests.faults.script import Call, Kind, Script
from tests.world import Document, World, as_float32, made_up

NAME, FIELD = "context_stores", "prompt_embedding"


@pytest.fixture
def busy(shared_bench: Bench) -> Iterator[Bench]:
    """A collection of several pages."""
    shared_bench.fill(made_up(questions=700, instructions=4))
    shared_bench.fresh()
    yield shared_bench
    shared_bench.forget()
    shared_bench.fill(SMALL)


def vector(bench: Bench, text: str) -> list[float]:
    """The target's vector of a text."""
    return [float(x) for x in bench.provider.vector_for(text, dimensions=DIMENSIONS)]


def old_vector(seed: int) -> list[float]:
    """A vector of the previous model."""
    return [float(x) for x in np.random.default_rng(seed).normal(size=DIMENSIONS).astype(np.float32)]


def put(world: World, document_id: str, **fields: Any) -> None:
    """The application changes some fields of a document."""
    world.import_(NAME, [{"id": document_id, **fields}], "update")


def once(kind: Kind, number: int, *acts: Any) -> Script:
    """Do this right before the call of this kind with this number, while the run waits for its answer."""

    def before_call(call: Call) -> None:
        if (call.kind, call.number) == (kind, number):
            for act in acts:
                act()

    return Script(before_call=before_call)


def check_current(bench: Bench) -> dict[str, Document]:
    """Every document carries exactly the target's vector of the text that it has now."""
    documents = bench.world.documents(NAME)
    for id_, document in documents.items():
        expected = bench.provider.vector_for(document["prompt_text"], dimensions=DIMENSIONS)
        assert as_float32(document.get(FIELD)) == expected.tobytes(), id_
    return documents


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_text_that_changes_between_reading_and_writing_does_not_keep_the_old_texts_vector(
    busy: Bench, number: int
) -> None:
    ids = ("q1", "q350", "q699")
    acts = [lambda id_=id_: put(busy.world, id_, prompt_text=f"quite another question {id_}?") for id_ in ids]
    ended = busy.run(script=once("import", number, *acts))
    assert ended.status == 0, ended.text
    documents = check_current(busy)
    assert {documents[id_]["prompt_text"] for id_ in ids} == {f"quite another question {id_}?" for id_ in ids}


def test_other_fields_that_the_application_changes_meanwhile_are_not_taken_for_damage(busy: Bench) -> None:
    ended = busy.run(script=once("export", 1, lambda: put(busy.world, "q7", sql="SELECT 2")))
    assert ended.status == 0, ended.text
    assert busy.world.documents(NAME)["q7"]["sql"] == "SELECT 2"
    assert "Verification: PASS" in ended.err


@pytest.mark.parametrize("number", [1, 3])
def test_documents_deleted_meanwhile_stay_deleted_and_new_ones_get_their_vector(busy: Bench, number: int) -> None:
    new = dict(busy.before[NAME]["q5"], id="new", prompt_text="a question nobody asked before?")
    new.pop(FIELD)
    ended = busy.run(
        script=once(
            "import",
            number,
            lambda: [busy.world.http.delete(f"/collections/{NAME}/documents/q{n}") for n in (2, 333, 698)],
            lambda: busy.world.import_(NAME, [new]),
        )
    )
    assert ended.status == 0, ended.text
    documents = check_current(busy)
    assert set(documents) == set(busy.before[NAME]) - {"q2", "q333", "q698"} | {"new"}
    assert ended.summary(NAME) == {"status": "completed", "count": 698, "success": 698, "failed": 0}


def test_a_document_that_the_application_embedded_itself_is_left_alone(busy: Bench) -> None:
    text = "embedded by the application itself?"
    # As a provider gives it another time: not quite the same numbers.
    own = [x * (1.0 + 1e-4 * (-1) ** place) for place, x in enumerate(vector(busy, text))]
    ended = busy.run(script=once("export", 1, lambda: put(busy.world, "q10", prompt_text=text, **{FIELD: own})))
    assert ended.status == 0, ended.text
    document = busy.world.documents(NAME)["q10"]
    assert as_float32(document[FIELD]) == as_float32(own) != as_float32(vector(busy, text))
    assert busy.run().status == 0
    assert as_float32(busy.world.documents(NAME)["q10"][FIELD]) == as_float32(own)


@pytest.mark.parametrize(("kind", "number"), [("import", 1), ("import", 3), ("export", 1)])
def test_a_document_that_is_overwritten_with_the_old_models_vector_is_embedded_again(
    busy: Bench, kind: Kind, number: int
) -> None:
    acts = [lambda n=n: put(busy.world, f"q{n}", **{FIELD: old_vector(n)}) for n in (4, 400, 697)]
    ended = busy.run(script=once(kind, number, *acts))
    assert ended.status == 0, ended.text
    check_current(busy)


def test_a_rebuild_finds_the_old_models_vector_that_came_after_the_new_one_was_read_back(busy: Bench) -> None:
    acts = [lambda n=n: put(busy.world, f"q{n}", **{FIELD: old_vector(n)}) for n in (4, 400, 697)]
    # Read before the pause, emptied, and looked through once all of it is filled.
    ended = busy.run(script=once("export", 3, *acts), strategy="rebuild")
    assert ended.status == 0, ended.text
    check_current(busy)


def test_a_run_that_the_application_never_leaves_in_peace_says_so(busy: Bench) -> None:
    def write(call: Call) -> None:
        if call.kind in ("export", "import"):
            put(busy.world, "q7", prompt_text=f"changed before call {call.place}?")

    ended = busy.run(script=Script(before_call=write))
    assert ended.status == 1, ended.text
    assert "still changing" in ended.err
    assert busy.run().status == 0
    check_current(busy)


@pytest.mark.parametrize("seed", range(2))
def test_whatever_an_application_writes_meanwhile_the_vectors_are_of_the_current_texts(busy: Bench, seed: int) -> None:
    """A thread that changes, adds, deletes and embeds at random until the run is in its last passes."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    world = World(busy.world.url, busy.world.key, busy.folder)
    expected = {id_: document["prompt_text"] for id_, document in busy.before[NAME].items()}
    begun, ended_writing = threading.Event(), threading.Event()

    def write_once(step: int) -> None:
        id_ = chance.choice(sorted(expected))
        match chance.randrange(5):
            case 0:
                expected[id_] = f"changed in step {step}?"
                put(world, id_, prompt_text=expected[id_])
            case 1:
                new = dict(busy.before[NAME]["q0"], id=f"new{step}", prompt_text=f"new in step {step}?")
                expected[new["id"]] = new["prompt_text"]
                world.import_(NAME, [new | {FIELD: old_vector(step)}])
            case 2:
                del expected[id_]
                world.http.delete(f"/collections/{NAME}/documents/{id_}").raise_for_status()
            case 3:
                expected[id_] = f"embedded in step {step}?"
                put(world, id_, prompt_text=expected[id_], **{FIELD: vector(busy, expected[id_])})
            case _:
                put(world, id_, **{FIELD: old_vector(step)})

    def write() -> None:
        begun.wait(60)
        for step in range(60):
            write_once(step)
        ended_writing.set()

    def before_call(call: Call) -> None:
        if call.kind == "search" and call.number == 2:
            begun.set()
        if call.kind == "export" and call.number == 2:
            ended_writing.wait(60)

    writer = threading.Thread(target=write, name="application")
    writer.start()
    ended = busy.run(script=Script(before_call=before_call))
    writer.join()
    world.close()
    assert ended.status == 0, ended.text
    documents = check_current(busy)
    assert {id_: document["prompt_text"] for id_, document in documents.items()} == expected
    assert busy.world.schema(NAME)["metadata"]["embedding"] != PREVIOUS["embedding"]
