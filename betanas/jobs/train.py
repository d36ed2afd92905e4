"""One model trained to convergence: the weights of its best epoch, and what they reach.

The epoch is chosen on the validation images; the test images are looked at once, at the end.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from betanas.architecture.complexity import count
from betanas.architecture.decoding import decode
from betanas.architecture.layers import Architecture
from betanas.architecture.reference import TIMM, Network, ReferenceModel
from betanas.data import describe_dataset, load_images
from betanas.devices.find import Devices, find_devices
from betanas.devices.ranks import Ranks
from betanas.errors import InputError, RunError
from betanas.files import make_folder
from betanas.images.batches import HeldOut, share_of
from betanas.images.placement import TrainingImages
from betanas.jobs.costs import counts_of
from betanas.launcher.client import TrainerServer
from betanas.launcher.rendezvous import Rendezvous
from betanas.models.network import build_network, count_macs
from betanas.models.references import load_pretrained
from betanas.models.trained import TrainedModel, read_trained, write_trained
from betanas.study.definition import StudyDefinition
from betanas.study.loading import Overrides, changed_definition, override_lines
from betanas.study.recipe import Budget, DatasetConfig, Recipe, kernel_of
from betanas.training.checkpoint import BEST_FILE
from betanas.training.testing import part_batches, top_accuracies
from betanas.trial import RESULT_FILE, TrainingResult, TrialTask, left_result

MODEL_FILE = "model.pt"
_EPOCHS = 100
# A schedule that waits for plateaus has converged when so many of its steps have not helped.
_PATIENCES = 3
# Of a search's few validations none need be near the best epoch of a long training.
_EVERY_EPOCH = {"evaluations": 0, "evaluate_every_epochs": 1}
MODELS, CACHE = Path("storage/models"), Path("storage/cache")  # below the current folder
# An elastic training loses at most so much with a rank, but for what a checkpoint costs.
_ELASTIC_CHECKPOINT_SECONDS = 5.0
_FAREWELL_SECONDS = 15.0
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
        pretrained: Whether a network of torchvision's begins with its published weights.
        note: What a study's file says otherwise than the study has begun with; "" for nothing.
    """

    name: str
    title: str
    network: Network
    dataset: DatasetConfig
    recipe: Recipe
    budget: Budget
    seed: int
    pretrained: bool = False
    note: str = ""


@dataclass(frozen=True)
class Machine:
    """Where models are trained.

    Attributes:
        device: ``auto``, ``cpu`` or ``cuda``.
        nproc_per_node: Ranks on this machine; None lets the device decide.
        cache: Where decoded pictures are kept.
        meeting: Where machines that train together meet; only an elastic training has others.
    """

    device: str
    nproc_per_node: int | None
    cache: Path
    meeting: Rendezvous = field(default_factory=Rendezvous)


@dataclass(frozen=True)
class TrainOptions:
    """What the user has said beside the model.

    Attributes:
        dataset: A data set's name; None for the study's own.
        data: A folder of pictures, in place of ``dataset``.
        resolution: Input side in pixels; None for the study's, or 224.
        epochs: Passes over the training images at most; None for 100, or what ``overrides`` say.
        seed: Of the training.
        overrides: ``key=value`` of a study file's keys, or a mapping of keys to values.
        storage: The database of the models' studies; None for where each is by default.
        budget: How long where nothing else says it: ``key=value`` of one of ``[budget]``'s keys.
    """

    dataset: str | None = None
    data: str | Path | None = None
    resolution: int | None = None
    epochs: int | None = None
    seed: int = 0
    overrides: Overrides = ()
    storage: str | None = None
    budget: str = f"budget.epochs={_EPOCHS}"

    def all_overrides(self) -> list[str]:
        """The overrides that the options come to; a later one goes before an earlier one."""
        # The study's finals are of its own budget, and no matter here.
        found = ["search.finals=none", self.budget, *override_lines(self.overrides)]
        if self.dataset is not None:
            found.append(f"dataset.name={self.dataset}")
        if self.resolution is not None:
            found.append(f"resolution={self.resolution}")
        if self.epochs is not None:
            found.append(f"budget.epochs={self.epochs}")
        return found

    def study_overrides(self) -> list[str]:
        """Those that decide which study is meant and what it searches, not how to train."""
        return ["search.finals=none", *override_lines(self.overrides)]


