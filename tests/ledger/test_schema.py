"""The schema's way up and down, on both databases, with data in it."""

import itertools
import json
import stat
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from click.testing import CliRunner
from sqlalchemy import Engine, inspect, text

import migration.ledger
from migration.cli.ledger import command as ledger_command
from migration.ledger import CheckResult, DocumentRecord, Ledger, LedgerError, WrongDocument
from migration.ledger.database import connect, resolve
from migration.ledger.records import Verdict, verdict_of
from migration.ledger.schema import REVISIONS, VERSION_TABLE, metadata
from migration.ledger.upgrade import Dialect, current, downgrade, head, sql, upgrade
from tests.ledger.conftest import document, sha


def engine_for(url: str) -> Engine:
    return connect(resolve(url, Path()))


def execute(url: str, *statements: str) -> None:
    engine = engine_for(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def test_the_revisions_in_the_folder_are_those_the_program_knows() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migration.ledger.__file__).parent))
    found = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(found)) == REVISIONS


@pytest.mark.parametrize("steps", [("head",), (REVISIONS[0], "head")], ids=["at once", "by revisions"])
def test_the_migrations_build_what_the_program_expects(ledger_url: str, steps: tuple[str, ...]) -> None:
    for revision in steps:
        upgrade(ledger_url, revision)
    assert current(ledger_url) == head()
    engine = engine_for(ledger_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_a_ledger_goes_up_down_and_up_again_with_its_data(ledger_url: str, tmp_path: Path) -> None:
    with Ledger.open(ledger_url, tmp_path) as ledger:
        model = ledger.register_model(family="openai", model="large", dimensions=3072, fingerprint="f")
        run = ledger.start_run("first", "migrate", model_id=model.id, alias="a", parameters={"batch": 64})
        collection_run = ledger.start_collection(run.id, "instructions", "recreate", backup_path="backup")
        ledger.update_collection(collection_run, done=7, downtime_seconds=1.5, state="completed")
        before = document("one", model_id=model.id, run_id=run.id, tenant="t", content_hash=sha("rest"))
        ledger.record_documents("host:1", "instructions", [before])
        kept_runs, kept_models = ledger.runs(), ledger.models()

    downgrade(ledger_url, "0001")
    assert current(ledger_url) == "0001"
    upgrade(ledger_url)
    assert current(ledger_url) == head()

    with Ledger.open(ledger_url, tmp_path) as ledger:
        assert ledger.runs() == kept_runs
        assert ledger.models() == kept_models
        (collection,) = ledger.collection_runs(run.id)
        assert (collection.done, collection.backup_path, collection.downtime_seconds) == (7, "backup", None)
        after = ledger.documents("host:1", "instructions", ["one"])["one"]
        assert (after.text_hash, after.vector_hash) == (before.text_hash, before.vector_hash)
        assert (after.model_id, after.run_id, after.tenant) == (model.id, run.id, "t")
        assert after.content_hash is None  # what only revision 0002 holds


def test_verdicts_go_down_as_no_pass_and_come_up_again_as_they_were(ledger_url: str, tmp_path: Path) -> None:
    wrong = (WrongDocument("seven\0", "a vector", "none"),)
    made: dict[Verdict, list[CheckResult]] = {
        "PASS": [CheckResult("documents", True, 7)],
        "FAIL": [
            CheckResult("documents", None, 0, detail="gone"),
            CheckResult("vectors there", False, 7, 1, wrong_documents=wrong),
        ],
        "NOT CHECKED": [CheckResult("documents", True, 7), CheckResult("sample", None, 0, 0, 0.0, "out of reach")],
    }
    with Ledger.open(ledger_url, tmp_path) as ledger:
        run = ledger.start_run("first", "migrate", provider_server="https://a.example/v1", model_digest="d")
        for number, (verdict, made_here) in enumerate(made.items()):
            assert verdict_of(check.passed for check in made_here) == verdict
            ledger.record_verification(run.id, f"c{number}", verdict, made_here)
        before = ledger.verifications(run.id)
    assert [list(record.checks) for record in before] == list(made.values())

    downgrade(ledger_url, "0003")
    engine = engine_for(ledger_url)
    with engine.connect() as connection:
        query = text("SELECT verdict, run_id FROM verification_results ORDER BY collection")
        standing = [(verdict, str(run_id)) for verdict, run_id in connection.execute(query)]
        (checks,) = connection.execute(text("SELECT checks FROM verification_results WHERE collection = 'c2'")).one()
    engine.dispose()
    assert standing == [("PASS", run.id), ("FAIL", run.id), ("FAIL", run.id)]
    # The older program reads each check by exactly these names.
    older = json.loads(checks) if isinstance(checks, str) else checks
    assert {frozenset(check) for check in older} == {
        frozenset({"name", "passed", "count", "failed", "confidence", "detail"})
    }

    upgrade(ledger_url)
    with Ledger.open(ledger_url, tmp_path) as ledger:
        after = ledger.verifications(run.id)
        assert [(r.verdict, r.at) for r in after] == [(r.verdict, r.at) for r in before]
        assert [r.wrong_total for r in after] == [0] * 3  # what only revision 0004 holds
        before_it = [[replace(check, wrong_documents=()) for check in r.checks] for r in before]
        assert [list(r.checks) for r in after] == before_it
        (kept,) = ledger.runs()
        assert (kept.provider_server, kept.model_digest) == (None, None)


def test_a_verification_of_an_older_program_is_read_as_it_was(ledger_url: str, tmp_path: Path) -> None:
    upgrade(ledger_url, "0003")
    identity, checks = (
        str(uuid4()),
        '[{"name": "a", "passed": true, "count": 0, "failed": 0, "confidence": 0, "detail": ""}]',
    )
    execute(
        ledger_url,
        "INSERT INTO verification_results (id, collection, verdict, checks, at) "
        f"VALUES ('{identity}', 'c', 'PASS', '{checks.replace(':', chr(92) + ':')}', '2026-01-01 00\\:00\\:00')",
    )
    Ledger.open(ledger_url, tmp_path).close()
    engine = engine_for(ledger_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT verdict FROM verification_results")).all() == [("PASS",)]
    engine.dispose()


def test_wrong_documents_go_with_their_verification(ledger: Ledger, ledger_url: str) -> None:
    run = ledger.start_run("first", "migrate")
    wrong = tuple(WrongDocument(f"d{n}", "a vector", "none") for n in range(1500))
    check = CheckResult("vectors there", False, 1500, 1500, wrong_documents=wrong)
    assert ledger.record_verification(run.id, "c", "FAIL", [check]) == ledger.verifications(run.id)[0]
    (read,) = ledger.verifications(run.id, wrong=20)
    assert (read.wrong_total, read.checks[0].wrong_documents) == (1500, wrong[:20])
    execute(ledger_url, "DELETE FROM verification_results")
    engine = engine_for(ledger_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM wrong_documents")).scalar() == 0
    engine.dispose()


def test_a_downgrade_to_base_leaves_no_table(ledger_url: str, tmp_path: Path) -> None:
    upgrade(ledger_url)
    downgrade(ledger_url, "base")
    engine = engine_for(ledger_url)
    assert set(inspect(engine).get_table_names()) <= {VERSION_TABLE}
    engine.dispose()
    assert current(ledger_url) is None
    Ledger.open(ledger_url, tmp_path).close()
    assert current(ledger_url) == head()


def test_an_older_ledger_is_upgraded_when_it_is_opened(ledger_url: str, tmp_path: Path) -> None:
    upgrade(ledger_url, "0001")
    Ledger.open(ledger_url, tmp_path).close()
    assert current(ledger_url) == head()


def test_an_upgrade_to_where_a_ledger_stands_changes_nothing(ledger_url: str) -> None:
    upgrade(ledger_url)
    upgrade(ledger_url)
    downgrade(ledger_url, "head")
    upgrade(ledger_url, "0001")  # lies before: that would be a downgrade
    assert current(ledger_url) == head()


def test_a_newer_ledger_is_refused_in_words_that_help(ledger_url: str, tmp_path: Path) -> None:
    upgrade(ledger_url)
    execute(ledger_url, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(LedgerError) as refused:
        Ledger.open(ledger_url, tmp_path)
    message = str(refused.value)
    assert "9999, newer than this program" in message
    assert head() in message
    assert "install the newer program" in message
    assert "MIGRATION_LEDGER_URL" in message
    with pytest.raises(LedgerError, match="newer than this program"):
        upgrade(ledger_url)
    with pytest.raises(LedgerError, match="newer than this program"):
        downgrade(ledger_url, "0001")
    assert current(ledger_url) == "9999"


def test_an_unknown_revision_is_refused(ledger_url: str) -> None:
    with pytest.raises(LedgerError, match=f"no ledger revision '0815'; known: base, {', '.join(REVISIONS)}, head"):
        upgrade(ledger_url, "0815")


def test_tables_of_another_application_are_left_alone(ledger_url: str, tmp_path: Path) -> None:
    execute(ledger_url, "CREATE TABLE runs (distance INTEGER)", "INSERT INTO runs VALUES (42)")
    with pytest.raises(LedgerError, match="give it a database or schema of its own"):
        Ledger.open(ledger_url, tmp_path)
    engine = engine_for(ledger_url)
    assert inspect(engine).get_table_names() == ["runs"]
    engine.dispose()


def test_another_applications_alembic_does_not_matter(ledger_url: str, tmp_path: Path) -> None:
    execute(
        ledger_url,
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
        "INSERT INTO alembic_version VALUES ('4a1f')",
    )
    Ledger.open(ledger_url, tmp_path).close()
    assert current(ledger_url) == head()


def test_a_copy_is_made_before_an_upgrade(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    upgrade(url, "0001")
    engine = engine_for(url)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO document_collections VALUES (1, 'host:1', 'only in the log')"))
    # The engine keeps its connection open, so that the row stands in the write-ahead log, not in the file.
    Ledger.open(None, tmp_path).close()
    engine.dispose()

    copy = tmp_path / "ledger.sqlite.before-0001"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert current(f"sqlite:///{copy}") == "0001"
    copied = engine_for(f"sqlite:///{copy}")
    with copied.connect() as connection:
        assert connection.execute(text("SELECT collection FROM document_collections")).all() == [("only in the log",)]
    copied.dispose()
    assert not list(tmp_path.glob("*.unfinished"))


def test_no_copy_is_made_of_a_new_or_a_current_ledger(tmp_path: Path) -> None:
    for _ in range(2):
        Ledger.open(None, tmp_path).close()
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.sqlite"]


def test_a_failing_upgrade_leaves_the_ledger_as_it_was(ledger_url: str, tmp_path: Path) -> None:
    upgrade(ledger_url, "0001")
    # The second of the two columns is there already: the first must not remain.
    execute(ledger_url, "ALTER TABLE document_embeddings ADD COLUMN content_hash INTEGER")
    with pytest.raises(LedgerError):
        Ledger.open(ledger_url, tmp_path)
    assert current(ledger_url) == "0001"
    engine = engine_for(ledger_url)
    assert "downtime_seconds" not in {c["name"] for c in inspect(engine).get_columns("collection_runs")}
    engine.dispose()


@pytest.mark.parametrize("steps", [[("base", "head")], list(itertools.pairwise(("base", *REVISIONS)))])
def test_the_printed_statements_build_the_same_ledger(
    ledger_url: str, tmp_path: Path, steps: list[tuple[str, str]]
) -> None:
    engine = engine_for(ledger_url)
    name: Dialect = "postgresql" if engine.dialect.name == "postgresql" else "sqlite"
    printed = "".join(sql(name, *step) for step in steps)
    with closing(engine.raw_connection()) as connection:
        if name == "sqlite":
            connection.executescript(printed)
        else:
            connection.cursor().execute(printed)
        connection.commit()
    engine.dispose()
    assert current(ledger_url) == head()
    with Ledger.open(ledger_url, tmp_path) as ledger:
        ledger.record_documents("host:1", "c", [document("one")])
        assert ledger.count_documents("host:1", "c") == 1


def test_statements_can_be_printed_downwards_and_for_nothing() -> None:
    assert "DROP COLUMN content_hash" in sql("postgresql", "0002", "0001")
    assert "DROP TABLE runs" in sql("sqlite", "head", "base")
    assert "ledger upgrade" in sql("sqlite", "0002", "head")  # what cannot be printed
    assert sql("sqlite", head(), "head") == ""


def test_the_schema_has_no_place_for_texts_or_keys() -> None:
    names = {column.name for table in metadata.tables.values() for column in table.columns}
    assert not names & {"text", "document", "content", "prompt_text", "key", "api_key", "password", "secret"}
    assert {field for field in DocumentRecord.__slots__ if "hash" not in field} == {
        "document_id", "model_id", "run_id", "tenant", "embedded_at", "cut_from",
    }  # fmt: skip


def test_the_commands_work_against_both_databases(ledger_url: str, tmp_path: Path) -> None:
    def call(*arguments: str, exit_code: int = 0, answer: str | None = None) -> str:
        result = CliRunner().invoke(ledger_command, list(arguments), obj=lambda: (ledger_url, tmp_path), input=answer)
        assert result.exit_code == exit_code, result.output
        return result.output

    assert call("current") == "none\n"
    assert call("upgrade", "0001") == "The ledger stands at 0001.\n"
    assert call("current") == "0001\n"
    assert call("upgrade") == f"The ledger stands at {head()}.\n"
    assert call("current") == f"{head()} (head)\n"
    call("downgrade", "0001", exit_code=2, answer="n\n")
    assert call("current") == f"{head()} (head)\n"
    assert call("downgrade", "base", "--yes") == "The ledger stands at base.\n"
    assert "Error: there is no ledger revision '7'" in call("upgrade", "7", exit_code=2)
    assert "CREATE TABLE document_embeddings" in call("sql")
    own = "TIMESTAMP WITH TIME ZONE" in call("sql")
    assert own == ledger_url.startswith("postgresql")
    assert "BYTEA" in call("sql", "--dialect", "postgresql", "--from", "0001")
    assert "BLOB" in call("sql", "--dialect", "sqlite", "--from", "0001")
