"""A new collection takes the place of the live one behind its aliases; whatever was written meanwhile is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.alias.corner import OLD_DIMENSIONS, Corner
from tests.killing import run_forked


@pytest.mark.parametrize("dimensions", [OLD_DIMENSIONS, 32])
@pytest.mark.parametrize("version", ["corner", "corner_29"])
def test_every_alias_leads_to_the_new_collection_and_the_old_one_stands(
    request: pytest.FixtureRequest, tmp_path: Path, version: str, dimensions: int
) -> None:
    corner: Corner = request.getfixturevalue(version)
    environment = corner.environment(dimensions, tmp_path / "home")
    done = run_forked(corner.options(), environment, tmp_path / "run")
    assert done.status == 0, done.text
    print(done.text)
    print(*done.requests, sep="\n")
    corner.check_swapped(dimensions)
