"""What one training returns."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self


class Failure(StrEnum):
    """Why a training ended without a value; recorded as the trial's reason."""

    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"
    CRASHED = "crashed"
    KILLED = "killed"
    TIMED_OUT = "timed_out"
    DISK_FULL = "disk_full"
    DEVICE_LOST = "device_lost"
    DATA = "data"
    NODE_LOST = "node_lost"

    @property
    def ends_worker(self) -> bool:
        """Whether it is this machine's own trouble: no other kernel would fare better here."""
        return self in (Failure.DISK_FULL, Failure.DEVICE_LOST, Failure.DATA)

    @property
    def blames_kernel(self) -> bool:
        """Whether the search should learn from it that such kernels are bad."""
        return self in (Failure.OUT_OF_MEMORY, Failure.DIVERGED, Failure.CRASHED)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One look at the validation images.

    Attributes:
        epoch: Passes over the training images so far; at a share of the budget, no whole number.
        steps: Optimiser steps so far.
        train_seconds: Training time spent so far.
        accuracy: Top-1 in [0, 1], counted over all validation images.
        train_loss: Mean training loss since the evaluation before.
    """

    epoch: float
    steps: int
    train_seconds: float
    accuracy: float
    train_loss: float


@dataclass(frozen=True, slots=True)
class TrialLatency:
    """How long the network takes to answer, measured on the device that has trained it.

    Attributes:
        p50_ms: Median of one forward pass, milliseconds.
        p95_ms: What 95 of 100 passes stay below.
        runs: Passes that were measured, after a warm-up.
        batch_size: Images of one pass.
        threads: Of a CPU.
        device: The device's name.
    """

    p50_ms: float
    p95_ms: float
    runs: int = 1
    batch_size: int = 1
    threads: int = 1
    device: str = ""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What one training returns, audited: every second of it has a name.

    Attributes:
        value: Best validation top-1 in [0, 1]; None for a training that failed, or was stopped
            before its first evaluation.
        failure: Why there is no value.
        message: The failure in words.
        epochs: Passes over the training images.
        steps: Optimiser steps.
        images: Training images seen, over all ranks.
        images_per_second: Of training time, over all ranks.
        train_seconds: Time that counted against the budget, waiting for data included.
        data_wait_seconds: Part of it spent on gathering and augmenting images.
        evaluation_seconds: Time in evaluations.
        startup_seconds: From launch to the first training step.
        other_seconds: What is left of the wall time: checkpoints, the latency, and the way out.
        device: The device's name.
        ranks: Processes that trained together, at its end.
        changes: Of their number: ``(step, images before it, ranks)`` each.
        placement: Where the images were, in words.
        engine: How gradients were computed: ``eager``, ``compiled`` or ``graph``.
        precision: In which numbers: ``float32``, ``tf32`` or ``bf16``.
        history: The evaluations.
        stopped: Whether it was told to stop before its budget was spent.
        latency: Of the network; None if the task does not ask for it.
        supernet: What a supernet has chosen: ``choices``, ``runtime_ms``, and ``history``, the same
            with loss and gates at each evaluation; None for a network.
    """

    value: float | None
    failure: Failure | None = None
    message: str = ""
    epochs: float = 0.0
    steps: int = 0
    images: int = 0
    images_per_second: float = 0.0
    train_seconds: float = 0.0
    data_wait_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    startup_seconds: float = 0.0
    other_seconds: float = 0.0
    device: str = ""
    ranks: int = 0
    changes: tuple[tuple[int, int, int], ...] = ()
    placement: str = ""
    engine: str = ""
    precision: str = ""
    history: tuple[Evaluation, ...] = ()
    stopped: bool = False
    latency: TrialLatency | None = None
    supernet: Mapping[str, Any] | None = None

    def exceeds(self, limit_ms: float | None) -> bool:
        """Whether the network answers more slowly than it may."""
        return limit_ms is not None and self.latency is not None and self.latency.p50_ms > limit_ms

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``from_json`` gives back an equal result."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuilds what ``to_json`` wrote."""
        failure = data.get("failure")
        history = tuple(Evaluation(**e) for e in data.get("history", ()))
        latency = TrialLatency(**data["latency"]) if data.get("latency") else None
        changes = tuple(tuple(change) for change in data.get("changes", ()))
        known = {**data, "failure": Failure(failure) if failure else None, "history": history}
        known["changes"] = changes
        return cls(**{**known, "latency": latency})


def measured_ms(audit: Mapping[str, Any]) -> float | None:
    """The latency that a trial has measured, median in milliseconds; None if it has none."""
    latency = audit.get("latency")
    return float(latency["p50_ms"]) if isinstance(latency, Mapping) else None
