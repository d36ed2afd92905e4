"""From a study's limits to the exact rules, once what ``auto`` means is known."""

import math

from betanas.architecture.limits import Feasibility, Limits
from betanas.architecture.operators import OperatorTable
from betanas.study.definition import StudyDefinition
from betanas.study.sections import MemoryLimit

GIB = 2**30


def memory_bytes(limit: MemoryLimit, device_bytes: int) -> int | None:
    """Resolves a memory limit.

    Args:
        limit: GiB, ``auto`` for the device's, or ``none``.
        device_bytes: What a training step of one rank may plan with on this device.
    """
    if limit == "none":
        return None
    return device_bytes if limit == "auto" else int(limit * GIB)


def study_feasibility(
    definition: StudyDefinition,
    num_classes: int,
    memory: int | None,
    scaled_memory: int | None = None,
    device: str = "cpu",
    operators: OperatorTable | None = None,
    answering: OperatorTable | None = None,
    *,
    formerly: bool = False,
) -> Feasibility:
    """Builds the rules that decide which of a study's kernels may be trained.

    Args:
        definition: The study file; ``auto`` of ``recipe.precision`` is what it is on a GPU that has
            bf16, or on a CPU that does not multiply it.
        num_classes: Of its data set.
        memory: ``limits.memory_gib`` in bytes.
        scaled_memory: ``limits.scaled.memory_gib`` in bytes.
        device: ``cpu`` or ``cuda``: what activations are kept in depends on it.
        operators: Of training steps on the study's device, if they were measured.
        answering: Of answers, likewise.
        formerly: Whether all networks' activations are of the bytes that ``recipe.batch_size``
            images of the study's side lead to, as in studies of ``meaning.NUMBERS_OF_STUDY``.
    """
    bf16_from = definition.recipe.bf16_from(device)
    if formerly:
        numbers = definition.recipe.numbers(device, definition.resolution)
        bf16_from = 0.0 if numbers == "bf16" else math.inf
    limits, scaled = definition.limits, definition.limits.scaled
    return Feasibility(
        family=definition.search_family,
        num_classes=num_classes,
        batch_size=definition.largest_batch,
        optimizer_slots=definition.recipe.optimizer_slots,
        limits=Limits(
            definition.resolution, limits.num_params, memory, limits.macs, limits.latency_ms
        ),
        scaled=Limits(scaled.resolution, scaled.num_params, scaled_memory, growth=scaled.growth)
        if scaled
        else None,
        bf16_from=bf16_from,
        smallest_batch=definition.smallest_batch,
        operators=operators,
        answering=answering,
        answer_images=definition.latency.batch_size,
    )
