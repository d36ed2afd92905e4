"""What was decided once, when a study began, and what is refused to go on with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from betanas.cores import multiplies_bf16
from betanas.data import DatasetFacts
from betanas.errors import StorageError
from betanas.study.definition import StudyDefinition
from betanas.study.feasibility import memory_bytes
from betanas.study.meaning import default_meaning
from betanas.study.recipe import Recipe
from betanas.trial import TrialRecord

if TYPE_CHECKING:  # reading a study needs no torch
    from betanas.devices.find import Devices

# 1 knew neither device nor ranks; 1 and 2 had other defaults, up to 3 a memory limit counted other
# bytes: see study/meaning.py
SCHEMA = 4


@dataclass(frozen=True, slots=True)
class Settings:
    """What was decided once, when the study began; every worker since then obeys it.

    Attributes:
        meaning: The study file's keys that decide what a value means.
        classes: Class names in label order.
        dataset_fingerprint: Of the images.
        memory_bytes: Limit of a training step, ``auto`` resolved; None for no limit.
        scaled_memory_bytes: The same at the second resolution.
        device: ``cpu`` or ``cuda``; None in a study older than this record.
        ranks: Processes that train each trial, on all machines together; None likewise.
        precision: What ``recipe.precision`` of a study on CPUs is, or on GPUs without bf16; None on
            others, where it goes by the size of a batch, and in a study older than this record.
        cores: Processor cores of a worker of a study on CPUs when it began; None likewise.
        operators: ``OperatorTable`` of training steps as JSON; empty until it is measured, before
            the first proposal that learns from trials; None if it is not to be.
        answering: Likewise of the answers whose latency counts, measured when the study began.
        warm_start: ``WarmStart`` as JSON: what another study told this one; None for none.
        schema: Of this record.
    """

    meaning: Mapping[str, Any]
    classes: tuple[str, ...]
    dataset_fingerprint: str
    memory_bytes: int | None
    scaled_memory_bytes: int | None
    device: str | None = None
    ranks: int | None = None
    precision: str | None = None
    cores: int | None = None
    operators: Mapping[str, Any] | None = None
    answering: Mapping[str, Any] | None = None
    warm_start: Mapping[str, Any] | None = None
    schema: int = SCHEMA

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``from_json`` gives back equal settings."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "classes": list(self.classes),
            "meaning": dict(self.meaning),
        }

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of a trial's values, the accuracy first."""
        return tuple((default_meaning(self.schema) | dict(self.meaning))["objectives"])

    def trained(self, recipe: Recipe, device: str) -> Recipe:
        """The recipe as the study trains it: ``auto`` is what it was when the study began.

        Args:
            recipe: The study file's.
            device: ``cpu`` or ``cuda``, where it trains.
        """
        found = self.precision or ("float32" if device == "cpu" else "auto")
        if recipe.precision != "auto":
            return recipe
        return recipe.model_copy(update={"precision": found})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuilds what ``to_json`` wrote."""
        return cls(**{**data, "classes": tuple(data["classes"])})


def new_settings(definition: StudyDefinition, facts: DatasetFacts, devices: "Devices") -> Settings:
    """Resolves what a study decides when it begins."""
    scaled = definition.limits.scaled
    return Settings(
        meaning=definition.meaning(),
        classes=facts.classes,
        dataset_fingerprint=facts.fingerprint,
        memory_bytes=memory_bytes(definition.limits.memory_gib, devices.memory_bytes),
        scaled_memory_bytes=(
            memory_bytes(scaled.memory_gib, devices.memory_bytes) if scaled else None
        ),
        device=devices.kind,
        ranks=devices.nproc_per_node * devices.nnodes,
        precision=precision_here(definition, devices),
        cores=devices.cores if devices.kind == "cpu" else None,
    )


def precision_here(definition: StudyDefinition, devices: "Devices") -> str | None:
    """In which numbers a study that begins is to train; None where that goes by the batch.

    Workers on other devices of the kind then compute in the same numbers, if more slowly.
    """
    if devices.kind == "cpu":
        here = multiplies_bf16()
        return definition.recipe.numbers("cpu", definition.resolution, cpu_has_bf16=here)
    automatic = definition.recipe.precision == "auto"
    return "float32" if automatic and not devices.has_bf16 else None


def other_cores(begun: Settings, fresh: Settings) -> str | None:
    """What is to be said, once, of a worker that has other cores than those the study began with.

    It is not refused: a recipe learns the same in so many steps, but a budget in seconds pays for
    more or fewer of them.

    Args:
        begun: What was decided when the study began.
        fresh: What would be decided if it began here and now.
    """
    if None in (begun.cores, fresh.cores, begun.meaning.get("budget.seconds")):
        return None
    if begun.cores == fresh.cores:
        return None
    return (
        f"note: the study began with {_cores(begun.cores)} a worker, now it is "
        f"{_cores(fresh.cores)}: {begun.meaning['budget.seconds']:g} s of training are not the "
        "same as before; images_per_second of each trial tells by how much"
    )


def refuse_change(
    study: str, begun: Settings, fresh: Settings, records: Sequence[TrialRecord]
) -> None:
    """Raises StorageError if trials would from now on mean another thing than those before.

    Args:
        study: Its name, for the message.
        begun: What was decided when it began.
        fresh: What would be decided if it began here and now.
        records: Its trials.
    """
    defaults = default_meaning(begun.schema)
    old = defaults | dict(begun.meaning)
    new = defaults | fresh.to_json()["meaning"]
    changed = [
        f"{key} ({old.get(key)} -> {new.get(key)})"
        for key in sorted(old | new)
        if old.get(key) != new.get(key)
    ]
    if begun.dataset_fingerprint != fresh.dataset_fingerprint:
        changed.append("the images of the data set")
    if changed:
        raise StorageError(
            f"study {study} has begun with other settings: {', '.join(changed)}; change them back, "
            "or give the study file another name to begin a new study"
        )
    device, ranks = _trained_on(begun, records)
    if device is None or fresh.device is None:
        return
    if ranks != fresh.ranks or (device != fresh.device and _depends_on_device(new)):
        raise StorageError(
            f"study {study} trains with {_shown(device, ranks)}, and "
            f"{_shown(fresh.device, fresh.ranks)} would change what a trial's value means; go on "
            f"with --device {device} --nproc-per-node {ranks} (of several machines: --nnodes times "
            "--nproc-per-node), or give the study file another name to begin a new study"
        )


def _depends_on_device(meaning: Mapping[str, Any]) -> bool:
    """Whether a value means another thing on another kind of device.

    That decides how much a second is worth, and what ``precision = "auto"`` is.
    """
    return meaning.get("budget.seconds") is not None or meaning.get("recipe.precision") == "auto"


def _trained_on(begun: Settings, records: Sequence[TrialRecord]) -> tuple[str | None, int | None]:
    """Kind of device and number of ranks; in an old study those of its first training."""
    if begun.device is not None:
        return begun.device, begun.ranks
    for audit in (record.audit for record in records):
        if audit.get("ranks"):
            return "cpu" if audit["device"] == "cpu" else "cuda", audit["ranks"]
    return None, None


def _cores(number: int | None) -> str:
    return f"{number} {'core' if number == 1 else 'cores'}"


def _shown(device: str, ranks: int | None) -> str:
    return f"{ranks} {'rank' if ranks == 1 else 'ranks'} on {device}"
