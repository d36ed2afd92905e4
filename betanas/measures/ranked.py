"""The objective ``rank(naswot, synflow, ...)``: where scores would stand among random networks.

Scores have no common scale. So a network's are turned into ranks, and averaged, as Abdelfattah et
al., 2021, "Zero-Cost Proxies for Lightweight NAS", let proxies vote. Ranks among a study's own
trials would change with every trial; these are among a fixed pool of networks, which the study's
seed draws from its ranges: a trial's value depends on its network, its seed and the study alone.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from scipy.stats import rankdata
from torch import nn

from betanas.architecture.decoding import decode
from betanas.architecture.family import Kernel
from betanas.architecture.reference import ReferenceModel
from betanas.data.describe import describe_dataset
from betanas.errors import InputError
from betanas.files import read_json, write_json
from betanas.measures.scored import (
    ScoreObjective,
    fresh_network,
    no_batches,
    score_network,
    study_batches,
)
from betanas.objectives import Tell
from betanas.parameters import Choice, Integer, Parameter, Real
from betanas.study.definition import StudyDefinition
from betanas.study.feasibility import study_feasibility
from betanas.trial import TrainingResult, TrialTask, trial_seed

POOL = 32  # networks to stand among
_MOST_DRAWN = 2**14  # kernels for them
_FIRST = 2**31  # their numbers begin behind those of all trials
_SEEN = "own sides"  # by the networks of the pool: scores that were kept before are others
# Keys of a study that decide its pool and the scores in it.
_KEYS = ("family", "resolution", "parameters.", "dataset.", "limits.", "objective.", "search.seed")

Reference = Mapping[str, Sequence[float]]


class RankObjective(ScoreObjective):
    """``rank(NAME, ...)``: the mean place among the pool, in (0, 1); more is better.

    The pool is scored before the first trial and kept in the cache. Workers that begin at the same
    time may score it twice, with the same result.
    """

    def __enter__(self) -> Self:
        definition = self.definition
        self._names = definition.objective.ranked
        reads_images = definition.objective.reads_images
        self._facts = describe_dataset(definition.dataset, reads_images=reads_images)
        self._batches = study_batches(definition, self.cache) if reads_images else no_batches
        self._reference: Reference | None = None
        return self

    def run(self, task: TrialTask, tell: Tell) -> TrainingResult:
        """Scores the network, and the pool if nobody has yet."""
        if self._reference is None:
            self._reference = self._known_reference(task.device, tell)
        return super().run(task, tell)

    def score(self, model: nn.Module, task: TrialTask) -> float:
        """The mean of its scores' places; ``-inf`` if one of them is no finite number."""
        assert self._reference is not None  # noqa: S101 - ``run`` comes first
        network = task.architecture
        assert not isinstance(network, ReferenceModel)  # noqa: S101 - families decode none
        places = []
        for name in self._names:
            value = score_network(name, network, model, self._batches, task.device)
            if not math.isfinite(value):
                return -math.inf
            places.append(place(value, self._reference[name]))
        return math.fsum(places) / len(places)

    def _known_reference(self, device: str, tell: Tell) -> Reference:
        """The pool's scores, from the cache if they are there."""
        meaning = self.definition.meaning()
        key = {name: value for name, value in meaning.items() if name.startswith(_KEYS)}
        plain = json.dumps([key, self._facts.fingerprint, POOL, _SEEN], sort_keys=True)
        path = self.cache / f"ranks-{hashlib.sha256(plain.encode()).hexdigest()[:16]}.json"
        found: Reference | None = read_json(path)
        if found is None:
            found = self._score_pool(device, tell)
            self.cache.mkdir(parents=True, exist_ok=True)
            write_json(path, found)
        return found

    def _score_pool(self, device: str, tell: Tell) -> Reference:
        """Scores networks until there are enough that have all scores."""
        found: dict[str, list[float]] = {name: [] for name in self._names}
        classes, resolution = self._facts.num_classes, self.definition.resolution
        for number, kernel in enumerate(random_kernels(self.definition, classes)):
            network = decode(self.definition.search_family, kernel, resolution, classes)
            seed = trial_seed(self.definition.search.seed, _FIRST + number)
            model = fresh_network(network, seed, device)
            values = [
                score_network(name, network, model, self._batches, device) for name in self._names
            ]
            if all(map(math.isfinite, values)):
                for own, value in zip(found.values(), values, strict=True):
                    own.append(value)
            tell({"spent": 0.0, "note": f"scored {number + 1} networks to rank among"})
            if len(found[self._names[0]]) == POOL:
                return found
        raise InputError(
            f"objective.name = {self.definition.objective.name} ranks among {POOL} random "
            f"networks, but of {_MOST_DRAWN:,} kernels {len(found[self._names[0]])} could be "
            "scored; raise [limits] or widen [parameters]"
        )


def place(score: float, reference: Sequence[float]) -> float:
    """Where a score stands among n others: its rank from 1 to n, divided by n + 1.

    Between two of them it grows in a line, and beyond the last towards the end: of two scores
    above all others the higher has the higher place.
    """
    scores, first = np.unique(np.asarray(reference, dtype=np.float64), return_index=True)
    ranks = rankdata(reference)[first]  # of equal ones the mean
    scale = (scores[-1] - scores[0]) / len(reference) or 1.0
    beyond = max(score - scores[-1], scores[0] - score, 0.0) / scale
    rank = float(np.interp(score, scores, ranks))
    rank += math.copysign(beyond / (1 + beyond), score - scores[0])
    return rank / (len(reference) + 1)


def random_kernels(definition: StudyDefinition, num_classes: int) -> list[Kernel]:
    """Kernels that a study's seed draws evenly from its ranges, of those within its limits.

    Args:
        definition: The study file; its memory limit is left out.
        num_classes: Of its data set.
    """
    rng = np.random.default_rng([definition.search.seed, _FIRST])
    family = definition.search_family
    parameters = definition.searched[: len(family.parameters)]
    drawn = [{p.name: _drawn(p, rng) for p in parameters} for _ in range(_MOST_DRAWN)]
    vectors = np.array([[p.number(k[p.name]) for p in parameters] for k in drawn])
    feasible = study_feasibility(definition, num_classes, None).feasible(vectors)
    return [drawn[i] for i in np.flatnonzero(feasible)]


def _drawn(parameter: Parameter, rng: np.random.Generator) -> float | int | str:
    if isinstance(parameter, Choice):
        return parameter.options[rng.integers(len(parameter.options))]
    assert isinstance(parameter, Real)  # noqa: S101 - the only other kind
    low, high = parameter.range
    if parameter.log:
        value = min(max(math.exp(rng.uniform(math.log(low), math.log(high))), low), high)
        return round(value) if isinstance(parameter, Integer) else value
    if isinstance(parameter, Integer):
        return int(rng.integers(int(low), int(high) + 1))
    return float(rng.uniform(low, high))
