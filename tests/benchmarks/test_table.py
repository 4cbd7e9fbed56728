"""The tables say what the figures say."""

from __future__ import annotations

from typing import Any

from benchmarks.table import markdown

FACTS: dict[str, Any] = {
    "machine": {"server": "sandbox", "cpus": 2, "python": "3.11", "system": "Linux"},
    "options": {"latency": 0.05, "concurrency": 4, "repeat": 1},
}


def result(
    documents: int, dimensions: int, *, peak: float, cpu: float, seconds: float, strategy: str = "auto", old: int = 0
) -> dict[str, Any]:
    return {
        "documents": documents,
        "dimensions": dimensions,
        "old_dimensions": old or dimensions,
        "strategy": strategy,
        "tool": {
            "seconds": seconds,
            "startup_seconds": 2.0,
            "documents_per_second": documents / seconds,
            "requests": 3,
            "peak_mb": peak,
            "startup_cpu_seconds": 1.0,
            "cpu_ms_per_document": cpu,
        },
        "floors": {"embedding_seconds": 1.0, "server_seconds": 2.0, "seconds": 2.0},
        "ratio": 1.0,
        "ratio_without_startup": 1.0,
        "one_at_a_time": {"sample": 20, "seconds": 9.0, "documents_per_second": 1.0, "requests": 1}
        | {"cpu_ms_per_document": 4.0}
        if strategy == "auto"
        else None,
        "witness": None,
        "load_before": 1.0,
        "load_after": 1.0,
    }


def test_growth_is_told_for_each_length_against_the_smallest_collection() -> None:
    results = [
        result(20_000, 128, peak=220, cpu=0.5, seconds=22),
        result(2_000, 128, peak=200, cpu=0.4, seconds=3),
        result(2_000, 64, peak=150, cpu=0.3, seconds=3),
        result(4_000, 64, peak=150, cpu=0.3, seconds=3, strategy="rebuild"),
    ]
    lines = markdown(FACTS | {"results": results}).splitlines()
    assert "| 20,000 x 128 / 2,000 x 128 | in place | 1.10 | 1.25 | 2.00 |" in lines
    assert sum(" / 2,000 x" in line for line in lines) == 1


def test_one_size_alone_has_nothing_to_be_compared_with() -> None:
    assert "larger / smaller" not in markdown(FACTS | {"results": [result(9, 64, peak=1, cpu=1, seconds=3)]})


def test_each_strategy_is_told_beside_its_floor() -> None:
    results = [
        result(9, 64, peak=1, cpu=1, seconds=4),
        result(9, 64, peak=1, cpu=1, seconds=5, strategy="alter", old=32),
    ]
    lines = markdown(FACTS | {"results": results}).splitlines()
    assert "| 9 x 64 | in place | 1.0 s | 2.0 s | 2.0 s | 2.0 s | 1.00 | 1.00 |" in lines
    assert "| 9 x 64 | alter from 32 | 1.0 s | 2.0 s | 2.0 s | 3.0 s | 1.00 | 1.00 |" in lines
