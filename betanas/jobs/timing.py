"""The operators of a study's networks, timed once when it begins and recorded with it.

A proposal is a function of the database alone, so that all workers reckon with the same table: the
one that the first of them has measured, in another process, and remembered for this machine.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from betanas.architecture.layers import Architecture
from betanas.cores import available_cores
from betanas.database.settings import Settings
from betanas.errors import RunError
from betanas.search.plan import study_problem
from betanas.study.definition import StudyDefinition

_SAMPLE = 256  # feasible kernels whose networks tell which operators are wanted
_LEAST_SECONDS = 300.0  # of all trainings, for which it pays to time operators first


def with_operators(
    definition: StudyDefinition, settings: Settings, cache: Path, tell: Callable[[str], None]
) -> Settings:
    """A study's settings with what its operators take on this machine, where it asks for that.

    Training steps are timed for budgets in seconds on CPUs: throughput then decides how much a
    network learns, and GPUs, which replay graphs, are no sum of their operators. Answers are timed
    where their latency counts.

    Args:
        definition: The study file.
        settings: As they are without.
        cache: The folder that remembers measurements.
        tell: Is told, for people, before it takes time.
    """
    trains, answers = _trains_by_seconds(definition, settings), definition.measured_latency
    if not definition.search_family.has_layers or not (trains or answers):
        return settings
    tell("timing the operators of the study's networks, once: some ten seconds")
    networks = _typical(definition, settings)
    device, recipe = settings.device or "cpu", definition.recipe
    if trains:
        numbers = settings.trained(recipe, device).numbers(device, definition.resolution)
        how: dict[str, Any] = {
            "device": device, "batch_size": recipe.batch_size, "bf16": numbers == "bf16",
            "trains": True, "threads": max(1, available_cores() // (settings.ranks or 1)),
        }  # fmt: skip
        settings = replace(settings, operators=_measured(networks, how, cache))
    if answers:
        how = {
            "device": device, "batch_size": answers.batch_size, "bf16": False, "trains": False,
            "threads": answers.threads,
        }  # fmt: skip
        settings = replace(settings, answering=_measured(networks, how, cache))
    return settings


def _trains_by_seconds(definition: StudyDefinition, settings: Settings) -> bool:
    """Whether throughput decides about values, and for long enough."""
    seconds = (definition.budget.seconds or 0.0) * definition.search.trials
    trains = definition.objective.name == "train" and settings.device == "cpu"
    return trains and seconds >= _LEAST_SECONDS


def _typical(definition: StudyDefinition, settings: Settings) -> list[Architecture]:
    """Networks of the first feasible kernels."""
    problem = study_problem(definition, settings)
    kernels = problem.feasible_kernels(_SAMPLE)
    return [problem.rules.architecture(problem.space.kernel(kernel)) for kernel in kernels]


def _measured(networks: list[Architecture], how: dict[str, Any], cache: Path) -> dict[str, Any]:
    """The table as JSON.

    It is another process that measures: this one may have no torch, and is to leave a GPU alone.

    Raises:
        RunError: If that process fails.
    """
    request = {"networks": [n.to_json() for n in networks], "how": how, "cache": str(cache)}
    environment = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(how["threads"])}
    done = subprocess.run(
        [sys.executable, "-m", "betanas.models.operators"],
        input=json.dumps(request),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        told = (done.stderr.strip() or "no message").splitlines()[-1]
        raise RunError(f"the operators of the study's networks could not be timed: {told}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
