"""The operators of a study's networks, timed once and recorded with it.

A proposal is a function of the database alone, so that all workers reckon with the same table: the
one that the first of them has measured, in another process, and remembered for this machine.
Answers are timed when the study begins, for their latency may be limited; training steps, which
only the search's model asks about, before its first proposal: the first trial need not wait.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from betanas.architecture.family import Kernel
from betanas.architecture.layers import Architecture, LayerTable
from betanas.arrays import FloatArray
from betanas.cores import available_cores
from betanas.data.locking import exclusive
from betanas.database.settings import Settings
from betanas.database.stored import StoredStudy
from betanas.devices.claims import claimed_gpus
from betanas.errors import RunError
from betanas.search.acquisition import feasible_pool
from betanas.search.plan import study_problem
from betanas.study.definition import StudyDefinition

_LEAST_TRIALS = 4  # whose measured speed corrects what the table says of others
_SAMPLE = 256  # feasible kernels whose networks tell which operators are wanted
_LOCK = "operators.lock"  # in the cache folder
_TOLD = "timing the operators of the study's networks, once: some ten seconds"
_LEAST_SECONDS = 300.0  # of all trainings, for which it pays to time operators first


def with_operators(
    definition: StudyDefinition, settings: Settings, cache: Path, tell: Callable[[str], None]
) -> Settings:
    """A study's settings with what its operators take on this machine, where it asks for that.

    Training steps are to be timed (``note_operators``) for budgets in seconds on CPUs: throughput
    then decides how much a network learns, and GPUs, which replay graphs, are no sum of their
    operators. Answers are timed, here, where their latency counts.

    Args:
        definition: The study file.
        settings: As they are without.
        cache: The folder that remembers measurements.
        tell: Is told, for people, before it takes time.
    """
    if definition.objective.name != "train" or not definition.search_family.has_layers:
        return settings
    if _throughput_counts(definition, settings):
        settings = replace(settings, operators={})
    if (answers := definition.measured_latency) is not None:
        tell(_TOLD)
        how = {
            "device": settings.device or "cpu", "batch_size": answers.batch_size, "bf16": False,
            "trains": False, "threads": answers.threads,
        }  # fmt: skip
        table = _measured(_typical(definition, settings), how, cache)
        settings = replace(settings, answering=table)
    return settings


def note_operators(
    definition: StudyDefinition, stored: StoredStudy, cache: Path, tell: Callable[[str], None]
) -> bool:
    """Times training steps' operators and records them, if the study wants that and lacks it.

    Args:
        definition: The study file.
        stored: Its database.
        cache: The folder that remembers measurements.
        tell: Is told, for people, before it takes time.

    Returns:
        Whether the study's settings have them since now.
    """
    if stored.settings.operators is None or stored.settings.operators:
        return False
    cache.mkdir(parents=True, exist_ok=True)
    with exclusive(cache / _LOCK), stored.alone("operators"):
        stored.read_settings()  # another worker may have measured meanwhile
        if not stored.settings.operators:
            tell(_TOLD)
            how = _steps(definition, stored.settings)
            networks = _typical(definition, stored.settings)
            stored.put_operators(_measured(networks, how, cache))
    return True


def _steps(definition: StudyDefinition, settings: Settings) -> dict[str, Any]:
    """The conditions of a study's training steps."""
    device, recipe = settings.device or "cpu", definition.recipe
    numbers = settings.trained(recipe, device).numbers(device, definition.resolution)
    return {
        "device": device, "batch_size": recipe.batch_size, "bf16": numbers == "bf16",
        "trains": True, "threads": max(1, available_cores() // (settings.ranks or 1)),
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Speed:
    """What a network is expected to do where a study runs.

    Attributes:
        images_per_second: Of a training; None where that was not to be predicted.
        latency_ms: Of an answer; likewise.
    """

    images_per_second: float | None
    latency_ms: float | None

    def __str__(self) -> str:
        found = []
        if self.images_per_second is not None:
            found.append(f"about {self.images_per_second:,.0f} training images/s")
        if self.latency_ms is not None:
            found.append(f"an answer in about {self.latency_ms:.2f} ms")
        return ", ".join(found)


def predicted_speed(
    definition: StudyDefinition, stored: StoredStudy, kernel: Kernel
) -> Speed | None:
    """What the study's operator tables say of a kernel's network, corrected by its trials.

    Args:
        definition: The study file.
        stored: Its database.
        kernel: The family's parameters.

    Returns:
        None for a study whose operators were not timed.
    """
    problem = study_problem(definition, stored.settings)
    family, records = definition.search_family, stored.records()
    whole = [r for r in records if problem.space.holds(r.parameters)]
    rows = [family.vector(kernel), *(family.vector(r.kernel) for r in whole)]
    verdicts = problem.rules.feasibility.check(np.array(rows))
    rates = [r.audit.get("images_per_second") for r in whole]
    paces = [1 / rate if rate else None for rate in rates]
    step = _corrected(verdicts.step_seconds, paces)
    latency = _corrected(verdicts.latency_ms, [r.latency_ms for r in whole])
    if step is None and latency is None:
        return None
    return Speed(1 / step if step else None, latency)


def _corrected(predicted: FloatArray | None, measured: list[float | None]) -> float | None:
    """The first prediction times the median ratio of what was measured to the others."""
    if predicted is None:
        return None
    others = zip(measured, predicted[1:], strict=True)
    ratios = [found / said for found, said in others if found and said > 0]
    factor = float(np.median(ratios)) if len(ratios) >= _LEAST_TRIALS else 1.0
    return float(predicted[0]) * factor


def _throughput_counts(definition: StudyDefinition, settings: Settings) -> bool:
    """Whether a network learns the more the faster it is, and for long enough."""
    seconds = (definition.budget.seconds or 0.0) * definition.search.trials
    return settings.device == "cpu" and seconds >= _LEAST_SECONDS


def _typical(definition: StudyDefinition, settings: Settings) -> list[Architecture]:
    """Networks of feasible kernels from all over the space, and of those that open the search."""
    problem = study_problem(definition, settings)
    found = feasible_pool(problem.space, problem.rules, _SAMPLE, problem.seed).kernels
    kernels = [problem.space.kernel(kernel) for kernel in found]
    return [problem.rules.architecture(kernel) for kernel in (*definition.start, *kernels)]


def _measured(networks: list[Architecture], how: dict[str, Any], cache: Path) -> dict[str, Any]:
    """The table as JSON.

    It is another process that measures: this one computes beside, and is to leave a GPU alone. What
    was measured on this machine's CPU before is looked up here.

    Raises:
        RunError: If that process fails.
    """
    if how["device"] == "cpu":
        # The search's model needs torch next, or soon.
        from betanas.models.operators import Conditions, remembered_operators  # noqa: PLC0415

        table = remembered_operators(LayerTable.of(*networks), Conditions(**how), cache)
        if table is not None:
            return table.to_json()
    request = {"networks": [n.to_json() for n in networks], "how": how, "cache": str(cache)}
    environment = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(how["threads"])}
    done = subprocess.run(
        [sys.executable, "-m", "betanas.models.operators"],
        input=json.dumps(request),
        env={**os.environ, **claimed_gpus(), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        told = (done.stderr.strip() or "no message").splitlines()[-1]
        raise RunError(f"the operators of the study's networks could not be timed: {told}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
