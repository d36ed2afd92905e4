"""The processor cores that this process may use, and what they compute fast."""

import os
from functools import cache
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


def available_cores() -> int:
    """How many cores: those it is pinned to, where the system has that; else all, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def multiplies_bf16() -> bool:
    """Whether the processor multiplies bf16 by itself; False where that cannot be told.

    Without, torch computes with float32 in between, which is slower than float32 alone.
    """
    try:
        flags = _CPU_INFO.read_text(encoding="utf-8")
    except OSError:
        return False
    return not _BF16_FLAGS.isdisjoint(flags.split())
