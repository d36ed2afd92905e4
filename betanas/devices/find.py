"""Which device a search trains on, and how much memory a rank has there."""

import os
from dataclasses import dataclass
from typing import Literal

import torch

from betanas.errors import DeviceError

# Shares of the memory that a training step may plan with: the rest is for the images, the
# allocator's fragments and, on a CPU, everybody else.
_GPU_SHARE, _CPU_SHARE = 0.9, 0.6


@dataclass(frozen=True, slots=True)
class Devices:
    """Where the ranks of this machine train.

    Attributes:
        kind: ``cpu`` or ``cuda``.
        nproc_per_node: Ranks.
        memory_bytes: What a training step of one rank may plan with.
        nnodes: Machines that train together, each with so many ranks.
    """

    kind: Literal["cpu", "cuda"]
    nproc_per_node: int
    memory_bytes: int
    nnodes: int = 1


def find_devices(device: str, nproc_per_node: int | None) -> Devices:
    """Resolves ``auto`` and checks that what was asked for is there.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        nproc_per_node: Ranks; None for one a GPU, or one on a CPU.

    Raises:
        DeviceError: If there is no such device, or fewer devices than ranks.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"--device must be auto, cpu or cuda, but got {device!r}")
    gpus = torch.cuda.device_count()
    if device == "cuda" and gpus == 0:
        raise DeviceError(
            "--device cuda: torch finds no GPU here; use --device cpu, or install a driver"
        )
    if device != "cpu" and gpus:
        ranks = nproc_per_node or gpus
        if ranks > gpus:
            raise DeviceError(f"--nproc-per-node must be <= {gpus}, the GPUs here, but got {ranks}")
        smallest = min(torch.cuda.get_device_properties(i).total_memory for i in range(ranks))
        return Devices("cuda", ranks, int(_GPU_SHARE * smallest))
    cores, ranks = os.cpu_count() or 1, nproc_per_node or 1
    if ranks > cores:
        raise DeviceError(
            f"--nproc-per-node must be <= {cores}, the processor cores here, but got {ranks}"
        )
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Devices("cpu", ranks, int(_CPU_SHARE * total / ranks))
