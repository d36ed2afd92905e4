"""What ``--model`` may name: a study's trial, a family's published kernel, a network of others."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from betanas.analysis.finals import Finals, finals_of
from betanas.analysis.status import observed_best
from betanas.architecture.decoding import decode
from betanas.architecture.families import family_names, published_members
from betanas.architecture.reference import SMALL_STEM, TIMM, Network, ReferenceModel
from betanas.data import describe_dataset
from betanas.errors import InputError
from betanas.jobs.front import front_of
from betanas.jobs.load import LoadedStudy, load_study, study_options
from betanas.jobs.train import Plan, TrainOptions, training_recipe
from betanas.models.network import check_reference
from betanas.models.references import reference_names
from betanas.study.definition import StudyDefinition
from betanas.study.loading import Overrides, check_study, load_definition
from betanas.study.recipe import kernel_of
from betanas.trial import TrialRecord

_RESOLUTION, _IMAGENET_CLASSES = 224, 1000
_FRONT, _FINAL, _PUBLISHED = "front:", "final", "published"
_SPEC = re.compile(r"(?P<name>.+?)(?::(?P<which>(?:front:)?[^:@/]+))?(?:@(?P<resolution>\d+))?")
_TIMM_SPEC = re.compile(rf"(?P<name>{TIMM}[^@]+)(?:@(?P<resolution>\d+))?")


@dataclass(frozen=True)
class FoundModel:
    """A model that was found by its name.

    Attributes:
        title: For people.
        network: What to build.
        parameters: Of the trial it comes from; they may hold recipe values, too.
    """

    title: str
    network: Network
    parameters: Mapping[str, Any] = field(default_factory=dict)


def plan_training(model: str, options: TrainOptions) -> Plan:
    """Finds a model, and how it is to be trained.

    Args:
        model: ``STUDY:best``, ``STUDY:recommended``, ``STUDY:final`` (the winner of its finals,
            trained as long as they are held for), ``STUDY:published`` (the published kernel of its
            family; the study need not have begun), ``STUDY:NUMBER`` or ``STUDY:front:PLACE`` (a
            place on its Pareto front, from 0, by falling accuracy) with a study's name or file,
            which then gives data set, recipe and resolution, as it has begun with them; the name of
            a family's published kernel; a name of torchvision's, with ``+3x3`` behind it for small
            pictures; or ``timm:NAME`` of timm's. ``@R`` behind it is a resolution.
        options: What else was asked for; it goes before what the study says.

    Raises:
        InputError: If there is no such model, or no data set to train it on.
    """
    study, which, _ = _parse(model)
    if which == _FINAL:
        options = replace(options, budget=_finals(study, options).plan.override)
    note = ""
    if which == _PUBLISHED:
        definition = load_definition(study, options.all_overrides(), options.data)
    elif which:
        begun = load_study(study, options.storage, options.all_overrides(), options.data)
        definition, note = begun.definition, begun.note
    else:
        definition = plain_definition(options)
    classes = describe_dataset(definition.dataset).num_classes
    found = find_model(
        model, definition.resolution, classes, options.storage, options.study_overrides()
    )
    recipe = training_recipe(definition, found.parameters)
    dataset, budget = definition.dataset, definition.budget
    return Plan(model, found.title, found.network, dataset, recipe, budget, options.seed, note=note)


def plan_alike(model: str, first: Plan, resolution: int, storage: str | None) -> Plan:
    """Finds another model, to be trained on the same images in the same way.

    Args:
        model: As for ``plan_training``.
        first: Whose data set, recipe and budget to take.
        resolution: Input side in pixels where the name gives none.
        storage: As ``TrainOptions.storage``.

    Raises:
        InputError: If there is no such model.
    """
    found = find_model(model, resolution, first.network.num_classes, storage)
    return replace(first, name=model, title=found.title, network=found.network)


def find_model(
    model: str,
    resolution: int,
    classes: int,
    storage: str | None,
    overrides: Overrides = (),
) -> FoundModel:
    """Finds a model by its name.

    Args:
        model: As for ``plan_training``.
        resolution: Input side in pixels where the name gives none.
        classes: Outputs of the network.
        storage: The study's database; None for where it is by default.
        overrides: Of the study file's keys.

    Raises:
        InputError: If there is no such model, or it is trivial at this resolution.
    """
    name, which, own = _parse(model)
    resolution = own or resolution
    if which == _PUBLISHED:
        family = load_definition(name, overrides).search_family
        network: Network = decode(family, family.published, resolution, classes)
        return FoundModel(f"{Path(name).stem} published", network)
    if which:
        opened = load_study(name, storage, overrides)
        title, parameters = _chosen(name, which, opened)
        family = opened.definition.search_family
        network = decode(family, kernel_of(parameters), resolution, classes)
        return FoundModel(title, network, parameters)
    if name.startswith(TIMM):
        check_reference(name)
        return FoundModel(name, ReferenceModel(name, resolution, classes))
    published = published_members()
    if name in published:
        network = decode(published[name], published[name].members[name], resolution, classes)
        return FoundModel(f"{name} published", network)
    if name.removesuffix(SMALL_STEM) not in reference_names():
        raise InputError(_no_model(model, name))
    check_reference(name)
    return FoundModel(name, ReferenceModel(name, resolution, classes))


def _no_model(model: str, name: str) -> str:
    """What to say of a name that nothing has."""
    stem, _, behind = name.partition(SMALL_STEM[0])
    known = [*published_members(), *reference_names()]
    if behind:
        known = [f"{plain}{SMALL_STEM}" for plain in difflib.get_close_matches(stem, known, n=3)]
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return (
        "a model must be STUDY:best (recommended, final, front:PLACE, published or a trial's "
        "number in place of best), a published kernel such as plain or efficientnet-b0, a name "
        f"of torchvision's such as mobilenet_v2, or timm:NAME, but got {model!r}{hint}"
    )


def meant_for(model: str, storage: str | None = None, overrides: Overrides = ()) -> tuple[int, int]:
    """Resolution and classes of a model where nothing else says them.

    Those of its study; of a published kernel those it was published for, if they are known; else
    224 and 1,000, as of others' networks.

    Raises:
        InputError: If there is no such study, or its data set is not there.
    """
    name, which, _ = _parse(model)
    if which:
        definition = (
            load_definition(name, overrides)
            if which == _PUBLISHED
            else load_study(name, storage, overrides).definition
        )
        return definition.resolution, describe_dataset(definition.dataset).num_classes
    family = published_members().get(name)
    return (family and family.published_for) or (_RESOLUTION, _IMAGENET_CLASSES)


def _parse(model: str) -> tuple[str, str | None, int | None]:
    """Name, which of a study, and resolution."""
    spec = _TIMM_SPEC if model.startswith(TIMM) else _SPEC
    parts = spec.fullmatch(model)
    if parts is None:
        raise InputError(f"a model must have a name, but got {model!r}")
    own, which = parts["resolution"], parts.groupdict().get("which")
    return parts["name"], which, None if own is None else int(own)


def _chosen(study: str, which: str, opened: LoadedStudy) -> tuple[str, dict[str, Any]]:
    """Title and parameters of one of a study's kernels."""
    records = opened.records()
    if which == "recommended":
        found = opened.recommended()
        if found is None:
            raise InputError(f"study {study} has too few complete trials to recommend a kernel")
        return f"{study} recommended", dict(found.parameters)
    if which == _FINAL:
        chosen = opened.final()
        if chosen is None:
            raise InputError(_no_finals(study))
        return f"{Path(study).stem} final", dict(chosen.parameters)
    if which == "best":
        record = observed_best(records)
        if record is None:
            raise InputError(f"study {study} has no complete trial yet")
    elif which.startswith(_FRONT):
        record = _on_front(study, which.removeprefix(_FRONT), opened)
    elif not which.isdecimal() or int(which) >= len(records):
        raise InputError(
            f"{study}:TRIAL must be best, recommended, final, front:PLACE or a number below "
            f"{len(records)}, "
            f"but got {which!r}"
        )
    else:
        record = records[int(which)]
    if not record.parameters:
        raise InputError(f"trial {which} of study {study} has no kernel yet")
    return f"{Path(study).stem} trial {record.number}", dict(record.parameters)


