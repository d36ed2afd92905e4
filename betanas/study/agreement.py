"""Rules between the sections of a study file; each section's own are in its class."""

from typing import TYPE_CHECKING

from pydantic import ValidationError

from betanas.architecture.mbconv import MBCONV
from betanas.architecture.supernet import fixed_shape, gate_states
from betanas.errors import InputError
from betanas.study.amounts import longer_budget
from betanas.study.recipe import READ_BY, SEARCHABLE, Recipe, recipe_value
from betanas.study.sections import ACCURACY, LATENCY, MIN_EVALUATIONS

if TYPE_CHECKING:
    from betanas.study.definition import StudyDefinition


def check_sections(study: "StudyDefinition") -> None:
    """Raises ValueError, naming key, rule and value, where sections contradict each other."""
    for check in (
        _recipe_ranges,
        _stochastic_depth,
        _objectives,
        _finals,
        _one_shot,
        _latency_limit,
        _start,
    ):
        check(study)


def _recipe_ranges(study: "StudyDefinition") -> None:
    """Ranges in ``[recipe]``, and what a pruner compares."""
    for key, found in study.recipe_ranges.items():
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
    if study.search.pruner != "none" and study.recipe.evaluations < MIN_EVALUATIONS:
        raise ValueError(
            f"search.pruner = {study.search.pruner} compares trials at equal shares of their "
            f"budget: recipe.evaluations must be >= {MIN_EVALUATIONS}, but got "
            f"{study.recipe.evaluations}"
        )


def refuse_unread_ranges(study: "StudyDefinition") -> None:
    """A study begins without ranges of what its optimiser, schedule or networks do not read.

    One that has begun with such a range goes on.

    Raises:
        InputError: With the rule and the cure.
    """
    for key in study.recipe_ranges:
        if key not in READ_BY:
            continue
        chooser, readers = READ_BY[key]
        chosen = getattr(study.recipe, chooser)
        if chosen not in readers:
            raise InputError(
                f"recipe.{key} cannot be searched with recipe.{chooser} = {chosen}, which does not "
                f"read it; give it no range, or take one of {', '.join(readers)}"
            )
    if "auxiliary_weight" in study.recipe_ranges and study.search_family.has_layers:
        raise InputError(
            "recipe.auxiliary_weight cannot be searched: it weighs the loss of an auxiliary head, "
            f"which no network of family {study.family} has; give it no range, or take nasnet"
        )


def _stochastic_depth(study: "StudyDefinition") -> None:
    """It takes a family with residual branches."""
    searched, recipe = study.recipe_ranges, study.recipe
    given = "stochastic_depth" in searched or recipe.stochastic_depth is not None
    if given and not study.search_family.has_layers:
        raise ValueError(
            "recipe.stochastic_depth drops residual branches of layers, but family "
            f"{study.family} has none; leave it out"
        )
    shaped = "stochastic_depth_power" in searched or recipe.stochastic_depth_power != 1
    if shaped and not given:
        raise ValueError(
            "recipe.stochastic_depth_power shapes recipe.stochastic_depth, which is not given; "
            "give that, too"
        )


def _objectives(study: "StudyDefinition") -> None:
    """What several objectives leave out."""
    if len(study.objectives) == 1:
        return
    several = f"objectives = {', '.join(study.objectives)}"
    if study.search.pruner != "none":
        raise ValueError(
            f"search.pruner must be none with {several}, but got {study.search.pruner}: Optuna "
            "prunes trials of one objective only"
        )
    if study.search.sampler == "cmaes":
        raise ValueError(
            f"search.sampler = cmaes searches one objective, but got {several}; take "
            "botorch, tpe, nsga2, evolution, local, reinforce or random"
        )
    if study.search.warm_start is not None:
        raise ValueError(
            f"search.warm_start = {study.search.warm_start} guesses values of one objective, "
            f"but got {several}; leave it out, or take accuracy alone"
        )
    if study.objective.latency_weight:
        raise ValueError(
            f"objective.latency_weight puts the latency into one value, but got {several}; "
            "leave out the one or the other"
        )


