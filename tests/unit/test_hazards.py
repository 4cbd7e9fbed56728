"""What an operator is told before a run, and what is none of his business."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, cast

import pytest

from kai.typesense import Schema, Typesense
from migration.runtime.status import Status, status_file, wrote_lately
from migration.strategies.planning.hazards import find_hazards
from migration.strategies.planning.inspection import look_around
from tests.unit.inspected import inspected

SCHEMA: dict[str, Any] = {
    "name": "notes",
    "num_documents": 1,
    "fields": [
        {"name": "text", "type": "string"},
        {"name": "vector", "type": "float[]", "num_dim": 4, "optional": True},
    ],
}


class Busy:
    """A server to which somebody writes."""

    lags = False
    writes_a_second = Typesense.writes_a_second

    def stats(self) -> dict[str, float]:
        return {"import_requests_per_second": 2.5}

    def collections(self) -> list[Schema]:
        return [SCHEMA]

    def aliases(self) -> dict[str, str]:
        return {}

    def told_version(self) -> str:
        return "30.0"

    def free_memory(self) -> None:
        """It does not say."""


def hazards(**how: bool) -> list[str]:
    around = look_around(cast(Typesense, Busy()), **how)
    return list(find_hazards(inspected(SCHEMA, writes_a_second=around.writes_a_second), "in place"))


def test_writes_of_another_program_are_told_and_those_of_a_run_of_ours_are_not() -> None:
    assert hazards() == ["an application seems to be writing to this server (2.5 write requests a second)"]
    assert hazards(wrote_lately=True) == []


@pytest.mark.parametrize(("age", "lately"), [(0, True), (11, True), (14, False)])
def test_a_run_wrote_lately_if_its_status_is_as_young_as_the_figures_of_the_server(
    tmp_path: Path, age: int, lately: bool
) -> None:
    assert not wrote_lately(tmp_path)
    for run, seconds in (("long-ago", 3_600), ("the-last", age)):
        file = status_file(tmp_path, run)
        Status(file).phase("done")
        moment = time.time() - seconds
        os.utime(file, (moment, moment))
    assert wrote_lately(tmp_path) is lately
