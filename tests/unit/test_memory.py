"""What a run asks of the collector, it takes back once it is loaded."""

from __future__ import annotations

import gc
import platform
from collections.abc import Iterator

import pytest

from migration.runtime import memory


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    gc.set_threshold(*memory._USUAL)  # A command that an earlier test ran here may have ended while it loaded.
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_the_collector_looks_seldom_only_while_loading() -> None:
    usual = gc.get_threshold()
    memory.loading()
    assert gc.isenabled()
    assert gc.get_threshold()[0] > usual[0]
    memory.loaded()
    assert gc.isenabled()
    assert gc.get_threshold() == usual
    assert gc.get_freeze_count() > 0


@pytest.mark.parametrize("libc", ["", "glibc", "musl"])
def test_any_c_library_will_do(libc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: (libc, ""))
    monkeypatch.setattr("ctypes.CDLL", lambda _name: object())
    memory.loaded()
