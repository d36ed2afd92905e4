"""What a study knows of a trial: a row, in any state."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

from betanas.parameters import is_whole
from betanas.study.definition import StudyDefinition
from betanas.study.recipe import kernel_of
from betanas.trial.result import measured_ms

STOPPED_EARLY = "stopped_early"  # the reason of a trial that ``search.pruner`` ended
# User attributes of a replicate: what it repeats (a trial's number, or ``largest ...``), and which
# of its replicates it is.
REPEATS, SEED_INDEX = "repeats", "seed_index"
# User attribute of a trial: ``per cent of its budget -> passes over the training images that the
# whole budget would allow at the speed so far``.
PACE = "pace"
LARGEST = "largest"  # how the name of a kernel begins that no trial had


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
