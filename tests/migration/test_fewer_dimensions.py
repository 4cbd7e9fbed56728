"""Fewer dimensions of the same model are cut from the vectors that stand there, where a sample agrees."""

from __future__ import annotations

import itertools
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kai.embeddings import make_embeddings
from kai.models import EmbeddingSettings
from kai.settings import Settings, TypesenseSettings
from migration.ledger import Ledger
from migration.strategies.context import MigrationOptions
from tests.killing import run_watched
from tests.providers import OpenAIStandIn
from tests.providers.standin import Asked, FloatArray
from tests.providers.vectors import nested_vector_for
from tests.world import World, field, made_up, openai, text_of

NAME = "context_stores"
ONLY = ("--collections", NAME)
LONGEST = 1536


class Nesting(OpenAIStandIn):
    """Its models nest, as the real ones do."""

    def vector_for(self, text: str, *, model: str | None = None, **options: Any) -> FloatArray:
        return nested_vector_for(text, model=model or self.model, dimensions=options["dimensions"], longest=LONGEST)

    def embed(self, asked: Asked) -> Iterator[FloatArray]:
        length = asked.dimensions or LONGEST
        return (self.vector_for(text, model=asked.model, dimensions=length) for text in asked.texts)


@pytest.fixture
def nesting() -> Iterator[Nesting]:
    with Nesting() as stand_in:
        yield stand_in


def furthest(world: World, provider: Nesting, dimensions: int, name: str = "prompt_embedding") -> float:
    """The largest difference of any number from the provider's; infinite where a vector lacks or is of another length.

    In the collection that NAME leads to.
    """
    wrong = 0.0
    for document in world.documents(NAME).values():
        vector = np.array(document.get(name) or [])
        if vector.shape != (dimensions,):
            return float("inf")
        wanted = provider.vector_for(text_of(NAME, document), dimensions=dimensions)
        wrong = max(wrong, float(np.abs(vector - wanted).max()))
    return wrong


def asked_for(provider: Nesting) -> set[str]:
    """The texts that were sent to the provider, but for the probe, and forgotten then."""
    texts = {text for batch in provider.batches for text in batch} - {"probe"}
    provider.batches.clear()
    return texts


@pytest.mark.parametrize("strategy", ["recreate", "into"])
def test_every_way_takes_what_is_cut_and_embeds_the_sample_and_what_has_changed(
    world: World, nesting: Nesting, strategy: str
) -> None:
    world.fill(made_up(questions=120), 96, old_vectors=False)
    assert world.run(*ONLY, **openai(nesting, 96)).status == 0
    world.import_(NAME, [{"id": "q7", "prompt_text": "changed without a new vector"}], "update")
    asked_for(nesting)
    dry = world.run(*ONLY, "--dry-run", **openai(nesting, 64))
    assert dry.status == 0, dry.text
    assert "the ledger says that the 96 numbers of the old vectors are text-embedding-3-small's" in dry.out
    assert "and 30 texts embedded again agree (least cosine" in dry.out
    assert "  - Cut from 96 dimensions: 107 texts, which saves about" in dry.out  # of 120, 12 repeat another one
    asked_for(nesting)
    way = ("--into", "{field}_v2") if strategy == "into" else ("--strategy", strategy)
    done = world.run(*ONLY, *way, **openai(nesting, 64))
    assert done.status == 0, done.text
    assert "the new vectors of 119 documents were cut from the 96 dimensions" in done.text
    assert "Verification: PASS" in done.text
    filled = "prompt_embedding_v2" if strategy == "into" else "prompt_embedding"
    assert furthest(world, nesting, 64, filled) < 1e-6
    asked = asked_for(nesting)
    assert "changed without a new vector" in asked
    assert len(asked) <= 1 + 30 + 10  # the sample before, and the verification's at the end
    with Ledger.open(None, world.home) as ledger:
        known = {
            each.document_id: each.cut_from for each in ledger.iterate_documents(world.address, NAME, field=filled)
        }
    assert known["q7"] is None
    assert 119 - 40 <= list(known.values()).count(96) <= 119 - 25  # but for the sample, some of whose texts repeat
    id_ = next(id_ for id_, cut_from in known.items() if cut_from)
    done = world.run("explain", NAME, id_, "--field", filled, module="migration")
    assert re.search(r"^  Cut from +96 dimensions of the same model$", done.out, re.MULTILINE), done.text


def test_a_run_that_is_killed_when_the_old_vectors_are_gone_embeds_nothing_but_its_probe(
    world: World, nesting: Nesting, tmp_path: Path
) -> None:
    world.fill(made_up(questions=20), 96, old_vectors=False)
    assert world.run(*ONLY, **openai(nesting, 96)).status == 0
    options = MigrationOptions(collections=(NAME,), strategy="alter", verify_sample=0)
    changes = itertools.count()

    def kill(_number: int, request: str) -> None:
        # Of the schema: the mark, the drop, the field again.
        if request == f"PATCH /collections/{NAME}" and next(changes) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    environment = world.environment(**openai(nesting, 64))
    killed = run_watched(options, environment, tmp_path / "killed", at_request=kill)
    assert killed.killed, killed.text
    assert not any(document.get("prompt_embedding") for document in world.documents(NAME).values())
    nesting.batches.clear()
    again = run_watched(options, environment, tmp_path / "again")
    assert again.status == 0, again.text
    assert nesting.batches == [["probe"]]
    assert furthest(world, nesting, 64) < 1e-6


