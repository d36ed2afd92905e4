"""What the phases of gpu.py train, and how they time and compare."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from betanas.architecture.decoding import decode
from betanas.architecture.families import FAMILIES
from betanas.architecture.layers import Architecture
from betanas.images.placement import TrainingImages
from betanas.study.recipe import Budget, DatasetConfig, Recipe
from betanas.trial import TrialTask

Row = dict[str, Any]

# The best of the recorded study ``demo``: 145,009 weights at R=32.
DEMO = {
    "k": 2.8951, "K": 2.0, "Da": 0.1029, "Db": 0.3973, "Wa": 0.031, "Wb": -0.3393, "G0": 2.333,
    "G1": 1.3709, "B": 0.6625, "E0": 3.0428, "E1": 3.3461, "S0": 13.8727, "S1": 18.0549,
}  # fmt: skip
SHORT_NETWORKS = ("plain", "plain-wide", "airbench", "resnet18-3x3")
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


def network(resolution: int) -> Architecture:
    """The small network at R=32, the published BetaNet2 elsewhere."""
    family = FAMILIES["betanet2"]
    kernel = DEMO if resolution <= 32 else family.published
    return decode(family, kernel, resolution, 10)


def member(name: str) -> Architecture:
    """One of BetaMix's networks at R=32."""
    family = FAMILIES["betamix"]
    return decode(family, family.members[name], 32, 10)


def make_task(
    folder: str, resolution: int, recipe: dict[str, Any], budget: Budget, **changes: Any
) -> TrialTask:
    """A task of its own; its data set is never opened."""
    told = {
        "number": 0,
        "seed": 3,
        "architecture": network(resolution),
        "dataset": DatasetConfig(name="digits"),
        "recipe": Recipe(**{"preset": "fast", "gradient_compression": "none", **recipe}),
        "budget": budget,
        "nproc_per_node": 1,
        "device": "cuda",
        "folder": folder,
        "cache": folder,
        **changes,
    }
    return TrialTask(**told)


def random_images(number: int, side: int = 32) -> TrainingImages:
    """Noise in the place of a data set, a tenth of it held out."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (number, side, side, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(10, (number,), generator=generator)
    indices = torch.arange(number)
    return TrainingImages(
        images, labels, indices[number // 10 :], indices[: number // 10], MEAN, STD
    )


def synchronize(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds_of(
    work: Callable[[], object], device: torch.device, times: int, repeats: int = 1
) -> float:
    """Median time of some work, asked for so often without waiting for it, after one warm-up."""
    taken = []
    for _ in range(times + 1):
        synchronize(device)
        began = time.perf_counter()
        for _ in range(repeats):
            work()
        synchronize(device)
        taken.append((time.perf_counter() - began) / repeats)
    return statistics.median(taken[1:])


def relative(found: Tensor, reference: Tensor) -> float:
    """Norm of the difference over the norm of the reference."""
    found, reference = found.double().cpu(), reference.double().cpu()
    return float((found - reference).norm() / reference.norm())
