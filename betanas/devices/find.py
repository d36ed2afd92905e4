"""Which device a search trains on, and how much memory a rank has there."""

import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from betanas.cores import available_cores
from betanas.devices.claims import claim_gpu
from betanas.errors import DeviceError

# Shares of the memory that a training step may plan with: the rest is for the images, the
# allocator's fragments and, on a CPU, everybody else.
_GPU_SHARE, _CPU_SHARE = 0.9, 0.6
# One of these is in /dev where a driver is: NVIDIA's, Jetson's, Windows' under Linux, AMD's.
_DRIVERS = ("nvidia*", "nvhost*", "nvmap", "dxg", "kfd")
_GROUPS, _CONTROLLERS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_DEVICE = re.compile(r"auto|cpu|cuda|cuda:(?P<indices>\d+(,\d+)*)")


@dataclass(frozen=True, slots=True)
class Devices:
    """Where the ranks of this machine train.

    Attributes:
        kind: ``cpu`` or ``cuda``.
        nproc_per_node: Ranks.
        memory_bytes: What a training step of one rank may plan with.
        nnodes: Machines that train together, each with so many ranks.
        workers: Workers of one study that share this machine; the other figures are one worker's.
        cores: Processor cores that the worker has.
        has_bf16: Whether the GPUs multiply bf16 by themselves; of a CPU ``betanas.cores``
            knows.
    """

    kind: Literal["cpu", "cuda"]
    nproc_per_node: int
    memory_bytes: int
    nnodes: int = 1
    workers: int = 1
    cores: int = field(default_factory=available_cores)
    has_bf16: bool = True


def find_devices(
    device: str, nproc_per_node: int | None, *, claim: bool = True, workers: int = 1
) -> Devices:
    """Resolves ``auto`` and checks that what was asked for is there.

    A GPU trains one search's trials at a time, since a budget in seconds would mean less on one
    that is shared: it is claimed for as long as this process lives, and ``auto`` and ``cuda`` take
    those that are free. The first of them becomes torch's current one in this process.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, or GPUs by number: ``cuda:1`` or ``cuda:0,2``.
        nproc_per_node: Ranks; None for one a GPU, or one on a CPU.
        claim: Whether GPUs are claimed; False only looks.
        workers: Workers that share this machine; this is one of them, pinned to its cores already.

    Raises:
        DeviceError: If there is no such device, or fewer devices than ranks.
    """
    indices = asked_gpus(device)
    if indices:
        return replace(_on_gpus(indices, nproc_per_node, claim=claim), workers=workers)
    cores, ranks = available_cores(), nproc_per_node or 1
    if ranks > cores:
        raise DeviceError(
            f"--nproc-per-node must be <= {cores}, the processor cores here, but got {ranks}"
        )
    memory = int(_CPU_SHARE * available_memory() / (ranks * workers))
    return Devices("cpu", ranks, memory, workers=workers)


def available_memory(groups: Path = _GROUPS, controllers: Path = _CONTROLLERS) -> int:
    """Bytes of memory that this process may have: the machine's, or what its control group allows.

    Containers and batch systems set such a limit, and the kernel kills what goes beyond it.

    Args:
        groups: The process's control groups, as Linux tells them.
        controllers: Where those are in the file system.
    """
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    lines = groups.read_text().splitlines() if groups.exists() else []
    limits = [total]
    for line in lines:
        _, names, path = line.split(":", 2)
        if names and "memory" not in names.split(","):
            continue
        # The second version has one tree of all, the first one of each controller. A container
        # may see its own group as the root, by whatever path the machine knows it.
        place, file = ("memory", "memory.limit_in_bytes") if names else (".", "memory.max")
        for group in (PurePosixPath(path), *PurePosixPath(path).parents):
            with suppress(OSError):
                limit = (controllers / place / str(group).lstrip("/") / file).read_text().strip()
                limits += [int(limit)] if limit.isdigit() else []
    return min(limits)


def asked_gpus(device: str) -> list[int]:
    """Numbers of the GPUs that ``device`` names, none for a CPU; only looks, and starts no CUDA.

    Raises:
        DeviceError: If there is no such device.
    """
    asked = _DEVICE.fullmatch(device)
    if asked is None:
        raise DeviceError(
            "--device must be auto, cpu, cuda, or GPUs such as cuda:1 or cuda:0,2, "
            f"but got {device!r}"
        )
    gpus = 0 if device == "cpu" else _count_gpus()
    if device.startswith("cuda") and gpus == 0:
        raise DeviceError(
            f"--device {device}: torch finds no GPU here; use --device cpu, or install a driver"
        )
    if device == "cpu" or not asked["indices"]:
        return [] if device == "cpu" else list(range(gpus))
    indices = [int(i) for i in asked["indices"].split(",")]
    if max(indices) >= gpus or len(set(indices)) < len(indices):
        raise DeviceError(
            f"--device {device} must name different GPUs below {gpus}, their number here"
        )
    return indices


def _count_gpus() -> int:
    """How many GPUs torch finds; where it can find none, its import, of seconds, is spared."""
    devices = Path("/dev")
    if sys.platform == "linux" and not any(any(devices.glob(name)) for name in _DRIVERS):
        return 0
    import torch  # noqa: PLC0415

    return torch.cuda.device_count()


def most_workers(device: str, ranks: int) -> int:
    """How many workers of so many ranks each this machine can hold, perhaps none.

    Each rank has a GPU, or a processor core, for itself. It starts no CUDA.

    Args:
        device: As for ``find_devices``.
        ranks: Of each worker, at least 1.
    """
    return (len(asked_gpus(device)) or available_cores()) // ranks


def _on_gpus(indices: list[int], ranks: int | None, *, claim: bool) -> Devices:
    """The first free ones of some GPUs, one a rank."""
    if ranks is not None and ranks > len(indices):
        raise DeviceError(
            f"--nproc-per-node must be <= {len(indices)}, the GPUs that were asked for, "
            f"but got {ranks}"
        )
    import torch  # noqa: PLC0415 - a search on a CPU begins sooner without

    found = {_identity(i): torch.cuda.get_device_properties(i) for i in indices}
    free: list[str] = []
    for gpu in found:
        if len(free) < (ranks or len(indices)) and (not claim or claim_gpu(gpu)):
            free.append(gpu)
    if len(free) < (ranks or 1):
        raise DeviceError(
            f"{len(free)} of {len(indices)} GPUs are free, the others train for other commands of "
            f"this user, but {ranks or 1} must be; wait for those, or give a smaller "
            "--nproc-per-node or --device cpu"
        )
    # What this process itself computes on a GPU, such as a test or a latency, belongs there, too.
    torch.cuda.set_device(indices[list(found).index(free[0])])
    memory = int(_GPU_SHARE * min(found[gpu].total_memory for gpu in free))
    # As torch.cuda.is_bf16_supported(including_emulation=False), which asks the current one only.
    has_bf16 = torch.version.hip is not None or all(found[gpu].major >= 8 for gpu in free)
    return Devices("cuda", len(free), memory, has_bf16=has_bf16)


def _identity(index: int) -> str:
    import torch  # noqa: PLC0415

    return f"GPU-{torch.cuda.get_device_properties(index).uuid}"
