"""What a study file says, as checked and frozen data; each section's keys are one class here.

``studies/README.md`` documents every key for users; a test holds the two together.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self, get_args

from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from betanas.architecture.families import find_family
from betanas.architecture.family import Family, largest_stochastic_depth
from betanas.errors import InputError
from betanas.parameters import Parameter
from betanas.study.agreement import check_sections
from betanas.study.amounts import longer_budget
from betanas.study.meaning import flatten, former_defaults
from betanas.study.ranges import check_priors, take_apart, with_prior
from betanas.study.recipe import (
    BATCH_SIZE,
    RECIPE_PREFIX,
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
    LimitsConfig,
    ObjectiveConfig,
    ObjectiveName,
    OneShotConfig,
    SearchConfig,
    StorageConfig,
    TrackConfig,
)


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
    def _agrees(self) -> Self:
        check_priors(self.priors, self.search_family, self.parameters)
        check_sections(self)
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

    @property
    def is_one_shot(self) -> bool:
        """Whether a supernet chooses the networks."""
        return self.search.strategy == "one-shot"

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
            RECIPE_PREFIX + key: recipe_value(key, min(max(self._own(key), r.low), r.high))
            for key, r in self.recipe_ranges.items()
        }

    def _own(self, key: str) -> float:
        """What a training takes for a recipe's key; where it is not given, its default."""
        if key == "warm_up":
            return self.recipe.warm_up_share
        value = getattr(self.recipe, key)
        if value is None and key == "stochastic_depth":
            return largest_stochastic_depth(self.search_family, self.resolution)
        return float(value or 0)

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
    def smallest_batch(self) -> int:
        """Likewise, the fewest."""
        searched = self.recipe_ranges.get(BATCH_SIZE)
        return self.recipe.batch_size if searched is None else int(searched.low)

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
                "recipe": self.recipe.otherwise(former_defaults("recipe", schema)),
                "search": self.search.otherwise(former_defaults("search", schema)),
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
        flat = flatten(self.model_dump(mode="json"))
        return {key: value for key, value in flat.items() if key not in free}


def _narrowed(parameter: Parameter, given: Mapping[str, Any]) -> Parameter:
    """A family's parameter as a study file restricts it, if it does."""
    return parameter.narrowed(given[parameter.name]) if parameter.name in given else parameter
