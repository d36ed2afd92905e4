"""What the ranks of a trial are told, and what an earlier attempt has left."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np

from betanas.architecture.reference import Network, network_from_json
from betanas.architecture.supernet import SupernetPlan
from betanas.files import read_json
from betanas.study.recipe import Budget, DatasetConfig, LatencyConfig, Recipe
from betanas.study.sections import OneShotConfig
from betanas.trial.result import TrainingResult

TASK_FILE = "task.json"
PROGRESS_FILE = "progress.jsonl"
RESULT_FILE = "result.json"
LOG_FILE = "log.txt"
STOP_FILE = "stop"  # its presence tells a training that its result is not wanted any more

_WHERE = ("nproc_per_node", "nnodes", "folder", "cache")  # fields of a task


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
        dataset_fingerprint: Of the images, where no study's settings hold the training to them.
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
    dataset_fingerprint: str = ""

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


def trial_seed(study_seed: int, number: int) -> int:
    """The seed of one trial's training, 63 bits, from the study's seed and the trial's number."""
    state = np.random.SeedSequence([study_seed, number]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def training_of(task: Mapping[str, Any]) -> dict[str, Any]:
    """The ``identity`` of a task that was written as JSON."""
    elastic = task["recipe"].get("elastic", "none") != "none"
    left_out = set(_WHERE) if elastic else set()
    if not task.get("dataset_fingerprint"):  # nor had tasks of before it was known
        left_out.add("dataset_fingerprint")
    return {key: value for key, value in task.items() if key not in left_out}


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
