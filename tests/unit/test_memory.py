"""What a run asks of the collector, it takes back once it is loaded."""

from __future__ import annotations

import gc
import platform
from collections.abc import Iterator

import pytest

from migration.runtime.memory import loaded, loading

USUAL = (700, 10, 10)
"""Python's own."""


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    gc.unfreeze()
    gc.set_threshold(*USUAL)
    yield
    gc.set_threshold(*thresholds)
    gc.freeze()


def test_the_collector_looks_seldom_only_while_loading() -> None:
    loading()
    assert gc.isenabled()
    assert gc.get_threshold()[0] > USUAL[0]
    loaded()
    assert gc.isenabled()
    assert gc.get_threshold() == USUAL
    assert gc.get_freeze_count() > 0


def test_a_program_that_calls_a_migration_looks_after_its_memory_itself() -> None:
    gc.set_threshold(1_234, 5, 6)
    loaded()
    assert gc.get_threshold() == (1_234, 5, 6)
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("libc", ["", "glibc", "musl"])
def test_any_c_library_will_do(libc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: (libc, ""))
    monkeypatch.setattr("ctypes.CDLL", lambda _name: object())
    loading()
    loaded()
