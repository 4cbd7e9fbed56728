"""What a run says before it begins."""

from __future__ import annotations

import pytest

from kai.settings import EmbeddingSettings
from migration.operations.report import banner, preview
from migration.runtime.console import Console
from migration.strategies.plan import Plan
from migration.strategies.server_version import hazards_of_version


@pytest.mark.parametrize(("version", "warned"), [("30.2", False), ("31.0", True)])
def test_the_preview_names_the_server_and_a_version_that_was_never_tried_is_warned_of(
    capsys: pytest.CaptureFixture[str], version: str, warned: bool
) -> None:
    plan = Plan(EmbeddingSettings("local", "wordllama", 64), (), version, hazards_of_version(version))
    banner(Console(), plan)
    preview(Console(), plan)
    printed = capsys.readouterr()
    assert f"Typesense {version}" in printed.out
    assert ("never tried with Typesense 31.0" in printed.err) == warned
