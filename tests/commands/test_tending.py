"""`kai-migrate ledger prune` and `delete-model`, on both databases: they ask first, and a no changes nothing."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from migration.cli.ledger import command
from migration.ledger import CheckResult, FailureRecord, Ledger, MetricsRecord
from tests.ledger.conftest import document


def call(url: str, home: Path, *arguments: str, answer: str | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(command, list(arguments), obj=lambda: (url, home), input=answer)
    return result.exit_code, result.output


def test_what_would_go_is_told_and_asked_for(ledger: Ledger, ledger_url: str, tmp_path: Path) -> None:
    model = ledger.register_model(family="openai", model="small", dimensions=8, fingerprint="f")
    for name in ("old", "standing", "new"):
        run = ledger.start_run(name, "migrate", model_id=model.id)
        ledger.start_collection(run.id, "c", "in place")
        ledger.record_failures(run.id, "c", [FailureRecord("1", "embed", "x")])
        ledger.record_verification(run.id, "c", "FAIL", [CheckResult("documents", False, 3, 1)])
        ledger.record_metrics(run.id, MetricsRecord("c", seconds=1))
        ledger.finish_run(run.id, "completed")
        if name == "standing":
            ledger.record_documents("host:1", "c", [document("1", model_id=model.id, run_id=run.id)])
    prune = ("prune", "--keep", "1", "--older-than", "0d")

    for answer in ("n\n", None):
        status, text = call(ledger_url, tmp_path, *prune, answer=answer)
        assert status == 2
        assert "Stays: standing: 1 documents carry its vectors" in text
        assert "Goes: old (migrate, " in text
        assert "not confirmed; give --yes" in text
        assert len(ledger.runs()) == 3
    status, text = call(ledger_url, tmp_path, *prune, "--yes")
    assert (status, text.splitlines()[-1]) == (0, "Removed 1 runs and 0 backups, 0 bytes.")
    assert [run.name for run in ledger.runs()] == ["new", "standing"]
    assert call(ledger_url, tmp_path, *prune)[1].endswith("There is nothing to remove.\n")


def test_a_prune_without_a_bound_or_with_one_that_is_none_is_refused(
    ledger: Ledger, ledger_url: str, tmp_path: Path
) -> None:
    ledger.finish_run(ledger.start_run("a", "backup").id, "completed")
    for arguments, words in (
        (["--yes"], "--keep, --older-than: give at least one of them"),
        (["--older-than", "soon", "--yes"], "'soon' is no age; write one such as 90d"),
        (["--keep", "-1", "--yes"], "-1 is not in the range"),
    ):
        status, text = call(ledger_url, tmp_path, "prune", *arguments)
        assert status == 2
        assert words in text
    assert len(ledger.runs()) == 1


def test_a_model_that_nothing_carries_is_removed(ledger: Ledger, ledger_url: str, tmp_path: Path) -> None:
    ledger.register_model(family="openai", model="small", dimensions=8, fingerprint="f")
    used = ledger.register_model(family="openai", model="large", dimensions=8, fingerprint="g")
    ledger.record_documents("host:1", "c", [document("1", model_id=used.id)])
    assert call(ledger_url, tmp_path, "delete-model", "small", answer="n\n")[0] == 2
    status, text = call(ledger_url, tmp_path, "delete-model", "large", "--yes")
    assert status == 2
    assert "the model openai/large/8 stays: documents carry it" in text
    assert len(ledger.models()) == 2
    status, text = call(ledger_url, tmp_path, "delete-model", "small", "--yes")
    assert (status, text) == (0, "Removed the model openai/small/8 (f).\n")
    assert [use.model.fingerprint for use in ledger.models()] == ["g"]
