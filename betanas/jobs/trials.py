"""One claimed trial from its kernel to its record, on whatever objective measures it."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from betanas.architecture.complexity import Complexity, count
from betanas.architecture.layers import Architecture
from betanas.architecture.limits import Rejection
from betanas.database.folders import cache_folder
from betanas.database.leases import RENEWAL_SECONDS
from betanas.database.stored import ClaimedTrial, StoredStudy
from betanas.devices.find import Devices
from betanas.errors import InputError, RunError
from betanas.files import is_full
from betanas.objectives import Objective
from betanas.search.plan import StudyProblem
from betanas.search.pruning import Looks, pace
from betanas.study.definition import StudyDefinition
from betanas.study.sections import ACCURACY, LATENCY
from betanas.trial import Failure, Phase, TrainingResult, TrialRecord, TrialTask, left_result

MAX_ATTEMPTS = 3  # workers that one kernel may take down before it is given up


class Reporter(Protocol):
    """Who is told how the search goes."""

    def begins(self, definition: StudyDefinition, stored: StoredStudy, opening: int) -> None:
        """The study is open; ``opening`` trials come before the strategy's first."""

    def proposed(self, record: TrialRecord) -> None:
        """A kernel is about to be trained."""

    def progress(self, news: dict[str, Any]) -> None:
        """The training of ``trial`` told of itself: ``spent``, ``epoch``, ``best``, ...

        Or it is ``gone`` with its worker, or there is a ``note`` for who watches.
        """

    def recorded(self, record: TrialRecord) -> None:
        """A trial has ended and is in the database."""


def trial_values(
    definition: StudyDefinition, number: int, result: TrainingResult, costs: Complexity
) -> tuple[float, ...] | None:
    """A trial's values, in the order of the study's objectives.

    With ``objective.latency_weight`` the one value is the accuracy less the weighted logarithm of
    the latency in milliseconds (the runtime loss of Stamoulis et al., 2019, "Single-Path NAS").

    Args:
        definition: The study file.
        number: The trial's, for the message.
        result: What was measured.
        costs: What was counted.

    Returns:
        None for a trial that has failed or was stopped.

    Raises:
        InputError: If the objective has left out a value, or it is not finite.
    """
    if result.failure is not None or result.stopped:
        return None
    found: dict[str, float | None] = {ACCURACY: result.value, **asdict(costs)}
    found[LATENCY] = None if result.latency is None else result.latency.p50_ms
    wanted = [*definition.objectives, *([LATENCY] if definition.measured_latency else [])]
    values = {name: found[name] for name in wanted}
    for name, value in values.items():
        positive = name != LATENCY or (value or 0.0) > 0
        if value is None or not math.isfinite(value) or not positive:
            raise InputError(
                f"objective.name = {definition.objective.name} must return a finite {name} or a "
                f"failure, but got {value} for trial {number}; the trial is given back, and the "
                "same command goes on once that is mended"
            )
    known = {name: float(value) for name, value in values.items() if value is not None}
    if weight := definition.objective.latency_weight:
        return (known[ACCURACY] - weight * math.log(known[LATENCY]),)
    return tuple(known[name] for name in definition.objectives)


