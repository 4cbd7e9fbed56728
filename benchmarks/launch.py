"""Run a command and measure it from outside: `python benchmarks/launch.py FILE COMMAND...`.

A process of its own, because the kernel remembers the memory of the process that started a program as the
program's own peak; this one is small enough not to matter. Imports nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    """Run, wait, write what was measured as JSON; returns the command's exit status."""
    result, command = Path(sys.argv[1]), sys.argv[2:]
    begun = time.monotonic()
    process = subprocess.Popen(command)
    for ending in (signal.SIGINT, signal.SIGTERM):
        # The command ends as it sees fit; a handler, unlike SIG_IGN, is not inherited by it.
        signal.signal(ending, lambda number, _frame: os.kill(process.pid, number))
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun
    # Kilobytes, except on macOS.
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    process.returncode = os.waitstatus_to_exitcode(status)
    measured = {
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": peak,
        "status": process.returncode,
    }
    result.write_text(json.dumps(measured), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
