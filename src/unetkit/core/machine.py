"""What this machine has: processors, memory, and what a user writes about memory. Respects container limits."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
from pathlib import Path

import psutil

from unetkit.core.errors import PlanError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def cores() -> int:
    """Processors that this process may use (affinity and container quota)."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quota = _read("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit() and int(quota[1]) > 0:
        n = min(n, max(1, int(quota[0]) // int(quota[1])))
    return n


def processor() -> str:
    """The processor's name."""
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def free_memory() -> int:
    """Bytes of memory that can be taken now without swapping (container limit included)."""
    free = int(psutil.virtual_memory().available)
    limit, used = _read("/sys/fs/cgroup/memory.max"), _read("/sys/fs/cgroup/memory.current")
    if limit.isdigit() and used.isdigit():
        free = min(free, max(0, int(limit) - int(used)))
    return free


def resident_memory() -> int:
    """Bytes of physical memory that this process holds now."""
    return int(psutil.Process().memory_info().rss)


def release_memory() -> None:
    """Give memory that was freed back to the system, where the allocator keeps it (glibc); elsewhere do nothing.

    Small blocks that many tiles leave behind otherwise pile up between those that are still in use.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def parse_memory(text: str) -> int:
    """Bytes of '1GB', '500 MB', '1.5GiB' or '800000000'. Raises PlanError for anything else."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]i?)?b?\s*", text.lower())
    if match is None:
        raise PlanError(f"--memory {text!r} is not an amount of memory; write it like 800MB, 1GB or 1.5GiB")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def format_memory(n: float) -> str:
    """'1.5 GB' for a number of bytes (decimal units, two significant digits or more)."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:.0f} {unit}" if n >= 100 * size else f"{n / size:.1f} {unit}"
    return f"{n:.0f} B"


def format_duration(seconds: float) -> str:
    """'42 s', '6 min 05 s' or '2 h 03 min'."""
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    return f"{s // 60} min {s % 60:02d} s" if s < 3600 else f"{s // 3600} h {s % 3600 // 60:02d} min"


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