class TrialRunner:
    """Checks, measures and records the trials that a worker has claimed.

    Args:
        definition: The study file.
        stored: Its database.
        problem: What it searches.
        devices: Where to train.
        folder: Where trials leave their files.
        reporter: Who is told.
        prunes: Whether ``search.pruner`` may stop a trial.
    """

    def __init__(
        self,
        definition: StudyDefinition,
        stored: StoredStudy,
        problem: StudyProblem,
        devices: Devices,
        folder: Path,
        reporter: Reporter,
        *,
        prunes: bool,
    ) -> None:
        self._definition = definition
        self._stored = stored
        self._problem = problem
        self._devices = devices
        self._folder = folder
        self._reporter = reporter
        self._prunes = prunes

    def run(
        self,
        claimed: ClaimedTrial,
        parameters: Mapping[str, Any],
        phase: Phase,
        seed_of: Callable[[Architecture], int],
        objective: Objective,
    ) -> bool:
        """Works on one trial until it is in the database.

        Args:
            claimed: The trial.
            parameters: Its kernel, and the recipe's values that are searched beside it.
            phase: Who proposed them.
            seed_of: The seed of the training.
            objective: What measures.

        Returns:
            False if it was not recorded, as another worker has taken it over meanwhile.

        Raises:
            LostLeaseError: The same, before it was measured.
            RunError: If this machine cannot train; the trial is to be given back.
        """
        rules, space = self._problem.rules, self._problem.space
        verdicts = rules.check(space.vector(parameters)[None, :])
        reason = verdicts.reason(0)
        trivial = reason is Rejection.NO_CONTRACTION
        architecture = None if trivial else rules.architecture(parameters)
        self._stored.describe(
            claimed,
            phase,
            verdicts.complexities.row(0),
            architecture.fingerprint if architecture else None,
        )
        if architecture is None or (reason is not None and phase is not Phase.CONFIRM):
            recorded = self._stored.reject(claimed, str(reason))
        else:
            self._reporter.proposed(self._stored.record(claimed.number))
            task = self.task(claimed.number, seed_of(architecture), architecture, parameters)
            if phase is Phase.CONFIRM:
                task = replace(task, latency_limit_ms=None)
            result = self.measure(claimed, task, objective)
            if result.exceeds(task.latency_limit_ms):
                return self._reject_slow(claimed, result)
            values = trial_values(
                self._definition, claimed.number, result, verdicts.complexities.row(0)
            )
            recorded = self._stored.finish(claimed, result, values, self._circumstances())
        if recorded:
            self._reporter.recorded(self._stored.record(claimed.number))
        return recorded

    def _reject_slow(self, claimed: ClaimedTrial, result: TrainingResult) -> bool:
        """Records a network that was timed, and not trained."""
        assert result.latency is not None  # noqa: S101 - what exceeds a limit was measured
        facts = {"latency": asdict(result.latency)}
        recorded = self._stored.reject(claimed, str(Rejection.LATENCY), facts)
        if recorded:
            self._reporter.recorded(self._stored.record(claimed.number))
        return recorded

    def _circumstances(self) -> dict[str, int]:
        """What a trial's throughput depends on beside its network."""
        return {"workers": self._devices.workers, "cores": self._devices.cores}

    def task(
        self, number: int, seed: int, architecture: Architecture, parameters: Mapping[str, Any]
    ) -> TrialTask:
        """What the objective is told of a trial.

        Args:
            number: The trial's.
            seed: Of its training.
            architecture: To be measured.
            parameters: Its kernel, and the recipe's values that are searched beside it.
        """
        return TrialTask(
            number=number,
            seed=seed,
            architecture=architecture,
            dataset=self._definition.dataset,
            recipe=self._stored.settings.trained(
                self._definition.recipe_of(parameters), self._devices.kind
            ),
            budget=self._definition.budget.of_network(count(architecture, batch_size=1).macs),
            nproc_per_node=self._devices.nproc_per_node,
            nnodes=self._devices.nnodes,
            device=self._devices.kind,
            folder=str(self._folder / f"{number:05d}"),
            cache=str(cache_folder(self._folder)),
            latency=self._definition.measured_latency,
            latency_limit_ms=self._definition.limits.latency_ms,
            dataset_fingerprint=self._stored.settings.dataset_fingerprint,
        )

    def fail(self, claimed: ClaimedTrial, phase: Phase, result: TrainingResult) -> bool:
        """Records a trial that has failed before there was a network of its own.

        Returns:
            False if another worker has taken it over meanwhile.
        """
        nothing = Complexity(0, 0, 0)
        self._stored.describe(claimed, phase, nothing, None)
        recorded = self._stored.finish(claimed, result, None, self._circumstances())
        if recorded:
            self._reporter.recorded(self._stored.record(claimed.number))
        return recorded

    def measure(
        self,
        claimed: ClaimedTrial,
        task: TrialTask,
        objective: Objective,
        *,
        prunes: bool = True,
    ) -> TrainingResult:
        """Measures, unless a worker that was killed since has left the very same task's result.

        Args:
            claimed: The trial, whose claim is renewed meanwhile.
            task: What to measure.
            objective: What measures.
            prunes: Whether what it tells on the way is the trial's, for the study's pruner.

        Raises:
            LostLeaseError: If another worker has taken the trial over.
            RunError: If this machine cannot train; the trial is to be given back.
        """
        left = left_result(task)
        if left is not None:
            return left
        renewed = time.monotonic()
        looks = Looks(task.recipe.evaluations, paces=self._definition.search.pruner == "model")

        def follow(news: Mapping[str, Any]) -> None:
            nonlocal renewed
            self._reporter.progress({"trial": task.number, **news})
            if prunes and self._gives_up(claimed, looks, news):
                task.stop()
            if time.monotonic() - renewed > RENEWAL_SECONDS:
                renewed = time.monotonic()
                self._stored.renew(claimed)

        task.go_on()
        while claimed.lease.attempts < MAX_ATTEMPTS:
            try:
                result = objective.run(task, follow)
            except OSError as error:
                if not is_full(error):
                    raise
                result = TrainingResult(None, Failure.DISK_FULL, str(error))
            if result.failure is None or result.failure.blames_kernel:
                return result
            if result.failure.ends_worker:
                raise RunError(
                    f"trial {task.number} cannot train here: {result.failure}, {result.message}; "
                    "the trial is given back, and the same command goes on once that is mended"
                )
            told = f"trial {task.number}: {result.failure}, {result.message}; it is tried again"
            self._reporter.progress({"trial": task.number, "note": told})
            claimed = self._stored.count_attempt(claimed)
        message = f"its processes were killed or hung {claimed.lease.attempts} times"
        return TrainingResult(None, Failure.KILLED, message)

    def _gives_up(self, claimed: ClaimedTrial, looks: Looks, news: Mapping[str, Any]) -> bool:
        """Whether the study's pruner ends a trial for what it has just told."""
        percent = looks.percent(news) if self._prunes else None
        if percent is None:
            return False
        gives_up = self._stored.report(claimed, percent, news.get("best"), pace(news))
        return gives_up and percent < 100
