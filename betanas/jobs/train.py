"""One model trained to convergence: the weights of its best epoch, and what they reach.

The epoch is chosen on the validation images; the test images are looked at once, at the end.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from betanas.architecture.layers import Architecture
from betanas.architecture.reference import Network
from betanas.data import describe_dataset, load_images
from betanas.devices.find import Devices, find_devices
from betanas.devices.ranks import Ranks
from betanas.errors import InputError, RunError
from betanas.images.batches import HeldOut
from betanas.images.placement import TrainingImages
from betanas.launcher.client import TrainerServer
from betanas.models.network import count_macs
from betanas.models.trained import TrainedModel, read_trained, write_trained
from betanas.study.definition import Budget, DatasetConfig, Recipe
from betanas.training.checkpoint import BEST_FILE
from betanas.training.testing import part_batches, top_accuracies
from betanas.trial import TrainingResult, TrialTask, left_result

MODEL_FILE = "model.pt"
_EVALUATION_BATCH = 200  # images; fewer steps, and still little memory


@dataclass(frozen=True)
class Plan:
    """What is trained, on what, how and how long.

    Attributes:
        name: The model as it was asked for.
        title: The model's name for people.
        network: What to train; its classes are the data set's.
        dataset: Which images.
        recipe: How.
        budget: How long at most; ``recipe.stop_patience_epochs`` may end it before.
        seed: Of weights, order and augmentation.
    """

    name: str
    title: str
    network: Network
    dataset: DatasetConfig
    recipe: Recipe
    budget: Budget
    seed: int


@dataclass(frozen=True)
class Machine:
    """Where models are trained.

    Attributes:
        device: ``auto``, ``cpu`` or ``cuda``.
        nproc_per_node: Ranks on this machine; None lets the device decide.
        cache: Where decoded pictures are kept.
    """

    device: str
    nproc_per_node: int | None
    cache: Path


def train(
    plan: Plan, folder: Path, machine: Machine, tell: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Trains a model, or goes on where the same call was interrupted, and writes ``model.pt``.

    Args:
        plan: What to train.
        folder: Where the model file goes; made if missing. Another training's file stays there
            until this one has its own.
        machine: Where to train.
        tell: Told of the training's news (``spent``, ``epoch``, ``accuracy``, ...).

    Returns:
        ``top1``, ``top5``, ``part`` (which images they are of), ``validation_top1``,
        ``num_params``, ``macs``, ``train_seconds``, ``epochs``, ``checkpoint``, ...

    Raises:
        InputError: For data, devices or a folder that do not work.
        RunError: If the training fails.
    """
    devices = find_devices(machine.device, machine.nproc_per_node)
    task = _task(plan, folder, machine.cache, devices)
    known = _finished(folder / MODEL_FILE, task)
    if known is not None:
        return known
    _make(folder)
    result = _result(task, tell)
    if result.value is None:
        raise RunError(
            f"{plan.title} could not be trained: {result.failure}, {result.message}; see "
            f"{task.folder}/log.txt"
        )
    trained = _trained(plan, task, result, devices.kind)
    write_trained(folder / MODEL_FILE, trained)
    return dict(trained.facts) | {"checkpoint": str(folder / MODEL_FILE)}


def _task(plan: Plan, folder: Path, cache: Path, devices: Devices) -> TrialTask:
    return TrialTask(
        number=0,
        seed=plan.seed,
        architecture=plan.network,
        dataset=plan.dataset,
        recipe=plan.recipe,
        budget=plan.budget,
        nproc_per_node=devices.nproc_per_node,
        device=devices.kind,
        folder=str((folder / "training").absolute()),
        cache=str(cache.absolute()),
        keep_best=True,
    )


def _digest(task: TrialTask) -> str:
    """16 hexadecimal digits, equal for equal trainings, wherever they leave their files."""
    told = task.to_json() | {"folder": None, "cache": None}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _finished(path: Path, task: TrialTask) -> dict[str, Any] | None:
    """What the model file says, if the very same training has written it."""
    if not path.exists():
        return None
    facts = dict(read_trained(path).facts)
    return facts | {"checkpoint": str(path)} if facts.get("training") == _digest(task) else None


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--output {folder} cannot be written ({error.strerror}); choose another folder"
        ) from None


def _result(task: TrialTask, tell: Callable[[dict[str, Any]], None]) -> TrainingResult:
    """Trains, unless the very same training was finished and only its model file is missing."""
    folder = Path(task.folder)
    left = left_result(task)
    if left is not None and left.failure is None and (folder / BEST_FILE).exists():
        return left
    resolution, cache = task.architecture.resolution, Path(task.cache)
    with TrainerServer(task.dataset, resolution, cache) as trainer:
        trainer.wait()
        return trainer.run(task, tell)


def _trained(plan: Plan, task: TrialTask, result: TrainingResult, kind: str) -> TrainedModel:
    """The best epoch's weights, tested."""
    best = torch.load(Path(task.folder) / BEST_FILE, map_location="cpu", weights_only=True)
    facts = describe_dataset(plan.dataset)
    resolution, cache = plan.network.resolution, Path(task.cache)
    images = TrainingImages.load(plan.dataset, resolution, cache)
    untested = TrainedModel(
        plan.network, best["weights"], facts.classes, images.mean, images.std, {}
    )
    model = untested.build()
    macs = count_macs(model, resolution)
    top1, top5 = _test(model.to(kind), plan, task, images, bool(facts.num_test))
    told = {
        "model": plan.title,
        "resolution": resolution,
        "dataset": plan.dataset.name,
        "top1": top1,
        "top5": top5,
        "part": "test" if facts.num_test else "validation",
        "validation_top1": result.value,
        "num_params": sum(p.numel() for p in model.parameters()),
        "macs": macs,
        "fingerprint": (
            plan.network.fingerprint if isinstance(plan.network, Architecture) else None
        ),
        "train_seconds": result.train_seconds,
        "epochs": result.epochs,
        "best_epoch": max(result.history, key=lambda e: e.accuracy).epoch,
        "images_per_second": result.images_per_second,
        "seed": plan.seed,
        "device": result.device,
        "ranks": result.ranks,
        "training": _digest(task),
    }
    return replace(untested, facts=told)


def _test(
    model: nn.Module, plan: Plan, task: TrialTask, images: TrainingImages, has_test: bool
) -> tuple[float, float]:
    """Top-1 and top-5 on the test images; on the validation images where there are none."""
    device = next(model.parameters()).device
    if not has_test:
        return top_accuracies(model, HeldOut(images, task, Ranks(0, 1, device)))
    part = load_images(plan.dataset, "test", plan.network.resolution, Path(task.cache))
    batches = part_batches(part, plan.network.resolution, _EVALUATION_BATCH, str(device))
    return top_accuracies(model, batches)
