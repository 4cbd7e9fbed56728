"""Run a stand-in in a process of its own: `python -m tests.providers openai --latency 0.05`.

Prints the base URL on the first line, and the counters as JSON when its standard input ends.
"""

from __future__ import annotations

import argparse
import json
import sys

from tests.providers import GoogleStandIn, OllamaStandIn, OpenAIStandIn

STAND_INS = {"openai": OpenAIStandIn, "google": GoogleStandIn, "ollama": OllamaStandIn}


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.providers", description=__doc__)
    parser.add_argument("family", choices=STAND_INS)
    parser.add_argument("--port", type=int, default=0, help="a free one by default")
    parser.add_argument("--key", default="stand-in-key-0123456789")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds a request")
    parser.add_argument("--failure-rate", type=float, default=0.0)
    parser.add_argument("--drop-rate", type=float, default=0.0)
    parser.add_argument("--rate-limit", type=float, default=None, help="requests a minute")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    stand_in = STAND_INS[options.family](
        key=options.key,
        latency=options.latency,
        failure_rate=options.failure_rate,
        drop_rate=options.drop_rate,
        rate_limit_per_minute=options.rate_limit,
        seed=options.seed,
    ).start(options.port)
    print(stand_in.api_base, flush=True)
    sys.stdin.read()
    stand_in.stop()
    print(json.dumps({"requests": stand_in.requests, "texts": stand_in.texts}), flush=True)


if __name__ == "__main__":
    main()
