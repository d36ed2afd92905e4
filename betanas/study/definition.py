"""What a study file says, as checked and frozen data; each section's keys are one class here.

``studies/README.md`` documents every key for users; a test holds the two together.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from betanas.architecture.families import find_family
from betanas.architecture.family import Family
from betanas.errors import InputError
from betanas.parameters import Parameter, Real

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
# TOML and JSON have lists where we have pairs; their numbers stay strict.
FractionPair = Annotated[tuple[Fraction, Fraction], Field(strict=False)]
PositivePair = Annotated[tuple[Positive, Positive], Field(strict=False)]


class Section(BaseModel):
    """A frozen table of a study file; an unknown key or another type is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DatasetConfig(Section):
    """Where the images are, and how many of them are held out for validation."""

    name: Literal["digits", "cifar10", "cifar100", "fashion-mnist", "imagefolder"]
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


# Defaults of a recipe that have changed since, by the last schema of a study's settings that had
# them: a study keeps the meaning that it began with.
_FORMER_DEFAULTS: dict[int, dict[str, Any]] = {
    1: {"gradient_compression": "fp16", "evaluate_every_epochs": 1, "evaluations": 0},
}


# Pixels of a batch from which on what casts to bf16 cost is less than what they save.
_BF16_PIXELS = 2**18