def _finals(study: str, options: TrainOptions) -> Finals:
    """A study's finals, in which somebody is ahead."""
    found = finals_of(load_study(study, options.storage, options.study_overrides()).stored)
    if found is None or found.winner is None:
        raise InputError(_no_finals(study))
    return found


def _no_finals(study: str) -> str:
    return (
        f"study {study} has no finals with a value; hold them by betanas optimize "
        f"{study_options(study, None)} --finals TIME"
    )


def _on_front(study: str, place: str, opened: LoadedStudy) -> TrialRecord:
    """A trial on the Pareto front, by its place."""
    front = front_of(opened.stored)
    if front is None:
        told = len(opened.stored.objectives)
        raise InputError(
            f"{study}:front:{place} takes a study with several objectives and a complete trial, "
            f"but it has {told} {'objective' if told == 1 else 'objectives'}"
        )
    if not place.isdecimal() or int(place) >= len(front.trials):
        raise InputError(
            f"{study}:front:PLACE must be a number below {len(front.trials)}, but got {place!r}"
        )
    return front.trials[int(place)]


def plain_definition(options: TrainOptions) -> StudyDefinition:
    """What a study file would say that said these options alone.

    Raises:
        InputError: If there is no data set among them, or one of them breaks a rule.
    """
    if options.dataset is None and options.data is None:
        raise InputError(
            "--dataset must be given where no study gives one: digits, cifar10, cifar100 "
            "or fashion-mnist; or --data FOLDER"
        )
    tree: dict[str, Any] = {
        "family": family_names()[0],
        "resolution": _RESOLUTION,
        "recipe": {"preset": "fast"},
    }
    return check_study(tree, "train", options.all_overrides(), options.data, shown="the training")
