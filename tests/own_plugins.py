"""A family and an objective of one's own, as a user would write them."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from betanas import objectives
from betanas.architecture import families
from betanas.architecture.cells import OPERATIONS, Cell, CellNetwork, Operation
from betanas.architecture.families import register_family
from betanas.architecture.family import Family, TrivialKernelError
from betanas.architecture.layers import Architecture, Block, Layer
from betanas.architecture.nasbench201 import skeleton
from betanas.objectives import Objective, Tell, register_objective
from betanas.parameters import Choice, Integer, Real
from betanas.trial import TrainingResult, TrialLatency, TrialTask


class Pyramid(Family):
    """Stages of fused or inverted blocks, each half the side and wider than the one before."""

    name = "pyramid"
    parameters = (
        Integer("stages", 1, 3, (1, 8), "halvings of the side"),
        Real("growth", 1.0, 2.0, (1.0, 4.0), "width of a stage over that of the one before"),
        Choice("block", ("FMBC", "MBC"), meaning="of all layers but the first"),
        Integer("width", 4, 16, (1, 64), "channels of the first stage", log=True),
    )
    members = {"pyramid-small": {"stages": 1, "growth": 1.0, "block": "MBC", "width": 4}}  # noqa: RUF012

    def decode(
        self, parameters: Mapping[str, Any], resolution: int, num_classes: int
    ) -> Architecture:
        side, channels, layers = resolution, 3, []
        if resolution < 2 ** (parameters["stages"] + 1):
            raise TrivialKernelError(f"{parameters['stages']} stages leave nothing of {resolution}")
        for stage in range(parameters["stages"]):
            width = int(parameters["width"] * parameters["growth"] ** stage)
            for stride in (2, 1):
                block = Block.CNA if not layers else Block(parameters["block"])
                expanded = 0 if block is Block.CNA else 2 * channels
                squeezed = max(1, expanded // 8) if block is Block.MBC else 0
                after = side // stride
                layers.append(
                    Layer(block, channels, width, stride, side, after, expanded, squeezed, 0, 2, 8)
                )
                side, channels = after, width
        return Architecture(resolution, num_classes, 2 * channels, tuple(layers))


class Squares(Family):
    """Networks of one cell, whose edges beside each other are the same operation."""

    name = "squares"
    parameters = (
        Choice("outer", OPERATIONS, meaning="into and out of the middle"),
        Choice("inner", OPERATIONS, meaning="of all other edges"),
        Integer("resolved", 8, 16, (1, 64), "least side in pixels"),
    )
    has_layers = False

    def decode(
        self, parameters: Mapping[str, Any], resolution: int, num_classes: int
    ) -> CellNetwork:
        if resolution < parameters["resolved"]:
            raise TrivialKernelError(f"{resolution} pixels are too few")
        outer, inner = (Operation(parameters[name]) for name in ("outer", "inner"))
        cell = Cell((outer, inner, inner, inner, inner, outer))
        return CellNetwork(resolution, num_classes, 0, skeleton(resolution), cell)


class Size(Objective):
    """Small networks are good, up to a little luck; tells of itself at each quarter."""

    def __enter__(self) -> Self:
        if self.definition.dataset.root == "nowhere":
            raise FileNotFoundError(self.definition.dataset.root)
        return self

    def run(self, task: TrialTask, tell: Tell) -> TrainingResult:
        layers = len(task.architecture.layers) + sum(
            y.out_channels for y in task.architecture.layers
        )
        value = 1 / layers + task.seed % 1000 * 1e-6
        for quarter in range(1, 5):
            time.sleep(0.01)
            best = value * quarter / 4
            tell({"spent": quarter / 4, "accuracy": best, "best": best})
            if task.is_stopped:
                return TrainingResult(best, steps=quarter, stopped=True)
        return TrainingResult(value, steps=4, device="none", ranks=1, train_seconds=0.04)


class Deadly(Size):
    """Takes its worker down at one trial, once."""

    number = 6

    def run(self, task: TrialTask, tell: Tell) -> TrainingResult:
        self.die_once(task)
        return super().run(task, tell)

    @classmethod
    def die_once(cls, task: TrialTask) -> None:
        mark = Path(task.folder) / "mark"
        if task.number == cls.number and not mark.exists():
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Timed(Size):
    """Measures a latency too: wide networks are slow, and good."""

    def run(self, task: TrialTask, tell: Tell) -> TrainingResult:
        width = sum(y.out_channels for y in task.architecture.layers)
        luck = task.seed % 1000 * 1e-5
        tell({"spent": 0.5, "accuracy": 0.1, "best": 0.1})
        latency = TrialLatency(0.1 * width * (1 + luck), 0.2 * width) if task.latency else None
        return TrainingResult(width / (width + 50) + luck, latency=latency, epochs=1.0)


class Mortal(Timed):
    """Takes its worker down at one trial, once."""

    def run(self, task: TrialTask, tell: Tell) -> TrainingResult:
        Deadly.die_once(task)
        return super().run(task, tell)


class Empty(Timed):
    """Forgets the value of one trial, and the latency of the next, until that is mended."""

    def run(self, task: TrialTask, tell: Tell) -> TrainingResult:
        result = super().run(task, tell)
        if (Path(task.cache).parent / f"mended {task.number}").exists():
            return result
        forgotten = {8: {"value": float("nan")}, 9: {"latency": None}}
        return replace(result, **forgotten.get(task.number, {}))


@contextmanager
def registered() -> Iterator[None]:
    """All of them under their names, and forgotten again."""
    registries = (families._REGISTRY, objectives._REGISTRY)
    before = [dict(registry.known) for registry in registries]
    register_family(Pyramid)
    register_family(Squares)
    for own in (Size, Deadly, Timed, Mortal, Empty):
        register_objective(own.__name__.lower(), own)
    try:
        yield
    finally:
        for registry, known in zip(registries, before, strict=True):
            registry.known.clear()
            registry.known.update(known)
