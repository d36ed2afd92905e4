"""The objectives ``naswot`` and ``synflow``: scores of networks with fresh weights."""

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from betanas.architecture.complexity import count
from betanas.architecture.decoding import decode
from betanas.architecture.layers import Architecture
from betanas.architecture.reference import Network
from betanas.errors import DataError
from betanas.images.augment import EvalTransform
from betanas.images.placement import TrainingImages
from betanas.models.network import build_network
from betanas.models.scores import naswot, synflow
from betanas.objectives import Objective, Tell
from betanas.study.definition import StudyDefinition
from betanas.study.recipe import kernel_of
from betanas.trial import Failure, TrainingResult, TrialTask, trial_seed

# As NASWOT is usually evaluated: batches of 128 images, and the mean of three of them.
BATCH, BATCHES = 128, 3

# From a network's input side in pixels to the images that ``naswot`` looks at, on the CPU.
Batches = Callable[[int], Sequence[Tensor]]


class ScoreObjective(Objective):
    """A score of the network as it is before any training; the trial's seed draws its weights."""

    def run(self, task: TrialTask, tell: Tell) -> TrainingResult:
        """Builds the network and scores it; the time that takes counts as training time."""
        began = time.monotonic()
        value = self.score(fresh_network(task.architecture, task.seed, task.device), task)
        seconds = time.monotonic() - began
        if not math.isfinite(value):
            why = f"the score is {value}: the network tells no images apart, or overflows"
            return TrainingResult(None, Failure.DIVERGED, why, train_seconds=seconds)
        return TrainingResult(value, train_seconds=seconds, device=task.device, ranks=1)

    @abstractmethod
    def score(self, model: nn.Module, task: TrialTask) -> float:
        """The score of a network with fresh weights, on the task's device; more is better."""


class SynflowObjective(ScoreObjective):
    """``synflow``: no image is read."""

    def score(self, model: nn.Module, task: TrialTask) -> float:
        """See ``betanas.models.scores.synflow``."""
        return synflow(model, task.architecture.resolution)


class NaswotObjective(ScoreObjective):
    """``naswot``: on the same images for all trials, which the study's seed draws.

    Each network sees them at its own side, as it does where it is trained.
    """

    def __enter__(self) -> Self:
        self._batches = study_batches(self.definition, self.cache)
        return self

    def score(self, model: nn.Module, task: TrialTask) -> float:
        """See ``betanas.models.scores.naswot``."""
        batches = self._batches(task.architecture.resolution)
        return naswot(model, on_device(batches, task.device))


def score_network(
    name: str, network: Architecture, model: nn.Module, batches: Batches, device: str
) -> float:
    """One of a network's scores, or of its costs.

    Args:
        name: ``naswot``, ``synflow``, ``num_params`` or ``macs``.
        network: What the model was built from.
        model: With fresh weights.
        batches: For ``naswot``.
        device: The model's.
    """
    if name == "naswot":
        return naswot(model, on_device(batches(network.resolution), device))
    if name == "synflow":
        return synflow(model, network.resolution)
    return float(getattr(count(network, 1), name))


def kernel_scorer(
    definition: StudyDefinition, name: str, num_classes: int, cache: Path
) -> Callable[[Mapping[str, Any], int], float]:
    """What scores kernels of a study on the CPU, with the weights that their trials begin with.

    Args:
        definition: The study file.
        name: ``naswot`` or ``synflow``.
        num_classes: Of the data set.
        cache: Where decoded pictures are kept.

    Returns:
        From all of a trial's parameters and its number to the score; ``-inf`` where it is no
        finite number.

    Raises:
        DataError: If ``naswot`` lacks its images.
    """
    batches = study_batches(definition, cache) if name == "naswot" else no_batches
    family, resolution = definition.search_family, definition.resolution

    def score(parameters: Mapping[str, Any], number: int) -> float:
        network = decode(family, kernel_of(parameters), resolution, num_classes)
        model = fresh_network(network, trial_seed(definition.search.seed, number), "cpu")
        value = score_network(name, network, model, batches, "cpu")
        return value if math.isfinite(value) else -math.inf

    return score


def study_batches(definition: StudyDefinition, cache: Path) -> Batches:
    """The images that ``naswot`` looks at in all trials of a study, which its seed draws.

    Raises:
        DataError: If they cannot be loaded, or are too few.
    """
    # As for a training, what is decoded is decoded for the study's side, and resized for a network.
    images = TrainingImages.load(definition.dataset, definition.resolution, cache)
    return drawn_batches(images, definition.resolution, definition.search.seed)


def drawn_batches(images: TrainingImages, resolution: int, seed: int) -> Batches:
    """The batches that a seed draws at any side; those of the last side are kept.

    Args:
        images: As for ``image_batches``.
        resolution: The side that is likely to be asked for first.
        seed: Draws them.

    Raises:
        DataError: As ``image_batches``.
    """
    at = lru_cache(maxsize=1)(lambda side: image_batches(images, side, seed))
    at(resolution)
    return at


def no_batches(side: int) -> Sequence[Tensor]:  # noqa: ARG001 - as all batches
    """For scores that look at no image."""
    return []


def on_device(batches: Iterable[Tensor], device: str) -> Iterable[Tensor]:
    """The batches where a model is, one at a time."""
    return (batch.to(device) for batch in batches)


def fresh_network(network: Network, seed: int, device: str) -> nn.Module:
    """Builds a network whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_network(network)
    return model.to(device).to(memory_format=torch.channels_last)


def image_batches(images: TrainingImages, resolution: int, seed: int) -> list[Tensor]:
    """Draws batches of training images, none of them twice, without augmentation.

    Args:
        images: Of a data set; its validation part is left out.
        resolution: Input side of the networks in pixels.
        seed: Draws them.

    Returns:
        3 batches of 128 normalised images, ``b x 3 x R x R``, or of fewer where there are not
        so many.

    Raises:
        DataError: If there are fewer than 6 training images.
    """
    number = min(BATCH, len(images.train) // BATCHES)
    if number < 2:
        raise DataError(
            f"naswot compares the images of {BATCHES} batches, but the data set has "
            f"{len(images.train)} training images; give at least {2 * BATCHES}"
        )
    order = torch.randperm(len(images.train), generator=torch.Generator().manual_seed(seed))
    chosen = images.train[order[: BATCHES * number]]
    transform = EvalTransform(resolution, images.mean, images.std)
    cpu = torch.device("cpu")
    return [transform(images.take(part, cpu)[0]) for part in torch.split(chosen, number)]


def noise_batches(resolution: int, seed: int) -> list[Tensor]:
    """Normal noise in place of normalised images, 3 batches of ``128 x 3 x R x R``."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(BATCH, 3, resolution, resolution, generator=generator) for _ in range(3)]
