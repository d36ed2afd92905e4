"""The sections of a study file that a training carries: images, recipe, budget."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from betanas.parameters import Integer, Parameter, Real

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
# TOML and JSON have lists where we have pairs; their numbers stay strict.
FractionPair = Annotated[tuple[Fraction, Fraction], Field(strict=False)]
PositivePair = Annotated[tuple[Positive, Positive], Field(strict=False)]


class Section(BaseModel):
    """A frozen table of a study file; an unknown key or another type is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def otherwise(self, defaults: Mapping[str, Any]) -> Self:
        """The table with other defaults for the keys that were not given."""
        found = {k: v for k, v in defaults.items() if k not in self.model_fields_set}
        return self.model_copy(update=found)


class DatasetConfig(Section):
    """Where the images are, and how many of them are held out for validation."""

    name: Literal["digits", "cifar10", "cifar100", "fashion-mnist", "imagefolder", "imagenet16-120"]
    root: str = "data"
    download: bool = False
    validation: Annotated[float, Field(gt=0)] = 0.1
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    placement: Literal["auto", "device", "host", "stream"] = "auto"

    @field_validator("validation")
    @classmethod
    def _fraction_or_count(cls, value: float) -> float:
        if value >= 1 and value != int(value):
            raise ValueError(
                f"must be a fraction below 1 or a whole number of images, but got {value}"
            )
        return value


# What reached most in short budgets (benchmarks/README.md); a key that is given goes before it.
FAST_RECIPE: dict[str, Any] = {
    "learning_rate": 4e-3,
    "schedule": "one-cycle",
    "autoaugment": False,
    "crop_scale": (0.5, 1.0),
    "norm_batches": 8,
}
# The same for small pictures and minutes: Muon, crops that hardly distort, few evaluations.
SHORT_RECIPE: dict[str, Any] = FAST_RECIPE | {
    "optimizer": "muon",
    "batch_size": 200,
    "momentum": 0.6,
    "learning_rate": 8e-3,
    "crop_scale": (0.8, 1.0),
    "crop_ratio": (0.9, 1.1),
    "evaluations": 2,
}
_ONE_CYCLE_WARM_UP = 0.3  # share of a one-cycle schedule in which the learning rate rises
_PRESETS = {"fast": FAST_RECIPE, "short": SHORT_RECIPE}


# Pixels of a batch from which on what casts to bf16 cost is less than what they save.
_BF16_PIXELS = 2**17