def plan_kernel(
    definition: StudyDefinition,
    name: str,
    title: str,
    parameters: Mapping[str, Any],
    options: TrainOptions,
) -> Plan:
    """How one kernel of a study is to be trained.

    Args:
        definition: The study file.
        name: Of the model, as ``--model`` takes it.
        title: Of the model, for people.
        parameters: The kernel, and the recipe's values that were searched beside it.
        options: What else was asked for; it goes before what the study says.

    Raises:
        InputError: If it is trivial at the resolution, or there are no such images.
    """
    changed = changed_definition(definition, options.all_overrides(), options.data)
    classes = describe_dataset(changed.dataset).num_classes
    family, kernel = changed.search_family, kernel_of(parameters)
    network = decode(family, kernel, changed.resolution, classes)
    recipe = training_recipe(changed, parameters)
    return Plan(name, title, network, changed.dataset, recipe, changed.budget, options.seed)


def training_recipe(definition: StudyDefinition, parameters: Mapping[str, Any]) -> Recipe:
    """The definition's recipe with the values that were searched, and an end at convergence.

    What is searched by the definition, but was not when the kernel was found, has its own value.
    """
    searched = {**definition.beside, **parameters}
    found = definition.recipe_of(searched) if parameters else definition.recipe
    found = found.otherwise(_EVERY_EPOCH)
    if found.schedule == "plateau" and not found.stop_patience_epochs:
        patience = _PATIENCES * max(1, found.patience_epochs)
        return found.model_copy(update={"stop_patience_epochs": patience})
    return found


def folder_name(plan: Plan) -> str:
    """Where one training of a model goes: its name, side and seed."""
    name, _, _ = plan.name.partition("@")
    # A plus stays: betamix has a member resnet18-3x3.
    plain = re.sub(r"[^\w.+-]+", "-", name).strip("-.") + "-pretrained" * plan.pretrained
    return f"{plain}-{plan.network.resolution}-{plan.seed}"


def from_weights(plan: Plan) -> Plan:
    """The same training, but of a network that begins with torchvision's weights.

    Raises:
        InputError: If it is none of torchvision's, or its weights cannot be had.
    """
    network = plan.network
    if not isinstance(network, ReferenceModel) or network.name.startswith(TIMM):
        raise InputError(
            f"--pretrained starts torchvision's classifiers from their weights, but {plan.name} is "
            "none of them; leave it out"
        )
    load_pretrained(build_network(network), network)
    return replace(plan, title=f"{plan.title} pretrained", pretrained=True)


