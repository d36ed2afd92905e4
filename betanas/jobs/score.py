"""Scores of untrained networks: of a study's trials beside what they reached, or of any kernels."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from betanas.analysis.clusters import complete_trials
from betanas.analysis.correlation import RankCorrelation, rank_correlation
from betanas.architecture.complexity import count
from betanas.architecture.decoding import TrivialKernelError, decode
from betanas.architecture.family import Family
from betanas.architecture.layers import Architecture
from betanas.database.stored import StoredStudy
from betanas.devices.find import find_devices
from betanas.errors import DataError, InputError
from betanas.images.placement import TrainingImages
from betanas.measures.scored import Batches, drawn_batches, fresh_network, noise_batches, on_device
from betanas.models.scores import naswot, synflow
from betanas.search.space import Space
from betanas.study.definition import StudyDefinition
from betanas.study.recipe import DatasetConfig
from betanas.trial import TrialRecord, trial_seed, whole

SCORES = ("naswot", "synflow", "num_params", "macs")
_DRAWS = 64  # kernels for each that is wanted, before a family is given up as trivial


@dataclass(frozen=True, slots=True)
class Scored:
    """One network and what its size and its scores say of it.

    Attributes:
        number: The trial's, or the kernel's among those that were drawn.
        naswot: See ``betanas.models.scores``; None if it is no finite number.
        synflow: Likewise.
        num_params: Trainable weights.
        macs: Multiply-adds of one image.
        value: What the trial has reached; None without a study.
    """

    number: int
    naswot: float | None
    synflow: float | None
    num_params: int
    macs: int
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores networks on the same images.

    Attributes:
        batches: Normalised images for each network's side.
        seed: Draws the weights, with a network's number.
        device: ``cpu`` or ``cuda``.
    """

    batches: Batches
    seed: int
    device: str

    def score(self, number: int, network: Architecture, value: float | None) -> Scored:
        """Builds a network with fresh weights and scores it."""
        model = fresh_network(network, trial_seed(self.seed, number), self.device)
        batches = on_device(self.batches(network.resolution), self.device)
        costs = count(network, 1)
        return Scored(
            number,
            _finite(naswot(model, batches)),
            _finite(synflow(model, network.resolution)),
            costs.num_params,
            costs.macs,
            value,
        )


def _finite(score: float) -> float | None:
    return score if math.isfinite(score) else None


Tell = Callable[[Scored], None]


def score_study(
    definition: StudyDefinition,
    stored: StoredStudy,
    most: int | None,
    batches: Batches,
    device: str,
    tell: Tell,
) -> list[Scored]:
    """Scores the networks of a study's complete trials; replicates are left out.

    Args:
        definition: The study file.
        stored: Its database.
        most: How many trials at most, drawn at random; None for all.
        batches: As in ``Scorer``.
        device: ``auto``, ``cpu`` or ``cuda``.
        tell: Is told each as soon as it is scored.

    Raises:
        InputError: If there is no complete trial, or no such device.
    """
    records = complete_trials(whole(definition, stored.records()))
    if not records:
        raise InputError(f"study {definition.name} has no complete trial whose network to score")
    seed, classes = definition.search.seed, len(stored.settings.classes)
    scorer = Scorer(batches, seed, find_devices(device, 1, claim=False).kind)
    found = []
    for record in _drawn(records, most, seed):
        network = decode(definition.search_family, record.kernel, definition.resolution, classes)
        found.append(scorer.score(record.number, network, record.value))
        tell(found[-1])
    return found


def _drawn(records: Sequence[TrialRecord], most: int | None, seed: int) -> list[TrialRecord]:
    """At most so many of the trials, in the order of their numbers."""
    chosen = np.random.default_rng(seed).permutation(len(records))[:most]
    return sorted((records[i] for i in chosen), key=lambda r: r.number)


def score_family(
    family: Family,
    number: int,
    resolution: int,
    num_classes: int,
    batches: Batches,
    device: str,
    tell: Tell,
    seed: int = 0,
) -> list[Scored]:
    """Scores networks of kernels that are drawn evenly from a family's ranges.

    Raises:
        InputError: If nearly all kernels are trivial at this resolution, or no such device.
    """
    space, rng = Space(family.parameters), np.random.default_rng(seed)
    scorer = Scorer(batches, seed, find_devices(device, 1, claim=False).kind)
    found: list[Scored] = []
    for unit in rng.random((_DRAWS * number, len(space.names))):
        if len(found) == number:
            break
        kernel = space.kernel(space.kernels(unit[None, :])[0])
        try:
            network = decode(family, kernel, resolution, num_classes)
        except TrivialKernelError:
            continue
        found.append(scorer.score(len(found), network, None))
        tell(found[-1])
    if len(found) < number:
        raise InputError(
            f"family {family.name} has nearly only trivial kernels at --resolution {resolution}; "
            "give a larger one"
        )
    return found


def batches_of(
    dataset: DatasetConfig | None, resolution: int, seed: int, cache: Path
) -> tuple[Batches, str | None]:
    """Images to score with; noise, and why, where there are none."""

    def noise(side: int) -> list[Tensor]:
        return noise_batches(side, seed)

    if dataset is None:
        return noise, "naswot looks at noise; --data FOLDER has images"
    try:
        images = TrainingImages.load(dataset, resolution, cache)
    except DataError as error:
        return noise, f"{error}; naswot looks at noise"
    return drawn_batches(images, resolution, seed), None


def correlations(scored: Sequence[Scored]) -> dict[str, RankCorrelation | None]:
    """Each score's rank correlation with the values; one that is no number ranks last."""
    known = [s for s in scored if s.value is not None]
    values = [float(s.value or 0.0) for s in known]
    columns = {name: [getattr(s, name) for s in known] for name in SCORES}
    return {
        name: rank_correlation([-math.inf if v is None else v for v in column], values)
        for name, column in columns.items()
    }


def to_json(scored: Sequence[Scored]) -> dict[str, Any]:
    """The JSON of ``betanas score``."""
    found = {name: own for name, own in correlations(scored).items() if own is not None}
    return {
        "scores": [asdict(s) for s in scored],
        "correlations": {name: asdict(own) for name, own in found.items()},
    }
