"""The smaller sections of a study file: what networks may cost, how it searches, for what value."""

import math
import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from betanas.study.amounts import no_amount
from betanas.study.recipe import Budget, Positive, Section

MemoryLimit = Annotated[float, Field(gt=0, le=1e9)] | Literal["auto", "none"]

ObjectiveName = Literal["accuracy", "latency", "num_params", "macs", "activation_bytes"]
# What a trial measures; the others are counted.
ACCURACY: Final = "accuracy"
LATENCY: Final = "latency"


class ScaledLimits(Section):
    """What the same kernel may cost when it is given another, larger resolution."""

    resolution: Annotated[int, Field(ge=16, le=4096)]
    num_params: Annotated[int, Field(gt=0)] | None = None
    growth: Positive | None = None
    memory_gib: MemoryLimit = "none"


class LimitsConfig(Section):
    """What a network may cost; one that costs more is rejected before training."""

    num_params: Annotated[int, Field(gt=0)] | None = 30_000_000
    macs: Annotated[int, Field(gt=0)] | None = None
    latency_ms: Positive | None = None
    memory_gib: MemoryLimit = "auto"
    scaled: ScaledLimits | None = None


_UNTRAINED = ("table", "naswot", "synflow")
_MOST_SOBOL = 100_000  # points of the first phase: all are checked before the first trial
MIN_EVALUATIONS = 2  # of a trial's budget, for a pruner to have something to compare


class SearchConfig(Section):
    """How the study chooses kernels, and when it is done."""

    strategy: Literal["trials", "one-shot"] = "trials"
    sampler: Literal[
        "botorch",
        "gp",
        "tpe",
        "random",
        "cmaes",
        "evolution",
        "nsga2",
        "local",
        "reinforce",
        "grid",
    ] = "botorch"
    acquisition: Literal["qLogNEI", "qLogEI", "LogEI", "LogPI", "UCB"] = "qLogNEI"
    grid_step: Annotated[float, Field(gt=0)] = 0.05
    prefilter: Literal["none", "naswot", "synflow"] = "none"
    prefilter_candidates: Annotated[int, Field(ge=2, le=64)] = 8
    pruner: Literal["none", "median", "model"] = "none"
    pruner_chance: Annotated[float, Field(gt=0, lt=1)] = 0.05
    sobol_trials: Annotated[int, Field(ge=1, le=_MOST_SOBOL)] = 100
    min_feasible: Annotated[int, Field(ge=2, le=_MOST_SOBOL)] = 20
    trials: Annotated[int, Field(ge=1)] = 200
    start: Annotated[tuple[str, ...], Field(strict=False)] = ()
    warm_start: str | None = None
    finals: str | int | float | None = None
    finals_share: Annotated[float, Field(gt=0)] = 0.5
    seed: Annotated[int, Field(ge=0)] = 0

    @field_validator("finals", mode="before")
    @classmethod
    def _may_be_an_amount(cls, value: Any) -> Any:
        finite = type(value) in (str, int) or (type(value) is float and math.isfinite(value))
        if value is not None and not finite:
            raise no_amount(value)
        return value

    @model_validator(mode="after")
    def _check_acquisition(self) -> Self:
        default = type(self).model_fields["acquisition"].default
        if self.sampler not in ("botorch", "gp") and self.acquisition != default:
            raise ValueError(
                f"search.acquisition = {self.acquisition} is of search.sampler = botorch, but the "
                f"sampler is {self.sampler}; leave it out, or take botorch"
            )
        return self


class OneShotConfig(Section):
    """How a supernet is trained, where ``search.strategy`` is ``one-shot``."""

    method: Literal["single-path", "proxyless"] = "single-path"
    latency_weight: Annotated[float, Field(ge=0)] = 0.1
    warm_up_steps: Annotated[int, Field(ge=0)] = 0
    budget: Budget | None = None
    gate_learning_rate: Positive = 6e-3
    gate_update: Literal["gradient", "reinforce"] = "gradient"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _check_method(self) -> Self:
        if self.method != "proxyless" and self.gate_update != "gradient":
            raise ValueError(
                f"oneshot.gate_update = {self.gate_update} is of oneshot.method = proxyless, but "
                f"the method is {self.method}; leave it out"
            )
        if self.method != "single-path" and self.dropout:
            raise ValueError(
                f"oneshot.dropout shuts gates of oneshot.method = single-path, but the method is "
                f"{self.method}; leave it out"
            )
        return self


RANKED: Final = ("naswot", "synflow", "num_params", "macs")  # what ``rank(...)`` may name


def ranked_names(objective: str) -> tuple[str, ...]:
    """What ``rank(NAME, ...)`` names; nothing for another objective.

    >>> ranked_names("rank(naswot, num_params)")
    ('naswot', 'num_params')
    """
    found = re.fullmatch(r"rank\((.*)\)", objective)
    return tuple(name.strip() for name in found[1].split(",")) if found else ()


class ObjectiveConfig(Section):
    """What a trial's value is."""

    name: str = "train"
    latency_weight: Annotated[float, Field(ge=0)] = 0.0
    table: str | None = None

    @property
    def is_untrained(self) -> bool:
        """Whether it trains nothing: no budget makes it better, and no network of it is timed."""
        return self.name in _UNTRAINED or bool(ranked_names(self.name))

    @model_validator(mode="after")
    def _check_table(self) -> Self:
        if self.table is not None and self.name != "table":
            raise ValueError(
                f"objective.table is read where objective.name is table, but got {self.name}"
            )
        return self

    @field_validator("name")
    @classmethod
    def _check_ranked(cls, value: str) -> str:
        names = ranked_names(value)
        if not set(names) <= set(RANKED) or len(set(names)) < len(names):
            raise ValueError(
                f"rank(...) must name some of {', '.join(RANKED)}, each once, but got {value!r}"
            )
        return value

    @property
    def ranked(self) -> tuple[str, ...]:
        """What the objective ``rank(...)`` names."""
        return ranked_names(self.name)

    @property
    def reads_images(self) -> bool:
        """Whether the data set's images must be there."""
        if self.ranked:
            return "naswot" in self.ranked
        return self.name not in ("table", "synflow")


class StorageConfig(Section):
    """Where the study's trials are recorded."""

    url: str | None = None


class TrackConfig(Section):
    """Which other tools are told of the trials; a study's meaning does not depend on them."""

    tensorboard: bool = False
    mlflow: str | None = None
