"""The figures as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def markdown(facts: Mapping[str, Any]) -> str:
    """Small tables: the tool, how it grows, the floors, and the tool beside one document at a time."""
    machine, options, results = facts["machine"], facts["options"], facts["results"]
    loads = ", ".join(f"{result['load_before']:.1f} to {result['load_after']:.1f}" for result in results)
    about = (
        f"{machine['server']}, provider's stand-in with {options['latency'] * 1000:.0f} ms a request, "
        f"concurrency {options['concurrency']}; {machine['cpus']} cores, "
        f"Python {machine['python']}, {machine['system']}; median of {options['repeat']}; "
        f"load of the machine {loads}."
    )
    tool = _table(
        ["documents", "strategy", "time", "documents/s", "requests", "peak memory", "CPU/document", "start-up CPU"],
        [
            [
                _size(result),
                _way(result),
                f"{result['tool']['seconds']:.1f} s",
                f"{result['tool']['documents_per_second']:,.0f}",
                f"{result['tool']['requests']:,}",
                f"{result['tool']['peak_mb']:.0f} MB",
                f"{result['tool']['cpu_ms_per_document']:.2f} ms",
                f"{result['tool']['startup_cpu_seconds']:.1f} s",
            ]
            for result in results
        ],
    )
    floors = _table(
        [
            "documents",
            "strategy",
            "embedding",
            "server",
            "floor",
            "start-up aside",
            "start-up aside / floor",
            "all / floor",
        ],
        [
            [
                _size(result),
                _way(result),
                f"{result['floors']['embedding_seconds']:.1f} s",
                f"{result['floors']['server_seconds']:.1f} s",
                f"{result['floors']['seconds']:.1f} s",
                f"{result['tool']['seconds'] - result['tool']['startup_seconds']:.1f} s",
                f"{result['ratio_without_startup']:.2f}",
                f"{result['ratio']:.2f}",
            ]
            for result in results
        ],
    )
    seen = _table(
        [
            "documents",
            "strategy",
            "time",
            "documents/s",
            "longest time without a right answer",
            "writes lost",
            "refused",
        ],
        [
            [
                _size(result),
                _way(result),
                f"{result['tool']['seconds']:.1f} s",
                f"{result['tool']['documents_per_second']:,.0f}",
                f"{witness['longest_wrong_seconds']:.2f} s",
                f"{witness['lost']:,} of {witness['written']:,}",
                f"{witness['refused']:,}",
            ]
            for result in results
            if (witness := result["witness"])
        ],
    )
    witnesses = [seen] if any(result["witness"] for result in results) else []
    slow_ones = [result for result in results if result["one_at_a_time"]]
    beside = _table(
        ["documents", "one at a time", "documents/s", "requests", "CPU/document", "the migration", "times faster"],
        [
            [
                _size(result),
                f"{slow['seconds']:,.0f} s*",
                f"{slow['documents_per_second']:.1f}",
                f"{slow['requests']:,}",
                f"{slow['cpu_ms_per_document']:.2f} ms",
                f"{result['tool']['seconds']:.1f} s",
                f"{slow['seconds'] / result['tool']['seconds']:.0f}",
            ]
            for result in slow_ones
            for slow in (result["one_at_a_time"],)
        ],
    )
    if slow_ones:
        beside += f"\n\n\\* measured over {slow_ones[0]['one_at_a_time']['sample']} documents and extrapolated."
    return "\n\n".join([about, tool, *witnesses, *_growth(results), floors, *([beside] if slow_ones else [])])


def _growth(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a document costs in a large collection, as multiples of what it costs in the smallest measured.

    CPU time is the migration's own: the server, a process of its own, has no share in it.
    """
    rows: list[list[str]] = []
    for kind in dict.fromkeys(map(_kind, results)):
        small, *larger = sorted((result for result in results if _kind(result) == kind), key=_documents)
        rows += [
            [
                f"{_size(large)} / {_size(small)}",
                _way(large),
                f"{large['tool']['peak_mb'] / small['tool']['peak_mb']:.2f}",
                f"{large['tool']['cpu_ms_per_document'] / small['tool']['cpu_ms_per_document']:.2f}",
                f"{_seconds_a_document(large) / _seconds_a_document(small):.2f}",
            ]
            for large in larger
        ]
    head = ["larger / smaller", "strategy", "peak memory", "CPU/document", "time/document with the server"]
    return [_table(head, rows)] if rows else []


def _kind(result: Mapping[str, Any]) -> tuple[int, str]:
    return result["dimensions"], result["strategy"]


def _way(result: Mapping[str, Any]) -> str:
    """The strategy, and the length before where it was another one."""
    name = "in place" if result["strategy"] == "auto" else str(result["strategy"])
    old = result["old_dimensions"]
    return name if old == result["dimensions"] else f"{name} from {old}"


def _documents(result: Mapping[str, Any]) -> int:
    return int(result["documents"])


def _seconds_a_document(result: Mapping[str, Any]) -> float:
    tool = result["tool"]
    return float(tool["seconds"] - tool["startup_seconds"]) / _documents(result)


def _size(result: Mapping[str, Any]) -> str:
    return f"{result['documents']:,} x {result['dimensions']}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
