"""A run is done again from its record, on a server as it was: the same work is planned."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from migration.ledger import Ledger
from tests.commands.conftest import Invoke
from tests.providers import OpenAIStandIn
from tests.world import Finished, World, made_up, openai

TOML = """# whose text is the question, and what it is about
[context_stores]
embedding_field = "prompt_embedding"
template = "{prompt_text} ({entities})"
filter_by = "db_connection_id:=db1"
"""


@dataclass(frozen=True, slots=True)
class Line:
    """A command line as a shell takes it apart: first the file that it writes, if any, then what it calls."""

    writes: Sequence[str]
    file: str
    variables: Mapping[str, str]
    words: Sequence[str]

    @classmethod
    def of(cls, text: str) -> Line:
        words = shlex.split(text)
        written, file = words[1 : words.index(">")] if ">" in words else [], ""
        if written:
            file = words[words.index(">") + 1]
            assert words[words.index(">") + 2] == "&&"
            words = words[words.index("&&") + 1 :]
        start = words.index("kai-migrate")
        return cls(written, file, dict(word.split("=", 1) for word in words[:start]), words[start + 1 :])


def shown(world: World, *arguments: str) -> str:
    done = world.run("show", *arguments, module="migration")
    assert done.status == 0, done.text
    return done.out


def again(world: World, line: Line, *more: str, **keys: str) -> Finished:
    """What the line calls, in an environment that has nothing but the keys and the home."""
    for name in ("TYPESENSE_HOST", "TYPESENSE_PORT", "TYPESENSE_PROTOCOL", "TYPESENSE_TIMEOUT"):
        assert name in line.variables
    if line.writes:
        (world.home.parent / line.file).write_text(shown(world, *line.writes[1:]), encoding="utf-8")
    return world.run(*line.words, *more, module="migration", **line.variables, **keys)


def plan_of(done: Finished) -> list[str]:
    """What the lines of a dry run say, but for the seconds, which the machine's pace decides."""
    assert done.status == 0, done.text
    return [line for line in done.out.splitlines() if "time" not in line]


def test_a_migration_with_options_is_planned_again_from_its_record(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=40), 64)
    file = world.home.parent / "own collections.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(TOML, encoding="utf-8")
    options = [
        "--collections-file", str(file), "--strategy", "alter", "--max-cost", "0.5", "--nice", "0.05", "--no-backup",
        "--force", "--description", "the owner's; $HOME",
    ]  # fmt: skip
    target = openai(provider, 32)
    planned = plan_of(world.run(*options, "--dry-run", **target))
    before = world.state()
    done = world.run(*options, "--alias", "one", **target)
    assert done.status == 0, done.text
    file.unlink()

    line = Line.of(shown(world, "one", "--command"))
    assert shown(world, "one", "--collections-file") == TOML
    assert provider.key not in " ".join(line.words) + repr(line.variables)
    world.clear()
    for name in ("database_connections", "context_stores", "instructions"):
        schema, documents = before[name]
        created = {key: schema[key] for key in ("name", "fields", "enable_nested_fields")}
        world.http.post("/collections", json=created).raise_for_status()
        world.import_(name, documents.values())
    repeated = again(world, line, "--dry-run", OPENAI_API_KEY=provider.key)
    assert plan_of(repeated) == planned
    for words in ("--no-backup", "--force", "--strategy alter", "--max-cost 0.5", "--nice 0.05"):
        assert words in " ".join(line.words)

    told = shown(world, "one")
    assert "{prompt_text} ({entities})" in told
    assert "db_connection_id:=db1" in told
    assert "langchain-openai" in told


def test_a_rollback_is_asked_for_again_in_the_same_words(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=20), 64)
    assert world.run("--alias", "one", **openai(provider, 64)).status == 0
    migrated = world.state()
    arguments = ["rollback", "one", "--collections", "context_stores"]
    asked = world.run(*arguments, module="migration")
    assert "Undo run" in asked.err
    done = world.run(*arguments, "--yes", module="migration")
    assert done.status == 0, done.text

    line = Line.of(shown(world, "latest", "--command"))
    world.import_("context_stores", migrated["context_stores"][1].values(), "upsert")
    repeated = again(world, line)
    assert repeated.status == asked.status == 2
    assert repeated.err == asked.err
    assert again(world, line, "--yes").status == 0


def test_a_backup_and_a_restore_can_be_done_again_too(world: World) -> None:
    world.fill(made_up(questions=10), 64)
    assert world.run("backup", "--collections", "instructions", module="migration").status == 0
    backup = Line.of(shown(world, "latest", "--command"))
    assert list(backup.words) == ["backup", "--collections", "instructions"]
    folder = next((world.home / "backups").glob("*/instructions"))
    assert world.run("restore", str(folder), "--yes", module="migration").status == 0
    restore = Line.of(shown(world, "latest", "--command"))
    assert list(restore.words) == ["restore", str(folder.resolve())]


def test_each_collection_has_its_own_figures_and_the_tenant_of_its_documents(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=30, instructions=8), 64)
    done = world.run(**openai(provider, 64))
    assert done.status == 0, done.text
    with Ledger.open(None, world.home) as ledger:
        run = ledger.find_run()
        assert run
        whole, *each = ledger.metrics(run.id)
        known = ledger.documents(world.address, "context_stores", ["q0", "q1"])
    assert [found.collection for found in each] == ["context_stores", "instructions"]
    for name in ("requests", "tokens", "bytes_sent"):
        parts: list[Any] = [getattr(found, name) for found in each]
        assert all(parts), name
        assert sum(parts) == getattr(whole, name)
    assert all(found.documents_per_second and found.latency_p50_ms and found.seconds for found in each)
    assert [record.tenant for record in known.values()] == ["db0", "db1"]
    assert f"Requests: {whole.requests}, tokens: about {whole.tokens}, cost: about $" in done.err
    rule = "=" * 60
    begins = [number for number, line in enumerate(done.out.splitlines()) if line.startswith("Starting migration for")]
    assert [done.out.splitlines()[number - 1] for number in begins] == [rule, rule]


def test_a_run_of_an_older_program_says_that_its_options_are_not_known(ledger: Ledger, ask: Invoke) -> None:
    ledger.start_run("old", "migrate")
    for option in ("--command", "--collections-file"):
        answer = ask("show", "old", option)
        assert answer.status == 2
        assert "RUN: the options of old were not recorded" in answer.text
