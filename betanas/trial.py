"""A trial as data: what a trainer is told, what it returns, and what the study knows of it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import numpy as np

from betanas.architecture.reference import Network, network_from_json
from betanas.architecture.supernet import SupernetPlan
from betanas.files import read_json
from betanas.parameters import is_whole
from betanas.study.definition import StudyDefinition
from betanas.study.recipe import Budget, DatasetConfig, LatencyConfig, Recipe, kernel_of
from betanas.study.sections import OneShotConfig

TASK_FILE = "task.json"
PROGRESS_FILE = "progress.jsonl"
RESULT_FILE = "result.json"
LOG_FILE = "log.txt"
STOP_FILE = "stop"  # its presence tells a training that its result is not wanted any more

STOPPED_EARLY = "stopped_early"  # the reason of a trial that ``search.pruner`` ended
# User attributes of a replicate: what it repeats (a trial's number, or ``largest ...``), and which
# of its replicates it is.
REPEATS, SEED_INDEX = "repeats", "seed_index"
# User attribute of a trial: ``per cent of its budget -> passes over the training images that the
# whole budget would allow at the speed so far``.
PACE = "pace"
LARGEST = "largest"  # how the name of a kernel begins that no trial had


_WHERE = ("nproc_per_node", "nnodes", "folder", "cache")  # fields of a task


class Phase(StrEnum):
    """Which part of the search proposed a trial's kernel.

    ``gp`` is the Gaussian process, by whichever name of ``search.sampler``; ``botorch`` a function
    of the user's own, and what trials of that name were called before; ``one-shot`` a supernet.
    ``confirm`` repeats others' trials, ``final`` trains the best of them for longer.
    """

    START = "start"
    SOBOL = "sobol"
    GP = "gp"
    BOTORCH = "botorch"
    TPE = "tpe"
    RANDOM = "random"
    CMAES = "cmaes"
    EVOLUTION = "evolution"
    NSGA2 = "nsga2"
    LOCAL = "local"
    REINFORCE = "reinforce"
    ONE_SHOT = "one-shot"
    GRID = "grid"
    CONFIRM = "confirm"
    FINAL = "final"


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
class SupernetTask:
    """What a supernet is, and how its gates are trained.

    Attributes:
        plan: What it holds.
        config: Section ``[oneshot]``.
    """

    plan: SupernetPlan
    config: OneShotConfig

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``from_json`` gives back an equal one."""
        return {"plan": self.plan.to_json(), "config": self.config.model_dump(mode="json")}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuilds what ``to_json`` wrote."""
        config = OneShotConfig.model_validate(data["config"])
        return cls(SupernetPlan.from_json(data["plan"]), config)


@dataclass(frozen=True, slots=True)
class TrialTask:
    """All that the ranks of one trial need to know; frozen, and written to a file for them.

    Attributes:
        number: The trial's number in its study.
        seed: Source of all randomness of this training.
        architecture: What to train.
        dataset: On which images.
        recipe: How.
        budget: How long.
        nproc_per_node: Ranks on this machine.
        device: ``cpu`` or ``cuda``.
        folder: Where ranks leave progress, result and logs.
        cache: Where decoded data sets are kept.
        checkpoint_seconds: Least time between two checkpoints; a shorter training writes none.
        stall_seconds: Silence after which a rank counts as hung.
        keep_checkpoint: Whether the last checkpoint stays when the training is done.
        nnodes: Machines that train together, each with ``nproc_per_node`` ranks.
        keep_best: Whether the weights of the best evaluation stay, in ``best.pt``.
        latency: How to measure the latency once the training is done; None does not.
        latency_limit_ms: Measure it before, and do not train a network that is slower.
        supernet: To train in place of the architecture, which is its largest network.
        pretrained: Whether a network of torchvision's begins with its published weights.
    """

    number: int
    seed: int
    architecture: Network
    dataset: DatasetConfig
    recipe: Recipe
    budget: Budget
    nproc_per_node: int
    device: str
    folder: str
    cache: str
    checkpoint_seconds: float = 30.0
    stall_seconds: float = 45.0
    keep_checkpoint: bool = False
    nnodes: int = 1
    keep_best: bool = False
    latency: LatencyConfig | None = None
    latency_limit_ms: float | None = None
    supernet: SupernetTask | None = None
    pretrained: bool = False

    @property
    def is_elastic(self) -> bool:
        """Whether ranks may come and go while it trains."""
        return self.recipe.elastic != "none"

    @property
    def identity(self) -> dict[str, Any]:
        """As JSON, what makes two tasks the same training, so that one goes on from the other.

        An elastic one is the same wherever and by however many ranks it is trained.
        """
        return training_of(self.to_json())

    @property
    def is_stopped(self) -> bool:
        """Whether the search has given it up: what it has told was hopeless."""
        return (Path(self.folder) / STOP_FILE).exists()

    def stop(self) -> None:
        """Tells who measures it, in whichever process, to come to an end."""
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        (Path(self.folder) / STOP_FILE).touch()

    def go_on(self) -> None:
        """Takes back what ``stop`` has told an earlier attempt."""
        (Path(self.folder) / STOP_FILE).unlink(missing_ok=True)

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``from_json`` gives back an equal task."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return plain | {
            "architecture": self.architecture.to_json(),
            "dataset": self.dataset.model_dump(mode="json"),
            "recipe": self.recipe.model_dump(mode="json"),
            "budget": self.budget.model_dump(mode="json"),
            "latency": None if self.latency is None else self.latency.model_dump(mode="json"),
            "supernet": None if self.supernet is None else self.supernet.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuilds what ``to_json`` wrote."""
        latency, supernet = data.get("latency"), data.get("supernet")
        return cls(
            **{
                **data,
                "supernet": None if supernet is None else SupernetTask.from_json(supernet),
                "latency": None if latency is None else LatencyConfig.model_validate(latency),
                "architecture": network_from_json(data["architecture"]),
                "dataset": DatasetConfig.model_validate(data["dataset"]),
                "recipe": Recipe.model_validate(data["recipe"]),
                "budget": Budget.model_validate(data["budget"]),
            }
        )


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


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One row of a study: a trial in any state.

    Attributes:
        number: Its number, from 0.
        state: Optuna's state in lower case: complete, pruned, fail, running, waiting.
        phase: Which part of the search proposed it; None before it was.
        value: Best validation top-1 in [0, 1].
        reason: Why it was rejected, or why its training failed.
        parameters: The kernel, and the recipe's values that were searched beside it.
        num_params: Trainable weights.
        macs: Multiply-adds of one image.
        activation_bytes: Kept activations of a training step on one rank.
        fingerprint: Of the architecture; None for a trivial kernel.
        train_seconds: Training time.
        epochs: Passes over the training images.
        audit: The other figures of ``TrainingResult``.
        values: ``objective -> value`` of a study with several objectives, ``value`` among them:
            ``latency`` in milliseconds; empty with one.
    """

    number: int
    state: str
    phase: str | None = None
    value: float | None = None
    reason: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    num_params: int | None = None
    macs: int | None = None
    activation_bytes: int | None = None
    fingerprint: str | None = None
    train_seconds: float | None = None
    epochs: float | None = None
    audit: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def kernel(self) -> dict[str, Any]:
        """The parameters that decide the architecture."""
        return kernel_of(self.parameters)

    @property
    def accuracy(self) -> float | None:
        """The validation top-1, also where the value weighs the latency against it."""
        accuracy: float | None = self.audit.get("accuracy", self.value)
        return accuracy

    @property
    def is_weighed(self) -> bool:
        """Whether the value is the accuracy less a weighted latency."""
        return "accuracy" in self.audit

    @property
    def latency_ms(self) -> float | None:
        """The latency that was measured in the trial; None if none was."""
        return measured_ms(self.audit)

    @property
    def is_replicate(self) -> bool:
        """Whether it repeats another training: no trial of the search, whatever it reaches."""
        return self.phase in (Phase.CONFIRM, Phase.FINAL)

    @property
    def counts(self) -> bool:
        """Whether it is one of the ``search.trials`` that a study is to train."""
        ended = self.state == "complete" or self.reason == STOPPED_EARLY
        return ended and not self.is_replicate

    @property
    def rejected(self) -> bool:
        """Whether a declared limit kept it from being trained."""
        return self.state == "pruned" and self.reason != STOPPED_EARLY

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``from_json`` gives back an equal record."""
        plain = asdict(self)
        return plain if self.values else {k: v for k, v in plain.items() if k != "values"}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuilds what ``to_json`` wrote."""
        return cls(**data)


# What the database has of a trial, beside Optuna's own: user attributes of these names. All other
# attributes are the audit.
COLUMNS = tuple(
    f.name
    for f in fields(TrialRecord)
    if f.name not in ("number", "state", "value", "values", "parameters", "audit")
)


def whole(definition: StudyDefinition, records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Trials as figures and clusters take them.

    A complete trial without a whole kernel, which only somebody else writes, is left out.
    """
    searched = definition.searched
    return [r for r in records if r.state != "complete" or is_whole(r.parameters, searched)]


def trial_seed(study_seed: int, number: int) -> int:
    """The seed of one trial's training, 63 bits, from the study's seed and the trial's number."""
    state = np.random.SeedSequence([study_seed, number]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def measured_ms(audit: Mapping[str, Any]) -> float | None:
    """The latency that a trial has measured, median in milliseconds; None if it has none."""
    latency = audit.get("latency")
    return float(latency["p50_ms"]) if isinstance(latency, Mapping) else None


def training_of(task: Mapping[str, Any]) -> dict[str, Any]:
    """The ``identity`` of a task that was written as JSON."""
    elastic = task["recipe"].get("elastic", "none") != "none"
    return {k: value for k, value in task.items() if not (elastic and k in _WHERE)}


def left_result(task: TrialTask) -> TrainingResult | None:
    """The result of this very task that was finished but not recorded, if there is one."""
    folder = Path(task.folder)
    told = read_json(folder / TASK_FILE)
    if told is None or TrialTask.from_json(told).identity != task.identity:
        return None
    left = read_json(folder / RESULT_FILE)
    if left is None:
        return None
    result = TrainingResult.from_json(left)
    return result if result.failure is None or result.failure.blames_kernel else None
