"""What a study file says, as checked and frozen data; each section's keys are one class here.

``studies/README.md`` documents every key for users; a test holds the two together.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self, get_args

from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from betanas.architecture.families import find_family
from betanas.architecture.family import Family
from betanas.architecture.mbconv import MBCONV
from betanas.architecture.supernet import fixed_shape, gate_states
from betanas.errors import InputError
from betanas.parameters import Parameter
from betanas.study.amounts import longer_budget
from betanas.study.ranges import check_priors, take_apart, with_prior
from betanas.study.recipe import (
    BATCH_SIZE,
    RECIPE_PREFIX,
    SEARCHABLE,
    Budget,
    DatasetConfig,
    LatencyConfig,
    PriorConfig,
    Recipe,
    RecipeRange,
    Section,
    recipe_value,
    searched_value,
)
from betanas.study.sections import (
    ACCURACY,
    LATENCY,
    MIN_EVALUATIONS,
    UNTRAINED,
    LimitsConfig,
    ObjectiveConfig,
    ObjectiveName,
    OneShotConfig,
    SearchConfig,
    StorageConfig,
    TrackConfig,
)

# Defaults that have changed since, by section and by the last schema of a study's settings that had
# them: a study keeps the meaning that it began with.
_FORMER_DEFAULTS: dict[str, dict[int, dict[str, Any]]] = {
    "recipe": {1: {"gradient_compression": "fp16", "evaluate_every_epochs": 1, "evaluations": 0}},
    "search": {2: {"sampler": "gp"}},
}


class StudyDefinition(Section):
    """A whole study file, checked; every key that was left out has its default.

    Attributes:
        name: The file's stem: the study's name in its database.
        family: Which family's kernels to search.
        resolution: Input side of the networks in pixels.
        objectives: Names of a trial's values, the accuracy first: that is to rise, all others to
            fall.
        parameters: ``name -> (low, high)``, or options, in the family's order; low = high, or one
            option, fixes a parameter.
        priors: ``name -> mean and std`` of those that the first phase does not draw evenly.
        dataset: Section ``[dataset]``.
        recipe: Section ``[recipe]``; a value that is searched has its default here.
        recipe_ranges: ``key -> range`` of the recipe values that are searched.
        budget: Section ``[budget]``.
        limits: Section ``[limits]``.
        search: Section ``[search]``.
        oneshot: Section ``[oneshot]``.
        objective: Section ``[objective]``.
        latency: Section ``[latency]``.
        storage: Section ``[storage]``.
        track: Section ``[track]``.
    """

    name: str
    family: str
    resolution: Annotated[int, Field(ge=16, le=4096)]
    objectives: Annotated[tuple[ObjectiveName, ...], Field(strict=False)] = (ACCURACY,)
    parameters: dict[str, Any] = Field(default_factory=dict, validate_default=True)
    priors: dict[str, PriorConfig] = Field(default_factory=dict)
    dataset: DatasetConfig
    recipe: Recipe = Recipe()
    recipe_ranges: dict[str, RecipeRange] = Field(default_factory=dict)
    budget: Budget
    limits: LimitsConfig = LimitsConfig()
    search: SearchConfig = SearchConfig()
    oneshot: OneShotConfig = OneShotConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    latency: LatencyConfig = LatencyConfig()
    storage: StorageConfig = StorageConfig()
    track: TrackConfig = TrackConfig()

    @model_validator(mode="before")
    @classmethod
    def _take_apart(cls, given: Any) -> Any:
        return take_apart(given) if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _check_priors(self) -> Self:
        check_priors(self.priors, self.search_family, self.parameters)
        return self

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
                    Recipe.model_validate({key: recipe_value(key, end)})
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

    @model_validator(mode="after")
    def _check_stochastic_depth(self) -> Self:
        searched, recipe = self.recipe_ranges, self.recipe
        given = "stochastic_depth" in searched or recipe.stochastic_depth is not None
        if given and not self.search_family.has_layers:
            raise ValueError(
                "recipe.stochastic_depth drops residual branches of layers, but family "
                f"{self.family} has none; leave it out"
            )
        shaped = "stochastic_depth_power" in searched or recipe.stochastic_depth_power != 1
        if shaped and not given:
            raise ValueError(
                "recipe.stochastic_depth_power shapes recipe.stochastic_depth, which is not given; "
                "give that, too"
            )
        return self

    @field_validator("objectives", mode="before")
    @classmethod
    def _are_listed(cls, given: Any) -> Any:
        known = ", ".join(get_args(ObjectiveName))
        if not isinstance(given, list | tuple):
            raise ValueError(f"must be a list of {known}, but got {given!r}")  # noqa: TRY004
        if unknown := [name for name in given if name not in get_args(ObjectiveName)]:
            raise ValueError(f"must be among {known}, but got {unknown[0]!r}")
        if list(given[:1]) != [ACCURACY] or len(set(given)) < len(given):
            raise ValueError(
                f"must name accuracy first and each objective once, but got {', '.join(given)}"
            )
        return given

    @model_validator(mode="after")
    def _check_objectives(self) -> Self:
        if len(self.objectives) == 1:
            return self
        several = f"objectives = {', '.join(self.objectives)}"
        if self.search.pruner != "none":
            raise ValueError(
                f"search.pruner must be none with {several}, but got {self.search.pruner}: Optuna "
                "prunes trials of one objective only"
            )
        if self.search.sampler == "cmaes":
            raise ValueError(
                f"search.sampler = cmaes searches one objective, but got {several}; take "
                "botorch, tpe, nsga2, evolution, local, reinforce or random"
            )
        if self.search.warm_start is not None:
            raise ValueError(
                f"search.warm_start = {self.search.warm_start} guesses values of one objective, "
                f"but got {several}; leave it out, or take accuracy alone"
            )
        if self.objective.latency_weight:
            raise ValueError(
                f"objective.latency_weight puts the latency into one value, but got {several}; "
                "leave out the one or the other"
            )
        return self

    @model_validator(mode="after")
    def _check_finals(self) -> Self:
        if self.search.finals in (None, "none"):
            return self
        asked = f"search.finals = {self.search.finals}"
        if self.objective.name in UNTRAINED:
            raise ValueError(
                f"{asked} trains the best for longer, but objective.name = {self.objective.name} "
                "trains nothing; leave the one or the other out"
            )
        if len(self.objectives) > 1:
            raise ValueError(
                f"{asked} looks for the one best network, but got objectives = "
                f"{', '.join(self.objectives)}; leave it out, or take accuracy alone"
            )
        try:
            longer_budget(self.search.finals, self.budget)
        except ValueError as error:
            raise ValueError(f"search.finals {error}") from None
        return self

    @model_validator(mode="after")
    def _check_one_shot(self) -> Self:
        if not self.is_one_shot:
            return self
        for key, value, allowed in (
            ("family", self.family, MBCONV.name),
            ("objective.name", self.objective.name, "train"),
            ("objectives", ", ".join(self.objectives), ACCURACY),
            ("search.start", ", ".join(self.search.start) or "none", "none"),
            ("search.prefilter", self.search.prefilter, "none"),
            ("limits.latency_ms", self.limits.latency_ms, None),
            ("ranges in recipe", ", ".join(self.recipe_ranges) or "none", "none"),
        ):
            if value != allowed:
                raise ValueError(
                    f"search.strategy = one-shot needs {key} = {allowed or 'none'}, but got {value}"
                )
        if self.recipe.optimizer == "muon":
            raise ValueError(
                "recipe.optimizer = muon rescales the weights by which a supernet chooses; take "
                "adam, adamw, sgd or rmsprop for search.strategy = one-shot"
            )
        try:
            fixed_shape(self.parameters)
        except InputError as error:
            raise ValueError(str(error)) from None
        if all(len(self.parameters[p.name]) == 1 for p in MBCONV.parameters[len(MBCONV.shape) :]):
            raise ValueError(
                "search.strategy = one-shot needs a block to choose, but [parameters] fixes all"
            )
        for name in MBCONV.names[len(MBCONV.shape) :] if self._has_superkernels else ():
            try:
                gate_states(self.parameters[name])
            except InputError as error:
                raise ValueError(f"parameters.{name} {error}") from None
        return self

    @property
    def is_one_shot(self) -> bool:
        """Whether a supernet chooses the networks."""
        return self.search.strategy == "one-shot"

    @property
    def _has_superkernels(self) -> bool:
        return self.oneshot.method == "single-path"

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
        return family.settled({p.name: _narrowed(p, given).range for p in family.parameters})

    @model_validator(mode="after")
    def _check_latency_limit(self) -> Self:
        limit = f"limits.latency_ms = {self.limits.latency_ms}"
        if self.limits.latency_ms is None:
            return self
        if not self.search_family.has_layers:
            raise ValueError(
                f"{limit} needs networks of layers, whose operators can be timed, but family "
                f"{self.family} has others; leave the limit out"
            )
        if self.objective.name != "train":
            raise ValueError(
                f"{limit} needs objective.name = train, whose networks are timed where they train, "
                f"but got {self.objective.name}; leave the limit out"
            )
        return self

    @model_validator(mode="after")
    def _check_start(self) -> Self:
        family = self.search_family
        if not set(self.search.start) <= set(family.members):
            known = ", ".join(family.members) or "none"
            wrong = ", ".join(n for n in self.search.start if n not in family.members)
            raise ValueError(
                f"search.start must name members of {family.name}, which are {known}, "
                f"but got {wrong}"
            )
        for name in self.search.start:
            try:
                family.vector(family.members[name], self.parameters)
            except InputError as error:
                rule = str(error).removeprefix("kernel.")
                raise ValueError(
                    f"search.start: {name} lies outside [parameters], {rule}; widen the range or "
                    "leave the name out"
                ) from None
        return self

    @property
    def finals(self) -> Budget | None:
        """How long the network is to train that the finals look for; None without finals."""
        if self.search.finals in (None, "none"):
            return None
        return longer_budget(self.search.finals, self.budget)

    @property
    def start(self) -> list[dict[str, Any]]:
        """What the search tries first: the members of ``search.start`` with the file's recipe."""
        members = self.search_family.members
        return [dict(members[name]) | self.beside for name in self.search.start]

    @property
    def beside(self) -> dict[str, Any]:
        """The file's own recipe, of the values that are searched beside the kernel."""
        return {
            RECIPE_PREFIX + key: recipe_value(
                key, min(max(float(getattr(self.recipe, key) or 0), r.low), r.high)
            )
            for key, r in self.recipe_ranges.items()
        }

    @property
    def measured_latency(self) -> LatencyConfig | None:
        """How a trial is to measure its latency; None where nothing asks for it."""
        wanted = LATENCY in self.objectives or self.objective.latency_weight > 0
        limited = self.limits.latency_ms is not None
        return self.latency if wanted or limited or self.is_one_shot else None

    @property
    def search_family(self) -> Family:
        """The family itself, for its name."""
        return find_family(self.family)

    @property
    def searched(self) -> tuple[Parameter, ...]:
        """All that is searched: the kernel's parameters, then those beside it, ``recipe.KEY``."""
        kernel = [
            with_prior(_narrowed(p, self.parameters), self.priors.get(p.name))
            for p in self.search_family.parameters
        ]
        beside = [searched_value(key, r) for key, r in self.recipe_ranges.items()]
        return (*kernel, *beside)

    @property
    def largest_batch(self) -> int:
        """Images of a training step on one device, the most of any trial."""
        searched = self.recipe_ranges.get(BATCH_SIZE)
        return self.recipe.batch_size if searched is None else int(searched.high)

    @property
    def ranges(self) -> dict[str, tuple[Any, ...]]:
        """``name -> (low, high)``, or options, of all that is searched."""
        return {p.name: p.range for p in self.searched}

    def recipe_of(self, parameters: Mapping[str, Any]) -> Recipe:
        """The recipe of one trial: the file's, with the values that were proposed for it."""
        found = {
            key: recipe_value(key, parameters[RECIPE_PREFIX + key]) for key in self.recipe_ranges
        }
        return self.recipe.model_copy(update=found)

    def as_of(self, schema: int) -> Self:
        """The definition as a study means it whose settings have this schema.

        What the file leaves out has the defaults of the time when the study began.
        """
        return self.model_copy(
            update={
                "recipe": self.recipe.otherwise(_former_defaults("recipe", schema)),
                "search": self.search.otherwise(_former_defaults("search", schema)),
            }
        )

    def meaning(self) -> dict[str, Any]:
        """The keys that decide what a trial's value means, flat and dotted, as plain JSON.

        Left out: where images and database lie, how many trials are wanted, what is trained again
        after them and who else is told of them; those may change while a study runs. What another
        study told (``jobs/warm_start.py``) is recorded when it begins, and holds without the key.
        """
        free = {
            "name", "dataset.root", "dataset.download", "dataset.placement", "search.trials",
            "search.finals", "search.finals_share", "search.warm_start", "storage.url",
            "track.tensorboard", "track.mlflow",
        }  # fmt: skip
        flat = _flatten(self.model_dump(mode="json"))
        return {key: value for key, value in flat.items() if key not in free}


def _narrowed(parameter: Parameter, given: Mapping[str, Any]) -> Parameter:
    """A family's parameter as a study file restricts it, if it does."""
    return parameter.narrowed(given[parameter.name]) if parameter.name in given else parameter


def _former_defaults(section: str, schema: int) -> dict[str, Any]:
    """A section's defaults of a schema that are others today."""
    changed, found = _FORMER_DEFAULTS[section], dict[str, Any]()
    for last in sorted(changed, reverse=True):
        if schema <= last:
            found |= changed[last]
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
            "recipe": Recipe()
            .otherwise(_former_defaults("recipe", schema))
            .model_dump(mode="json"),
            "limits": LimitsConfig().model_dump(mode="json"),
            "search": SearchConfig()
            .otherwise(_former_defaults("search", schema))
            .model_dump(mode="json"),
            "oneshot": OneShotConfig().model_dump(mode="json"),
            "objective": ObjectiveConfig().model_dump(mode="json"),
            "objectives": [ACCURACY],
            "latency": LatencyConfig().model_dump(mode="json"),
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
