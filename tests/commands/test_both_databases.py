"""`compare` and `explain` on both databases: vectors from backups alone, and a document against the ledger."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from migration.backup import BackupWriter
from migration.ledger import DocumentRecord, FailureRecord, Ledger, RunRecord
from tests.commands.conftest import Invoke
from tests.world import World, made_up

SERVER = "search:8108"


def overwritten(ledger: Ledger, home: Path, name: str, old_vectors: dict[str, list[float]] | None) -> RunRecord:
    """A finished run with a model of its own, which put these vectors aside before it overwrote them."""
    model = ledger.register_model(family="openai", model=name, dimensions=8, fingerprint=f"f-{name}")
    run = ledger.start_run(name, "migrate", model_id=model.id, source={"server": SERVER, "collections": ["articles"]})
    item = ledger.start_collection(run.id, "articles", "in place", eligible=40)
    path = None
    if old_vectors is not None:
        schema = {"name": "articles", "fields": [{"name": "vector", "type": "float[]", "num_dim": 8}]}
        with BackupWriter.open(
            home, name, "articles", kind="vectors", embedding_field="vector", server=SERVER, schema=schema
        ) as backup:
            backup.add_vectors([(id_, vector, None) for id_, vector in old_vectors.items()])
            path = str(backup.folder)
            backup.close(complete=True)
    ledger.update_collection(item, done=40, state="completed", backup_path=path)
    return ledger.finish_run(run.id, "completed")


def vectors(seed: int, count: int = 40) -> dict[str, list[float]]:
    """Made-up vectors of 8 dimensions."""
    return {f"d{n}": row.tolist() for n, row in enumerate(np.random.default_rng(seed).normal(size=(count, 8)))}


def test_compare_needs_no_server_where_backups_have_the_vectors(ledger: Ledger, ask: Invoke, tmp_path: Path) -> None:
    first = overwritten(ledger, tmp_path, "a", None)
    ledger.record_failures(first.id, "articles", [FailureRecord("d7", "embed", "too long")])
    second_vectors = vectors(2)
    overwritten(ledger, tmp_path, "b", vectors(1))
    overwritten(ledger, tmp_path, "c", second_vectors | {"other": [1.0] * 4})
    (found,) = ask("compare", "a", "b", "--json").json["neighbours"]
    assert found["origins"] == ["backup of b", "backup of c"]
    assert found["overlap"]["corpus"] == 39, "d7 failed: what stood there was not the first run's"
    (missing,) = ask("compare", "b", "c", "--json").json["neighbours"]
    assert missing["reason"] == "not available: no backup holds the vectors of c"


def test_vectors_that_were_overwritten_without_a_backup_are_not_taken_from_a_later_one(
    ledger: Ledger, ask: Invoke, tmp_path: Path
) -> None:
    overwritten(ledger, tmp_path, "a", None)
    overwritten(ledger, tmp_path, "b", None)
    overwritten(ledger, tmp_path, "c", vectors(1))
    (found,) = ask("compare", "a", "b", "--json").json["neighbours"]
    assert found["reason"] == "not available: no backup holds the vectors of a"


def test_a_damaged_backup_is_named_as_the_reason(ledger: Ledger, ask: Invoke, tmp_path: Path) -> None:
    overwritten(ledger, tmp_path, "a", None)
    overwritten(ledger, tmp_path, "b", vectors(1))
    (tmp_path / "backups" / "b" / "articles" / "manifest.json").write_text("{")
    (found,) = ask("compare", "a", "b", "--json").json["neighbours"]
    assert found["reason"].startswith("not available: no backup holds the vectors of a; ")
    assert "manifest.json" in found["reason"]


def test_vectors_of_another_server_are_not_taken_from_this_one(ledger: Ledger, ask: Invoke, world: World) -> None:
    for name in ("a", "b"):
        model = ledger.register_model(family="openai", model=name, dimensions=8, fingerprint=f"f-{name}")
        run = ledger.start_run(name, "migrate", model_id=model.id, source={"server": SERVER})
        ledger.start_collection(run.id, "context_stores", "in place")
        ledger.record_documents(SERVER, "context_stores", [DocumentRecord("q0", b"1" * 32, b"2" * 32, model.id)])
    variables = {k: v for k, v in world.environment().items() if k.startswith("TYPESENSE_")}
    (found,) = ask("compare", "b", "a", "--json", **variables).json["neighbours"]
    here = world.address
    assert f"stand on {SERVER}, and the server that is configured is {here}" in found["reason"]


def test_explain_compares_the_document_with_the_ledger(ledger: Ledger, ask: Invoke, world: World) -> None:
    world.fill(made_up(questions=3), 8)
    document = world.documents("context_stores")["q0"]
    model = ledger.register_model(family="openai", model="small", dimensions=8, fingerprint="f1")
    run = ledger.start_run("run", "migrate", model_id=model.id)
    record = DocumentRecord(
        "q0",
        hashlib.sha256(document["prompt_text"].encode()).digest(),
        hashlib.sha256(np.asarray(document["prompt_embedding"], np.float32).tobytes()).digest(),
        model.id,
        run.id,
    )
    ledger.record_documents(world.address, "context_stores", [record])
    variables = {k: v for k, v in world.environment().items() if k.startswith("TYPESENSE_")}
    found = ask("explain", "context_stores", "q0", "--json", **variables).json
    assert (found["status"], found["model"]["model"], found["run"]) == ("current", "small", "run")
    assert ask("explain", "context_stores", "q1", "--json", **variables).json["status"] == "not in the ledger"


@pytest.mark.parametrize("strange", ["back`tick", "slash\\", " before", "*"])
def test_explain_finds_a_document_that_no_filter_can_name(ask: Invoke, world: World, strange: str) -> None:
    filled = made_up(questions=3)
    world.fill(filled, 8)
    template = filled["instructions"][0]
    world.import_("instructions", [{**template, "id": f"{strange}2", "is_default": False}])
    variables = {k: v for k, v in world.environment().items() if k.startswith("TYPESENSE_")}
    for is_default in (True, False):
        world.import_("instructions", [{**template, "id": strange, "is_default": is_default}], "upsert")
        found = ask("explain", "instructions", strange, "--json", **variables).json
        assert found["document_id"] == strange
        assert found["eligible"] is not is_default
