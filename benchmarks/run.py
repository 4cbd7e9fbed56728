"""`python -m benchmarks.run`: measure the migration, the floors under it, and the way that it replaces.

Server and provider are processes of their own on 127.0.0.1; CPU time and memory are those of the measured
process alone. A server named with --typesense-url is asked for collections whose names begin with
`benchmark_`, which are dropped at the end, and nothing else on it is touched.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from benchmarks.measurements import STRATEGIES, Options, Result, measure_size
from benchmarks.processes import BenchmarkError, Server, sandbox
from benchmarks.table import markdown


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print; returns the exit status."""
    options = _parser().parse_args(arguments)
    for ending in (signal.SIGINT, signal.SIGTERM):
        # However it is ended, it cleans up as after Ctrl-C.
        signal.signal(ending, signal.default_int_handler)
    repeat, sample = (1, 20) if options.quick else (options.repeat, options.sample)
    strategies = tuple(options.strategy)
    how = Options(options.latency, options.concurrency, repeat, sample, strategies, options.witness)
    sizes = [(documents, dimensions) for dimensions in options.dimensions for documents in options.documents]
    if options.quick:
        sizes = [(500, 64)]
    results: list[Result] = []
    try:
        with _server(options.typesense_url, options.typesense_key, options.speed) as (server, version):
            for documents, dimensions in sizes:

                def say(step: str, size: str = f"{documents:,} x {dimensions}") -> None:
                    print(f"{size}: {step} ...", file=sys.stderr, flush=True)

                starts = 1 if options.quick else 3
                results += measure_size(server, documents, dimensions, how, say, starts=starts)
    except KeyboardInterrupt:
        print("Interrupted; everything that was started is stopped.", file=sys.stderr)
        return 130
    except (BenchmarkError, httpx.HTTPError) as error:
        print(f"The benchmark failed: {error}", file=sys.stderr)
        return 1
    facts = {"machine": _machine(version), "options": asdict(how), "results": [asdict(result) for result in results]}
    print(json.dumps(facts, indent=2) if options.json else markdown(facts))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    whole = _positive
    parser.add_argument("--documents", type=whole, nargs="+", default=[6000], metavar="N", help="default: 6000")
    parser.add_argument("--dimensions", type=whole, nargs="+", default=[768], metavar="D", help="default: 768")
    parser.add_argument("--latency", type=float, default=0.05, metavar="S", help="seconds a request; default: 0.05")
    parser.add_argument("--concurrency", type=whole, default=4, help="embedding requests at once; default: 4")
    parser.add_argument("--repeat", type=whole, default=1, help="measure so often, tell medians; default: 1")
    parser.add_argument("--sample", type=whole, default=300, help="documents for one at a time; default: 300")
    parser.add_argument("--strategy", choices=STRATEGIES, nargs="+", default=STRATEGIES, help="default: each of them")
    parser.add_argument(
        "--no-witness", dest="witness", action="store_false", help="leave out the runs while an application is at work"
    )
    parser.add_argument("--typesense-url", help="a real server, such as http://localhost:8108; default: the sandbox")
    parser.add_argument("--typesense-key", default=os.environ.get("TYPESENSE_API_KEY", ""), help="its admin key")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument(
        "--paced",
        action="store_const",
        dest="speed",
        const=1.0,
        help="slow the sandbox down to a real server's pace",
    )
    pace.add_argument("--speed", type=float, metavar="S", help="the same, but S times as fast as a real server")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a Markdown table")
    parser.add_argument("--quick", action="store_true", help="a small size, to see that everything works")
    return parser


def _positive(text: str) -> int:
    number = int(text.replace(",", "").replace("_", ""))
    if number < 1:
        raise argparse.ArgumentTypeError("must be above 0")
    return number


@contextlib.contextmanager
def _server(url: str | None, key: str, speed: float | None) -> Iterator[tuple[Server, str]]:
    """The server named, or a sandbox for the time of the block; and what it is."""
    if url is None:
        with (
            tempfile.TemporaryDirectory(prefix="kai-benchmark-") as folder,
            sandbox(Path(folder), speed=speed) as server,
        ):
            pace = f", paced as Typesense 29.0 on 2 cores times {speed:g}" if speed else ""
            yield server, f"sandbox{pace}"
        return
    try:
        answer = httpx.get(f"{url.rstrip('/')}/debug", headers={"X-TYPESENSE-API-KEY": key}, timeout=10)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise BenchmarkError(f"--typesense-url {url} cannot be used: {error}") from error
    yield Server(url.rstrip("/"), key), f"Typesense {answer.json().get('version', '')}"


def _machine(version: str) -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "server": version,
    }


if __name__ == "__main__":
    sys.exit(main())
