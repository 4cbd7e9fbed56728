"""Backs up page after page until it is killed, and says so after each: `python -m tests.backup.loop HOME`."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from tests.backup.making import write


def main() -> None:
    """Pages of 20 records; a printed number is a page that is safe."""
    home, begin = Path(sys.argv[1]), int(sys.argv[2])
    writer = write(home)
    for number in itertools.count(begin):
        writer.add_vectors([(f"{number}-{place}", [float(number), place / 7] * 200, b"h" * 32) for place in range(20)])
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
