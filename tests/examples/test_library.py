"""The examples of docs/library.md work, one after the other, as they stand there."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

import migration
from tests.providers import OpenAIStandIn
from tests.world import REPOSITORY, World, made_up, openai

_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def test_every_example_runs(
    world: World, provider: OpenAIStandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.fill(made_up(questions=30), 64)
    before = world.documents("context_stores")
    blocks = _BLOCK.findall((REPOSITORY / "docs" / "library.md").read_text(encoding="utf-8"))
    assert len(blocks) == 8
    names: dict[str, Any] = {}
    with patch.dict(os.environ, world.environment(**openai(provider, 64)), clear=True):
        for number, block in enumerate(blocks):
            exec(compile(block, f"example {number}", "exec"), names)  # noqa: S102 - our own document
            printed = capsys.readouterr()
            assert bool(printed.err) == (number == len(blocks) - 1), printed.err
            if number == 2:
                assert world.documents("context_stores") == before
    assert names["plan"].collections[0].strategy == "in place"
    assert names["result"].exit_status == 0


def test_a_name_that_is_none_of_the_librarys_is_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'migrat'"):
        migration.migrat  # noqa: B018
    assert all(getattr(migration, name) for name in migration.__all__)