class Recipe(Section):
    """How a trial trains.

    The defaults are those of the published search (report, Table 2) but for two: gradients are not
    compressed, and trials are compared at equal numbers of evaluations.
    """

    preset: Literal["published", "fast", "short"] = "published"
    batch_size: Annotated[int, Field(ge=2, le=100_000)] = 100
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "muon"] = "adam"
    learning_rate: Positive = 1e-3
    muon_learning_rate: Positive = 0.1
    betas: FractionPair = (0.9, 0.999)
    momentum: Fraction = 0.9
    rmsprop_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    optimizer_epsilon: Positive = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip_gradient_norm: Annotated[float, Field(ge=0)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    stochastic_depth: Annotated[float, Field(ge=0, lt=1)] | None = None
    stochastic_depth_power: Annotated[float, Field(ge=0)] = 1.0
    auxiliary_weight: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["constant", "plateau", "cosine", "one-cycle", "exponential"] = "plateau"
    warm_up: Annotated[float, Field(ge=0, lt=1)] | None = None
    patience_epochs: Annotated[int, Field(ge=0)] = 5
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    decay_factor: Annotated[float, Field(gt=0, le=1)] = 0.97
    decay_epochs: Positive = 2.4
    stop_patience_epochs: Annotated[int, Field(ge=0)] = 0
    weight_average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    autoaugment: bool = True
    autoaugment_after: Annotated[float, Field(ge=0)] = 0.0
    flip: bool = True
    crop_scale: FractionPair = (0.08, 1.0)
    crop_ratio: PositivePair = (3 / 4, 4 / 3)
    crop_padding: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    mixup: Annotated[float, Field(ge=0)] = 0.0
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    gradient_compression: Literal["none", "fp16", "bf16"] = "none"
    sync_batch_norm: bool = False
    elastic: Literal["none", "fixed-batch", "dynamic"] = "none"
    elastic_steps: Annotated[int, Field(ge=0)] = 100
    norm_batches: Annotated[int, Field(ge=0)] = 0
    precision: Literal["auto", "float32", "tf32", "bf16"] = "auto"
    engine: Literal["auto", "eager", "graph"] = "auto"
    compile: bool = False
    evaluate_every_epochs: Annotated[int, Field(ge=0)] = 0
    evaluations: Annotated[int, Field(ge=0, le=100)] = 10

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("preset") in _PRESETS:
            return {**_PRESETS[given["preset"]], **given}
        return given

    @property
    def warm_up_share(self) -> float:
        """``warm_up``, or the schedule's own where it is not given."""
        if self.warm_up is not None:
            return self.warm_up
        return _ONE_CYCLE_WARM_UP if self.schedule == "one-cycle" else 0.0

    def numbers(self, device: str, resolution: int, *, cpu_has_bf16: bool = False) -> str:
        """In which numbers a model computes: ``float32``, ``tf32`` or ``bf16``.

        ``auto`` is bf16 on CPUs that multiply it by themselves, float32 on others: six plain 3x3
        convolutions at R=32, on one core with AVX-512's, trained on 3,737 instead of 2,505 images a
        second (benchmarks/README.md). On GPUs it is the faster of the other two by the size of a
        rank's batch. On an H100, graphed, 100 images a step: at R=32 TF32 made 76, bf16 59 thousand
        images a second, at R=64 22 and 25, at R=224 3.1 and 4.9; 200 images at R=32: plain and
        residual convolutions as many or up to 1.4 times as many in bf16, a network of depthwise
        ones 0.85 times (docs/gpu.md). Trying both in each trial would cost it another second.

        Args:
            device: ``cpu`` or ``cuda``; a GPU that has bf16.
            resolution: Input side of the networks in pixels.
            cpu_has_bf16: Whether the CPU multiplies it.
        """
        if self.precision != "auto":
            return self.precision
        if device == "cpu":
            return "bf16" if cpu_has_bf16 else "float32"
        return "bf16" if self.batch_size * resolution**2 >= _BF16_PIXELS else "tf32"

    def bf16_from(self, device: str) -> float:
        """Pixels of a rank's batch from which on ``numbers`` are bf16; infinity for never.

        Args:
            device: ``cpu`` or ``cuda``, as for ``numbers``.
        """
        if device == "cuda" and self.precision == "auto":
            return _BF16_PIXELS
        return 0.0 if self.precision == "bf16" else math.inf

    @property
    def optimizer_slots(self) -> int:
        """Values that the optimiser keeps for each weight, with the average of the weights."""
        slots = {"adam": 2, "adamw": 2, "sgd": 1, "rmsprop": 2, "muon": 2}[self.optimizer]
        return slots + (self.weight_average > 0)

    @field_validator("crop_scale", "crop_ratio")
    @classmethod
    def _low_to_high(cls, value: tuple[float, float]) -> tuple[float, float]:
        low, high = value
        if not 0 < low <= high:
            raise ValueError(f"0 < low <= high must hold, but got (low={low:g}, high={high:g})")
        return value


# Values on which a network's feasibility does not depend: what costs memory is the batch size, and
# there a network must fit at each. And how far a wider range is advised to go; a study file
# may go further.
BATCH_SIZE = "batch_size"
SEARCHABLE = {
    BATCH_SIZE: (2, 4096),
    "learning_rate": (1e-6, 10.0), "muon_learning_rate": (1e-6, 10.0), "momentum": (0.0, 1.0),
    "weight_decay": (0.0, 1.0),
    "clip_gradient_norm": (0.0, 100.0), "label_smoothing": (0.0, 0.9), "dropout": (0.0, 0.9),
    "stochastic_depth": (0.0, 0.9), "stochastic_depth_power": (0.0, 10.0),
    "rmsprop_decay": (0.0, 0.999), "auxiliary_weight": (0.0, 1.0), "warm_up": (0.0, 0.9),
    "plateau_factor": (0.01, 0.99), "decay_factor": (0.1, 1.0), "mixup": (0.0, 10.0),
    "cutmix": (0.0, 10.0),
}  # fmt: skip
# Which optimisers or schedules read a searchable value; what is not named here, all read.
READ_BY: dict[str, tuple[Literal["optimizer", "schedule"], tuple[str, ...]]] = {
    "muon_learning_rate": ("optimizer", ("muon",)),
    "momentum": ("optimizer", ("sgd", "rmsprop", "muon")),
    "rmsprop_decay": ("optimizer", ("rmsprop",)),
    "plateau_factor": ("schedule", ("plateau",)),
    "decay_factor": ("schedule", ("exponential",)),
}
RECIPE_PREFIX = "recipe."  # of the names of searched recipe values beside the kernel's parameters


class PriorConfig(Section):
    """Where the first phase draws a value from: a normal distribution, cut off at its range."""

    mean: float
    std: Positive


class RecipeRange(Section):
    """A recipe value that is searched beside the kernel."""

    low: float
    high: float
    log: bool = False
    prior: PriorConfig | None = None

    @model_validator(mode="after")
    def _low_to_high(self) -> Self:
        if not self.low < self.high:
            raise ValueError(
                f"low < high must hold, but got (low={self.low:g}, high={self.high:g})"
            )
        if self.log and self.low <= 0:
            raise ValueError(f"low must be > 0 on a log scale, but got {self.low:g}")
        check_prior(self.prior, self.low, self.high)
        return self


def check_prior(prior: PriorConfig | None, low: float, high: float) -> None:
    """Raises ValueError for a prior whose mean lies outside of the range."""
    if prior is not None and not low <= prior.mean <= high:
        raise ValueError(f"prior.mean must be in [{low:g}, {high:g}], but got {prior.mean:g}")


def recipe_value(key: str, value: float) -> float | int:
    """A searched value as a recipe has it: a batch has a whole number of images."""
    whole = key == BATCH_SIZE and value == int(value)
    return int(value) if whole else float(value)


def searched_value(key: str, found: RecipeRange) -> Parameter:
    """A recipe's value as a parameter of the search."""
    low, high = (recipe_value(key, end) for end in (found.low, found.high))
    widest = min(low, SEARCHABLE[key][0]), max(high, SEARCHABLE[key][1])
    kind = Integer if key == BATCH_SIZE else Real
    prior = None if found.prior is None else (found.prior.mean, found.prior.std)
    return kind(RECIPE_PREFIX + key, low, high, widest, log=found.log, prior=prior)


def without_preset(recipe: dict[str, Any]) -> None:
    """Takes a preset's values out of a recipe that was filled with them."""
    for key, value in _PRESETS.get(str(recipe.get("preset")), {}).items():
        if recipe.get(key) == value:
            del recipe[key]


def kernel_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The kernel among a trial's parameters: all but the recipe values that were searched."""
    return {n: value for n, value in parameters.items() if not n.startswith(RECIPE_PREFIX)}


def beside_kernel(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe values that were searched beside a trial's kernel."""
    return {n: value for n, value in parameters.items() if n.startswith(RECIPE_PREFIX)}


class LatencyConfig(Section):
    """How a trial's latency is measured, where an objective asks for it."""

    batch_size: Annotated[int, Field(gt=0)] = 1
    threads: Annotated[int, Field(gt=0)] = 1


BudgetUnit = Literal["seconds", "steps", "epochs", "images", "macs"]
_BUDGET_UNITS: tuple[BudgetUnit, ...] = get_args(BudgetUnit)


class Budget(Section):
    """What a trial may spend on training steps: exactly one of the five."""

    seconds: Positive | None = None
    steps: Annotated[int, Field(gt=0)] | None = None
    epochs: Annotated[int, Field(gt=0)] | None = None
    images: Annotated[int, Field(gt=0)] | None = None
    macs: Positive | None = None  # 1e13 is a float in TOML

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [unit for unit in _BUDGET_UNITS if getattr(self, unit) is not None]
        if len(given) != 1:
            raise ValueError(
                f"exactly one of {', '.join(_BUDGET_UNITS)} must be given, "
                f"but got {', '.join(given) or 'none'}"
            )
        return self

    @property
    def unit(self) -> BudgetUnit:
        """The one key that is given."""
        return next(unit for unit in _BUDGET_UNITS if getattr(self, unit) is not None)

    @property
    def amount(self) -> float:
        """How much of ``unit`` a trial may spend."""
        return float(getattr(self, self.unit))

    def of_network(self, macs: int) -> Self:
        """The budget of one network: where it is multiply-adds, the images that these pay for.

        Every network then has the same total, in forward passes over training images: those of
        backward passes, about twice as many again, are as good as proportional and not counted.

        Args:
            macs: Multiply-adds of one image.
        """
        if self.macs is None:
            return self
        return type(self)(images=max(1, math.ceil(self.macs / macs)))