def _finals(study: "StudyDefinition") -> None:
    """What is trained for longer, and how long."""
    if study.search.finals in (None, "none"):
        return
    asked = f"search.finals = {study.search.finals}"
    if study.objective.is_untrained:
        raise ValueError(
            f"{asked} trains the best for longer, but objective.name = {study.objective.name} "
            "trains nothing; leave the one or the other out"
        )
    if len(study.objectives) > 1:
        raise ValueError(
            f"{asked} looks for the one best network, but got objectives = "
            f"{', '.join(study.objectives)}; leave it out, or take accuracy alone"
        )
    try:
        longer_budget(study.search.finals, study.budget)
    except ValueError as error:
        raise ValueError(f"search.finals {error}") from None


def _one_shot(study: "StudyDefinition") -> None:
    """What a supernet can search."""
    if not study.is_one_shot:
        return
    for key, value, allowed in (
        ("family", study.family, MBCONV.name),
        ("objective.name", study.objective.name, "train"),
        ("objectives", ", ".join(study.objectives), ACCURACY),
        ("search.start", ", ".join(study.search.start) or "none", "none"),
        ("search.prefilter", study.search.prefilter, "none"),
        ("limits.latency_ms", study.limits.latency_ms, None),
        ("ranges in recipe", ", ".join(study.recipe_ranges) or "none", "none"),
    ):
        if value != allowed:
            raise ValueError(
                f"search.strategy = one-shot needs {key} = {allowed or 'none'}, but got {value}"
            )
    if study.recipe.optimizer == "muon":
        raise ValueError(
            "recipe.optimizer = muon rescales the weights by which a supernet chooses; take "
            "adam, adamw, sgd or rmsprop for search.strategy = one-shot"
        )
    try:
        fixed_shape(study.parameters)
    except InputError as error:
        raise ValueError(str(error)) from None
    if all(len(study.parameters[p.name]) == 1 for p in MBCONV.parameters[len(MBCONV.shape) :]):
        raise ValueError(
            "search.strategy = one-shot needs a block to choose, but [parameters] fixes all"
        )
    superkernels = study.oneshot.method == "single-path"
    for name in MBCONV.names[len(MBCONV.shape) :] if superkernels else ():
        try:
            gate_states(study.parameters[name])
        except InputError as error:
            raise ValueError(f"parameters.{name} {error}") from None


def _latency_limit(study: "StudyDefinition") -> None:
    """What can be timed, and before it is trained."""
    weight = study.objective.latency_weight
    if study.objective.is_untrained and (weight or LATENCY in study.objectives):
        asked = f"objective.latency_weight = {weight:g}" if weight else "objectives with latency"
        raise ValueError(
            f"{asked} needs a trial that measures it, but objective.name = {study.objective.name} "
            "trains nothing; leave the one or the other out"
        )
    limit = f"limits.latency_ms = {study.limits.latency_ms}"
    if study.limits.latency_ms is None:
        return
    if not study.search_family.has_layers:
        raise ValueError(
            f"{limit} needs networks of layers, whose operators can be timed, but family "
            f"{study.family} has others; leave the limit out"
        )
    if study.objective.name != "train":
        raise ValueError(
            f"{limit} needs objective.name = train, whose networks are timed where they train, "
            f"but got {study.objective.name}; leave the limit out"
        )


def _start(study: "StudyDefinition") -> None:
    """Members of the family, inside its ranges."""
    family = study.search_family
    if not set(study.search.start) <= set(family.members):
        known = ", ".join(family.members) or "none"
        wrong = ", ".join(n for n in study.search.start if n not in family.members)
        raise ValueError(
            f"search.start must name members of {family.name}, which are {known}, but got {wrong}"
        )
    for name in study.search.start:
        try:
            family.vector(family.members[name], study.parameters)
        except InputError as error:
            rule = str(error).removeprefix("kernel.")
            raise ValueError(
                f"search.start: {name} lies outside [parameters], {rule}; widen the range or "
                "leave the name out"
            ) from None
