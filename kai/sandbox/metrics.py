"""`/metrics.json` and `/stats.json`: the machine's real memory and disk, the rest plausible zeros."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

Json = dict[str, Any]

MEMINFO = Path("/proc/meminfo")
STATUS = Path("/proc/self/status")


def metrics(data_dir: Path) -> dict[str, str]:
    """Figures as text, bytes and percentages, under the names that a real server uses."""
    memory = _kilobytes(MEMINFO)
    resident = _kilobytes(STATUS).get("VmRSS", 0)
    total, free = memory.get("MemTotal", 0), memory.get("MemAvailable", 0)
    swap, swap_free = memory.get("SwapTotal", 0), memory.get("SwapFree", 0)
    disk = shutil.disk_usage(data_dir)
    load = min(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)) * 100
    figures = {f"system_cpu{number}_active_percentage": f"{load:.2f}" for number in range(1, (os.cpu_count() or 1) + 1)}
    figures |= {
        "system_cpu_active_percentage": f"{load:.2f}",
        "system_disk_total_bytes": str(disk.total),
        "system_disk_used_bytes": str(disk.used),
        "system_memory_total_bytes": str(total),
        "system_memory_total_swap_bytes": str(swap),
        "system_memory_used_bytes": str(total - free),
        "system_memory_used_swap_bytes": str(swap - swap_free),
        "system_network_received_bytes": "0",
        "system_network_sent_bytes": "0",
        "typesense_memory_active_bytes": str(resident),
        "typesense_memory_allocated_bytes": str(resident),
        "typesense_memory_fragmentation_ratio": "0.00",
        "typesense_memory_mapped_bytes": str(resident),
        "typesense_memory_metadata_bytes": "0",
        "typesense_memory_resident_bytes": str(resident),
        "typesense_memory_retained_bytes": "0",
    }
    return figures


def stats() -> Json:
    """Request rates; the sandbox counts none."""
    return {
        "cache_hit_ratio": 0.0,
        "delete_latency_ms": 0,
        "delete_requests_per_second": 0,
        "import_latency_ms": 0,
        "import_requests_per_second": 0,
        "latency_ms": {},
        "overloaded_requests_per_second": 0,
        "pending_write_batches": 0,
        "requests_per_second": {},
        "search_latency_ms": 0,
        "search_requests_per_second": 0,
        "total_requests_per_second": 0.0,
        "write_latency_ms": 0,
        "write_requests_per_second": 0,
    }


def _kilobytes(path: Path) -> dict[str, int]:
    """Name -> bytes, of the lines of a /proc file that are in kB; empty where there is no such file."""
    if not path.exists():
        return {}
    found: dict[str, int] = {}
    for line in path.read_text().splitlines():
        words = line.split()
        if len(words) == 3 and words[2] == "kB":
            found[words[0].rstrip(":")] = int(words[1]) * 1024
    return found