class Recipe(Section):
    """How a trial trains.

    The defaults are those of the published search (report, Table 2) but for two: gradients are not
    compressed, and trials are compared at equal numbers of evaluations.
    """

    preset: Literal["published", "fast"] = "published"
    batch_size: Annotated[int, Field(ge=2)] = 100
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    learning_rate: Positive = 1e-3
    betas: FractionPair = (0.9, 0.999)
    momentum: Fraction = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip_gradient_norm: Annotated[float, Field(ge=0)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    schedule: Literal["constant", "plateau", "cosine", "one-cycle", "exponential"] = "plateau"
    warm_up: Annotated[float, Field(ge=0, lt=1)] | None = None
    patience_epochs: Annotated[int, Field(ge=0)] = 5
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    decay_factor: Annotated[float, Field(gt=0, le=1)] = 0.97
    decay_epochs: Positive = 2.4
    stop_patience_epochs: Annotated[int, Field(ge=0)] = 0
    weight_average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    autoaugment: bool = True
    flip: bool = True
    crop_scale: FractionPair = (0.08, 1.0)
    crop_ratio: PositivePair = (3 / 4, 4 / 3)
    mixup: Annotated[float, Field(ge=0)] = 0.0
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    gradient_compression: Literal["none", "fp16", "bf16"] = "none"
    sync_batch_norm: bool = False
    norm_batches: Annotated[int, Field(ge=0)] = 0
    precision: Literal["auto", "float32", "tf32", "bf16"] = "auto"
    engine: Literal["auto", "eager", "graph"] = "auto"
    compile: bool = False
    evaluate_every_epochs: Annotated[int, Field(ge=0)] = 0
    evaluations: Annotated[int, Field(ge=0, le=100)] = 10

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("preset") == "fast":
            return {**FAST_RECIPE, **given}
        return given

    def otherwise(self, defaults: Mapping[str, Any]) -> Self:
        """The recipe with other defaults for the keys that were not given."""
        found = {k: v for k, v in defaults.items() if k not in self.model_fields_set}
        return self.model_copy(update=found)

    def numbers(self, device: str, resolution: int) -> str:
        """In which numbers a model computes: ``float32``, ``tf32`` or ``bf16``.

        ``auto`` is float32 on CPUs, and on GPUs the faster of the other two by the size of a rank's
        batch. On an H100, graphed, 100 images a step: at R=32 TF32 made 76, bf16 59 thousand images
        a second, at R=64 22 and 25, at R=224 3.1 and 4.9 (docs/gpu.md). Trying both in each trial
        would cost it another second.

        Args:
            device: ``cpu`` or ``cuda``; a GPU that has bf16.
            resolution: Input side of the networks in pixels.
        """
        if self.precision != "auto":
            return self.precision
        if device == "cpu":
            return "float32"
        return "bf16" if self.batch_size * resolution**2 >= _BF16_PIXELS else "tf32"

    @property
    def optimizer_slots(self) -> int:
        """Values that the optimiser keeps for each weight, with the average of the weights."""
        slots = {"adam": 2, "adamw": 2, "sgd": 1, "rmsprop": 2}[self.optimizer]
        return slots + (self.weight_average > 0)

    @field_validator("crop_scale", "crop_ratio")
    @classmethod
    def _low_to_high(cls, value: tuple[float, float]) -> tuple[float, float]:
        low, high = value
        if not 0 < low <= high:
            raise ValueError(f"0 < low <= high must hold, but got (low={low:g}, high={high:g})")
        return value


# Values that cost no memory, so that a network's feasibility does not depend on them.
SEARCHABLE = (
    "learning_rate", "momentum", "weight_decay", "clip_gradient_norm", "label_smoothing",
    "warm_up", "plateau_factor", "decay_factor", "mixup", "cutmix",
)  # fmt: skip
RECIPE_PREFIX = "recipe."  # of the names of searched recipe values beside the kernel's parameters


class RecipeRange(Section):
    """A recipe value that is searched beside the kernel."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _low_to_high(self) -> Self:
        if not self.low < self.high:
            raise ValueError(
                f"low < high must hold, but got (low={self.low:g}, high={self.high:g})"
            )
        if self.log and self.low <= 0:
            raise ValueError(f"low must be > 0 on a log scale, but got {self.low:g}")
        return self


def kernel_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The kernel among a trial's parameters: all but the recipe values that were searched."""
    return {n: value for n, value in parameters.items() if not n.startswith(RECIPE_PREFIX)}


def beside_kernel(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe values that were searched beside a trial's kernel."""
    return {n: value for n, value in parameters.items() if n.startswith(RECIPE_PREFIX)}


BudgetUnit = Literal["seconds", "steps", "epochs", "images"]
_BUDGET_UNITS: tuple[BudgetUnit, ...] = ("seconds", "steps", "epochs", "images")


class Budget(Section):
    """What a trial may spend on training steps: exactly one of the four."""

    seconds: Positive | None = None
    steps: Annotated[int, Field(gt=0)] | None = None
    epochs: Annotated[int, Field(gt=0)] | None = None
    images: Annotated[int, Field(gt=0)] | None = None

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


MemoryLimit = Positive | Literal["auto", "none"]


class ScaledLimits(Section):
    """What the same kernel may cost when it is given another, larger resolution."""

    resolution: Annotated[int, Field(ge=16, le=4096)]
    num_params: Annotated[int, Field(gt=0)] | None = None
    memory_gib: MemoryLimit = "none"


class LimitsConfig(Section):
    """What a network may cost; one that costs more is rejected before training."""

    num_params: Annotated[int, Field(gt=0)] | None = 30_000_000
    memory_gib: MemoryLimit = "auto"
    scaled: ScaledLimits | None = None


MIN_EVALUATIONS = 2  # of a trial's budget, for a pruner to have something to compare


class SearchConfig(Section):
    """How the study chooses kernels, and when it is done."""

    sampler: Literal["gp", "botorch", "tpe", "random", "cmaes", "evolution"] = "gp"
    pruner: Literal["none", "median"] = "none"
    sobol_trials: Annotated[int, Field(ge=1)] = 100
    min_feasible: Annotated[int, Field(ge=2)] = 20
    trials: Annotated[int, Field(ge=1)] = 200
    seed: Annotated[int, Field(ge=0)] = 0


class ObjectiveConfig(Section):
    """What a trial's value is."""

    name: str = "train"


class StorageConfig(Section):
    """Where the study's trials are recorded."""

    url: str | None = None


class TrackConfig(Section):
    """Which other tools are told of the trials; a study's meaning does not depend on them."""

    tensorboard: bool = False
    mlflow: str | None = None


class StudyDefinition(Section):
    """A whole study file, checked; every key that was left out has its default.

    Attributes:
        name: The file's stem: the study's name in its database.
        family: Which family's kernels to search.
        resolution: Input side of the networks in pixels.
        parameters: ``name -> (low, high)``, or options, in the family's order; low = high, or one
            option, fixes a parameter.
        dataset: Section ``[dataset]``.
        recipe: Section ``[recipe]``; a value that is searched has its default here.
        recipe_ranges: ``key -> range`` of the recipe values that are searched.
        budget: Section ``[budget]``.
        limits: Section ``[limits]``.
        search: Section ``[search]``.
        objective: Section ``[objective]``.
        storage: Section ``[storage]``.
        track: Section ``[track]``.
    """

    name: str
    family: str
    resolution: Annotated[int, Field(ge=16, le=4096)]
    parameters: dict[str, Any] = Field(default_factory=dict, validate_default=True)
    dataset: DatasetConfig
    recipe: Recipe = Recipe()
    recipe_ranges: dict[str, RecipeRange] = Field(default_factory=dict)
    budget: Budget
    limits: LimitsConfig = LimitsConfig()
    search: SearchConfig = SearchConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    storage: StorageConfig = StorageConfig()
    track: TrackConfig = TrackConfig()

    @model_validator(mode="before")
    @classmethod
    def _take_ranges(cls, given: Any) -> Any:
        """Tells the recipe's ranges from its values."""
        recipe = given.get("recipe") if isinstance(given, dict) else None
        if not isinstance(recipe, dict):
            return given
        if "recipe_ranges" in given:
            raise ValueError("recipe_ranges is no key; give ranges in recipe")
        ranges = {key: value for key, value in recipe.items() if isinstance(value, dict)}
        fixed = {key: value for key, value in recipe.items() if key not in ranges}
        return {**given, "recipe": fixed, "recipe_ranges": ranges}

    @model_validator(mode="after")
    def _check_recipe_ranges(self) -> Self:
        for key, found in self.recipe_ranges.items():
            if key not in SEARCHABLE:
                raise ValueError(
                    f"recipe.{key} cannot be searched, give it one value; a range may be given to "
                    f"{', '.join(SEARCHABLE)}"
                )
            for end in (found.low, found.high):
                try:
                    Recipe.model_validate({key: end})
                except ValidationError as error:
                    rule = error.errors()[0]["msg"]
                    raise ValueError(f"recipe.{key}: {rule}, but got {end:g}") from None
        if self.search.pruner != "none" and self.recipe.evaluations < MIN_EVALUATIONS:
            raise ValueError(
                f"search.pruner = {self.search.pruner} compares trials at equal shares of their "
                f"budget: recipe.evaluations must be >= {MIN_EVALUATIONS}, but got "
                f"{self.recipe.evaluations}"
            )
        return self

    @field_validator("family")
    @classmethod
    def _is_known(cls, value: str) -> str:
        try:
            find_family(value)
        except InputError as error:
            raise ValueError(str(error).removeprefix("family ")) from None
        return value

    @field_validator("parameters")
    @classmethod
    def _fill_ranges(cls, given: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if "family" not in info.data:
            return given  # that is told already
        family = find_family(info.data["family"])
        for name in given:
            if name not in family.names:
                raise ValueError(
                    f"parameters.{name} is not a parameter of {family.name}, which has "
                    f"{', '.join(family.names)}"
                )
        return {p.name: _narrowed(p, given).range for p in family.parameters}

    @property
    def search_family(self) -> Family:
        """The family itself, for its name."""
        return find_family(self.family)

    @property
    def searched(self) -> tuple[Parameter, ...]:
        """All that is searched: the kernel's parameters, then those beside it, ``recipe.KEY``."""
        kernel = [_narrowed(p, self.parameters) for p in self.search_family.parameters]
        beside = [
            Real(RECIPE_PREFIX + key, r.low, r.high, log=r.log)
            for key, r in self.recipe_ranges.items()
        ]
        return (*kernel, *beside)

    @property
    def ranges(self) -> dict[str, tuple[Any, ...]]:
        """``name -> (low, high)``, or options, of all that is searched."""
        return {p.name: p.range for p in self.searched}

    @property
    def number_ranges(self) -> dict[str, tuple[float, float]]:
        """``name -> (low, high)`` of the numbers that stand for what is searched."""
        numbers = {p.name: [p.number(end) for end in p.range] for p in self.searched}
        return {name: (min(ends), max(ends)) for name, ends in numbers.items()}

    def as_numbers(self, parameters: Mapping[str, Any]) -> dict[str, float]:
        """Parameters with numbers in place of their choices' options: what figures can draw."""
        known = {p.name: p for p in self.searched}
        return {
            n: known[n].number(v) if n in known and known[n].holds(v) else v
            for n, v in parameters.items()
        }

    def as_values(self, numbers: Mapping[str, float]) -> dict[str, Any]:
        """The inverse of ``as_numbers``."""
        known = {p.name: p for p in self.searched}
        return {n: known[n].value(v) if n in known else v for n, v in numbers.items()}

    def recipe_of(self, parameters: Mapping[str, Any]) -> Recipe:
        """The recipe of one trial: the file's, with the values that were proposed for it."""
        found = {key: float(parameters[RECIPE_PREFIX + key]) for key in self.recipe_ranges}
        return self.recipe.model_copy(update=found)

    def as_of(self, schema: int) -> Self:
        """The definition as a study means it whose settings have this schema.

        What the file leaves out has the defaults of the time when the study began.
        """
        return self.model_copy(update={"recipe": self.recipe.otherwise(_former_defaults(schema))})

    def meaning(self) -> dict[str, Any]:
        """The keys that decide what a trial's value means, flat and dotted, as plain JSON.

        Left out: where images and database lie, how many trials are wanted and who else is told of
        them; those may change while a study runs.
        """
        free = {
            "name", "dataset.root", "dataset.download", "dataset.placement", "search.trials",
            "storage.url", "track.tensorboard", "track.mlflow",
        }  # fmt: skip
        flat = _flatten(self.model_dump(mode="json"))
        return {key: value for key, value in flat.items() if key not in free}


def _narrowed(parameter: Parameter, given: Mapping[str, Any]) -> Parameter:
    """A family's parameter as a study file restricts it, if it does."""
    return parameter.narrowed(given[parameter.name]) if parameter.name in given else parameter


def _former_defaults(schema: int) -> dict[str, Any]:
    """The recipe's defaults of a schema that are others today."""
    found: dict[str, Any] = {}
    for last in sorted(_FORMER_DEFAULTS, reverse=True):
        if schema <= last:
            found |= _FORMER_DEFAULTS[last]
    return found


def default_meaning(schema: int) -> dict[str, Any]:
    """What a study means by the keys that it does not know, since it began before they were.

    So a new key's default must stand for what was done without it. Where a default changes, the
    schema of ``Settings`` does, and what it was before stays in ``_FORMER_DEFAULTS``.

    Args:
        schema: Of the study's settings.
    """
    return _flatten(
        {
            "recipe": Recipe().otherwise(_former_defaults(schema)).model_dump(mode="json"),
            "limits": LimitsConfig().model_dump(mode="json"),
            "search": SearchConfig().model_dump(mode="json"),
            "objective": ObjectiveConfig().model_dump(mode="json"),
        }
    )


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