class EvaluationLines:
    """A training's evaluations as lines of text, but no more than one in two seconds.

    Args:
        say: Is told each line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._last = say, 0.0

    def __call__(self, news: dict[str, Any]) -> None:
        """Takes what a training tells of itself."""
        if "placement" in news:
            self._say(f"images: {news['placement']}")
        if "ranks" in news:
            self._say(f"ranks: {news['ranks']} from image {news['images']} on")
        if "accuracy" not in news or time.monotonic() - self._last < 2.0:
            return
        self._last = time.monotonic()
        self._say(
            f"epoch {news['epoch']:6.1f}  loss {news['train_loss']:.3f}  validation "
            f"{100 * news['accuracy']:.2f} %, best {100 * news['best']:.2f} %  "
            f"{news['train_seconds']:.0f} s"
        )


def train(
    plan: Plan, folder: Path, machine: Machine, tell: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Trains a model, or goes on where the same call was interrupted, and writes ``model.pt``.

    Args:
        plan: What to train.
        folder: Where the model file goes; made if missing. Another training's file stays there
            until this one has its own. Of several machines the others write below it.
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
    if machine.meeting.node_rank > 0:
        folder = folder / f"node-{machine.meeting.node_rank}"
    task = _task(plan, folder, machine.cache, devices)
    if machine.meeting != Rendezvous() or task.is_elastic:
        task = _elastic(task, machine.meeting)
    known = _finished(folder / MODEL_FILE, task)
    if known is not None:
        return known
    make_folder(folder)
    result = _result(task, tell, machine.meeting)
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
        budget=plan.budget if plan.budget.macs is None else plan.budget.of_network(_macs(plan)),
        nproc_per_node=devices.nproc_per_node,
        device=devices.kind,
        folder=str((folder / "training").absolute()),
        cache=str(cache.absolute()),
        keep_best=True,
        pretrained=plan.pretrained,
        dataset_fingerprint=describe_dataset(plan.dataset).fingerprint,
    )


def _macs(plan: Plan) -> int:
    """Multiply-adds of one image."""
    if isinstance(plan.network, Architecture):
        return count(plan.network, batch_size=1).macs
    return counts_of(plan.network)[1]


def _elastic(task: TrialTask, meeting: Rendezvous) -> TrialTask:
    """The task of a training whose ranks may come and go."""
    recipe, most = task.recipe, meeting.nnodes[1]
    if recipe.elastic == "none":
        raise InputError(
            f"--nnodes {meeting.nnodes[0]}:{most} needs to know what the batch is when machines "
            "come and go: --set recipe.elastic='\"fixed-batch\"' or '\"dynamic\"'"
        )
    if recipe.elastic == "fixed-batch":
        share_of(recipe.batch_size, 0, task.nproc_per_node * most)
    return replace(task, checkpoint_seconds=_ELASTIC_CHECKPOINT_SECONDS)


def _digest(task: TrialTask) -> str:
    """16 hexadecimal digits, equal for equal trainings, wherever they leave their files."""
    told = task.identity | {"folder": None, "cache": None}
    told.pop("dataset_fingerprint", None)  # files of before it was known tell nothing of it
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _meeting_name(task: TrialTask) -> str:
    """Equal for equal trainings on all machines, wherever each has the images."""
    local = ("root", "download", "placement")
    dataset = task.dataset.model_copy(
        update={name: type(task.dataset).model_fields[name].default for name in local}
    )
    return _digest(replace(task, dataset=dataset))


def _finished(path: Path, task: TrialTask) -> dict[str, Any] | None:
    """What the model file says, if the very same training, of the same images, has written it."""
    if not path.exists():
        return None
    facts, images = dict(read_trained(path).facts), task.dataset_fingerprint
    same = facts.get("training") == _digest(task)
    if not same or facts.get("dataset_fingerprint", images) != images:
        return None
    return facts | {"checkpoint": str(path)}


def _result(
    task: TrialTask, tell: Callable[[dict[str, Any]], None], meeting: Rendezvous
) -> TrainingResult:
    """Trains, unless the very same training was finished and only its model file is missing."""
    folder = Path(task.folder)
    left = left_result(task)
    if left is not None and left.failure is None and (folder / BEST_FILE).exists():
        return left
    resolution, cache = task.architecture.resolution, Path(task.cache)
    with TrainerServer(task.dataset, resolution, cache, keeps_spare=False) as trainer:
        trainer.wait()
        meeting = replace(meeting, run_id=_meeting_name(task))
        return trainer.run(task, tell, meeting, lambda: _farewell(folder))


def _farewell(folder: Path) -> str | None:
    """That a training is over whose agent still waits for a machine that will not come."""
    written = folder / RESULT_FILE
    since = time.time() - written.stat().st_mtime if written.exists() else 0.0
    return "the training is over" if since > _FAREWELL_SECONDS else None


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
        "pretrained": plan.pretrained,
        "resolution": resolution,
        "dataset": plan.dataset.name,
        "dataset_fingerprint": task.dataset_fingerprint,
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
        "changes": [list(change) for change in result.changes],
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
    known = images.mean, images.std
    part = load_images(
        plan.dataset, "test", plan.network.resolution, Path(task.cache), statistics=known
    )
    part = replace(part, mean=images.mean, std=images.std)  # an older array may have others
    batches = part_batches(part, plan.network.resolution, _EVALUATION_BATCH, str(device))
    return top_accuracies(model, batches)
