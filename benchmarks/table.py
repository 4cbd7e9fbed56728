"""The figures as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def markdown(facts: Mapping[str, Any]) -> str:
    """Three small tables: the tool, the floors, and the tool beside one document at a time."""
    machine, options, results = facts["machine"], facts["options"], facts["results"]
    loads = ", ".join(f"{result['load_before']:.1f} to {result['load_after']:.1f}" for result in results)
    about = (
        f"{machine['server']}, provider's stand-in with {options['latency'] * 1000:.0f} ms a request, "
        f"concurrency {options['concurrency']}; {machine['cpus']} cores, Python {machine['python']}, "
        f"{machine['system']}; median of {options['repeat']}; "
        f"load of the machine {loads}."
    )
    tool = _table(
        ["documents", "time", "documents/s", "requests", "peak memory", "CPU/document", "start-up CPU"],
        [
            [
                _size(result),
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
        ["documents", "embedding alone", "server alone", "time / larger floor", "start-up aside"],
        [
            [
                _size(result),
                f"{result['floors']['embedding_seconds']:.1f} s",
                f"{result['floors']['server_seconds']:.1f} s",
                f"{result['ratio']:.2f}",
                f"{result['ratio_without_startup']:.2f}",
            ]
            for result in results
        ],
    )
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
            for result in results
            for slow in (result["one_at_a_time"],)
        ],
    )
    note = f"\\* measured over {results[0]['one_at_a_time']['sample']} documents and extrapolated." if results else ""
    return "\n\n".join([about, tool, floors, beside, note])


def _size(result: Mapping[str, Any]) -> str:
    return f"{result['documents']:,} x {result['dimensions']}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