def test_a_run_that_insists_on_embedding_cuts_nothing(world: World, nesting: Nesting) -> None:
    world.fill(made_up(questions=40), 96, old_vectors=False)
    assert world.run(*ONLY, **openai(nesting, 96)).status == 0
    asked_for(nesting)
    done = world.run(*ONLY, "--no-from-old", **openai(nesting, 80))
    assert done.status == 0, done.text
    assert "were cut" not in done.text
    assert len(asked_for(nesting)) == 36


def test_where_nothing_says_whose_the_vectors_are_they_are_cut_only_if_it_is_asked_for_and_a_sample_agrees(
    world: World, nesting: Nesting
) -> None:
    documents = made_up(questions=60)
    for document in documents[NAME]:
        document["prompt_embedding"] = [
            float(number) for number in nesting.vector_for(text_of(NAME, document), dimensions=96)
        ]
    world.fill(documents, 96, old_vectors=False)
    dry = world.run(*ONLY, "--dry-run", **openai(nesting, 64))
    assert "--from-old could cut the new vectors from the 96 numbers that stand there" in dry.out
    assert "Cut from" not in dry.out

    q3 = documents[NAME][3]
    wrong = {"id": "q3", "prompt_embedding": q3["prompt_embedding"][::-1]}
    world.import_(NAME, [wrong], "update")
    before = world.state()
    done = world.run(*ONLY, "--from-old", **openai(nesting, 64))
    assert done.status == 2
    assert "--from-old: 'context_stores': of 60 texts embedded again, 1 have other vectors ('q3'; " in done.err
    assert world.state() == before

    world.import_(NAME, [{"id": "q3", "prompt_embedding": q3["prompt_embedding"]}], "update")
    asked_for(nesting)
    done = world.run(*ONLY, "--from-old", **openai(nesting, 64))
    assert done.status == 0, done.text
    assert furthest(world, nesting, 64) < 1e-6
    done = world.run(*ONLY, "--from-old", **openai(nesting, 64))
    assert done.status == 0, done.text
    assert "All 60 were current already" in done.text


def test_the_local_model_s_vectors_are_cut_behind_an_alias_on_the_word_of_the_metadata(
    world: World, tmp_path: Path
) -> None:
    pytest.importorskip("wordllama")
    fields = [field("text"), field("vector", "float[]", num_dim=256, optional=True)]
    world.http.post("/collections", json={"name": "notes_1", "fields": fields}).raise_for_status()
    world.http.put("/aliases/notes", json={"collection_name": "notes_1"}).raise_for_status()
    world.import_("notes_1", [{"id": f"n{n}", "text": f"note {n} on {'tea' * n}"} for n in range(40)])
    file = tmp_path / "collections.toml"
    file.write_text('[notes]\nembedding_field = "vector"\ntemplate = "{text}"\n')
    model = {"EMBEDDING_FAMILY": "local", "EMBEDDING_MODEL": "l2_supercat"}
    assert world.run("--collections-file", str(file), **model, EMBEDDING_DIMENSIONS="256").status == 0
    # Another machine, with a ledger that knows nothing of it.
    world.home = tmp_path / "work" / "another home"
    options = ("--collections-file", str(file), "--strategy", "alias")
    done = world.run(*options, **model, EMBEDDING_DIMENSIONS="64")
    assert done.status == 0, done.text
    assert "the collection's metadata say that the 256 numbers of the old vectors are l2_supercat's" in done.text
    assert "the new vectors of 40 documents were cut from the 256 dimensions" in done.text
    assert "Verification: PASS" in done.text
    embedding = EmbeddingSettings("local", "l2_supercat", 64)
    ours = make_embeddings(Settings(embedding, TypesenseSettings()))
    for document in world.documents("notes").values():
        assert np.allclose(document["vector"], ours.embed_query(document["text"]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "model", "dimensions", "words"),
    [
        (("--from-old",), "text-embedding-ada-002", 1536, "--from-old: of text-embedding-ada-002 it is not known"),
        (("--from-old",), "text-embedding-3-small", 128, "has vectors of 96 dimensions, and nothing longer"),
        (("--from-old", "--force"), "text-embedding-3-small", 64, "--from-old, --force: the one embeds nothing"),
    ],
)
def test_what_cannot_be_cut_is_refused_where_it_was_asked_for(
    world: World, nesting: Nesting, arguments: tuple[str, ...], model: str, dimensions: int, words: str
) -> None:
    world.fill(made_up(questions=20), 96)
    done = world.run(*ONLY, *arguments, **openai(nesting, dimensions, model))
    assert done.status == 2
    assert words in done.err
