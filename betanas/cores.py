"""The processor cores that this process may use, and what they compute fast."""

import os
from collections.abc import Collection
from functools import cache
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_TOPOLOGY = Path("/sys/devices/system/cpu")
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


def available_cores() -> int:
    """How many cores: those it is pinned to, where the system has that; else all, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def core_shares(workers: int) -> list[list[int]]:
    """Equal shares of the cores that this process may use, for workers that train side by side.

    Each share is contiguous in the order of the processor's sockets and physical cores, so that two
    hyperthreads of one core belong to one worker where that can be. What does not divide is left
    to everybody else.

    Args:
        workers: At least 1, and at most ``available_cores()``.

    Returns:
        Numbers of cores for each; empty ones where the system cannot pin processes.
    """
    if not hasattr(os, "sched_getaffinity"):
        return [[] for _ in range(workers)]
    cores = sorted(os.sched_getaffinity(0), key=_place)
    each = len(cores) // workers
    return [cores[i * each : (i + 1) * each] for i in range(workers)]


def pin(cores: Collection[int]) -> None:
    """Keeps this process, and those that it starts, on some cores; on all if none is named."""
    if cores:
        os.sched_setaffinity(0, cores)


def _place(core: int) -> tuple[int, int, int]:
    """Socket, physical core and number of one of the system's cores."""
    folder = _TOPOLOGY / f"cpu{core}" / "topology"
    try:
        socket, physical = (
            int((folder / name).read_text()) for name in ("physical_package_id", "core_id")
        )
    except (OSError, ValueError):
        return 0, 0, core
    return socket, physical, core


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
