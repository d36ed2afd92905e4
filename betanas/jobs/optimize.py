"""The search: propose, check, train, record, until enough trials are complete.

Any process may be killed at any line of this file; the next ``optimize`` goes on from the database.
"""

import errno
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from betanas.architecture.decoding import decode
from betanas.architecture.layers import Architecture
from betanas.architecture.limits import Rejection
from betanas.data import DatasetFacts, describe_dataset
from betanas.database.connect import sqlite_file
from betanas.database.leases import RENEWAL_SECONDS, LostLeaseError
from betanas.database.settings import Settings
from betanas.database.stored import ClaimedTrial, StoredStudy
from betanas.devices.find import Devices, find_devices
from betanas.errors import InputError, NoStudyError, RunError
from betanas.launcher.client import TrainerServer
from betanas.launcher.following import Follower
from betanas.launcher.leading import LeadingTrainer
from betanas.launcher.link import introduction
from betanas.launcher.rendezvous import Node
from betanas.search.plan import sobol_phase
from betanas.search.pruning import PRUNERS
from betanas.search.sampler import KernelSampler
from betanas.study.definition import Recipe, StudyDefinition, kernel_of
from betanas.study.feasibility import memory_bytes
from betanas.trial import (
    STOP_FILE,
    Failure,
    Phase,
    TrainingResult,
    TrialRecord,
    TrialTask,
    left_result,
)

MAX_ATTEMPTS = 3  # workers that one kernel may take down before it is given up
MAX_FAILURES = 5  # trainings in a row that may fail before anything was learnt


class Reporter(Protocol):
    """Who is told how the search goes."""

    def begins(self, definition: StudyDefinition, stored: StoredStudy, sobol: int) -> None:
        """The study is open; its Sobol phase takes ``sobol`` trials."""

    def proposed(self, record: TrialRecord) -> None:
        """A kernel is about to be trained."""

    def progress(self, news: dict[str, Any]) -> None:
        """The training told of itself: ``spent``, ``epoch``, ``best``, ..."""

    def recorded(self, record: TrialRecord) -> None:
        """A trial has ended and is in the database."""


class Search:
    """One worker of a study.

    Args:
        definition: The study file.
        stored: Its database.
        devices: Where to train.
        folder: Where trials leave their files.
        reporter: Who is told.
    """

    def __init__(
        self,
        definition: StudyDefinition,
        stored: StoredStudy,
        devices: Devices,
        folder: Path,
        reporter: Reporter,
    ) -> None:
        self._definition = definition
        self._stored = stored
        self._devices = devices
        self._folder = folder
        self._reporter = reporter
        self._sobol = sobol_phase(definition, stored.settings)
        search = definition.search
        self._sampler = KernelSampler(self._sobol, search.seed, search.sampler)
        stored.study.sampler = self._sampler
        stored.study.pruner = PRUNERS[search.pruner]()

    def run(self, trainer: TrainerServer, more_trials: int | None) -> None:
        """Works until the study's target is met, or ``more_trials`` trials of any kind are added.

        Raises:
            RunError: If trainings fail one after the other and none ever succeeded.
        """
        self._reporter.begins(self._definition, self._stored, self._sobol.length)
        done = 0
        while True:
            records = self._stored.records()
            if done:
                self._check_failures(records)
            if self._is_done(records, done, more_trials):
                return
            claimed = self._stored.claim()
            try:
                done += self._work_on(claimed, trainer)
            except LostLeaseError:
                continue  # another worker's by now
            except BaseException:
                self._stored.release(claimed)
                raise

    def _is_done(self, records: Sequence[TrialRecord], done: int, more_trials: int | None) -> bool:
        if more_trials is not None:
            return done >= more_trials
        return sum(r.counts for r in records) >= self._definition.search.trials

    def _work_on(self, claimed: ClaimedTrial, trainer: TrainerServer) -> bool:
        """Proposes (unless an earlier worker has), checks, trains and records one trial.

        Returns:
            False if it was not recorded, as another worker has taken it over meanwhile.

        Raises:
            LostLeaseError: The same, before its training.
        """
        space = self._sobol.space
        learns = self._sampler.phase(claimed.number) is not Phase.SOBOL
        kernel = self._stored.kernel(claimed, space.distributions, learns=learns)
        rules = self._sobol.feasibility
        verdicts = rules.check(space.architectural(space.vector(kernel)[None, :]))
        reason = verdicts.reason(0)
        architecture = None
        if reason is not Rejection.NO_CONTRACTION:
            architecture = decode(
                rules.family, kernel_of(kernel), rules.limits.resolution, rules.num_classes
            )
        self._stored.describe(
            claimed,
            self._sampler.phase(claimed.number),
            verdicts.complexities.row(0),
            architecture.fingerprint if architecture else None,
        )
        if reason is not None or architecture is None:
            recorded = self._stored.reject(claimed, str(reason))
        else:
            self._reporter.proposed(self._record(claimed.number))
            seed = trial_seed(self._definition.search.seed, claimed.number)
            recipe = self._definition.recipe_of(kernel)
            task = self._task(claimed.number, seed, architecture, recipe)
            recorded = self._stored.finish(claimed, self._train(claimed, task, trainer))
        if recorded:
            self._reporter.recorded(self._record(claimed.number))
        return recorded

    def _task(
        self, number: int, seed: int, architecture: Architecture, recipe: Recipe
    ) -> TrialTask:
        """What the ranks of a trial are told."""
        return TrialTask(
            number=number,
            seed=seed,
            architecture=architecture,
            dataset=self._definition.dataset,
            recipe=recipe,
            budget=self._definition.budget,
            nproc_per_node=self._devices.nproc_per_node,
            nnodes=self._devices.nnodes,
            device=self._devices.kind,
            folder=str(self._folder / f"{number:05d}"),
            cache=str(cache_folder(self._folder)),
        )

    def _train(
        self, claimed: ClaimedTrial, task: TrialTask, trainer: TrainerServer
    ) -> TrainingResult:
        """Trains, unless a worker that was killed since has left the very same task's result."""
        left = left_result(task)
        if left is not None:
            return left
        renewed = time.monotonic()

        def follow(news: dict[str, Any]) -> None:
            nonlocal renewed
            self._reporter.progress(news)
            if self._gives_up(claimed, task, news):
                (Path(task.folder) / STOP_FILE).touch()
            if time.monotonic() - renewed > RENEWAL_SECONDS:
                renewed = time.monotonic()
                self._stored.renew(claimed)

        while claimed.lease.attempts < MAX_ATTEMPTS:
            try:
                result = trainer.run(task, follow)
            except OSError as error:
                if error.errno != errno.ENOSPC:
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
            self._reporter.progress({"note": told})
            claimed = self._stored.count_attempt(claimed)
        message = f"its processes were killed or hung {claimed.lease.attempts} times"
        return TrainingResult(None, Failure.KILLED, message)

    def _gives_up(self, claimed: ClaimedTrial, task: TrialTask, news: Mapping[str, Any]) -> bool:
        """Whether the study's pruner ends a training for what it has just told."""
        step = _percent(news, task.recipe.evaluations)
        if step is None:
            return False
        return self._stored.report(claimed, step, news["best"]) and step < 100

    def _record(self, number: int) -> TrialRecord:
        return self._stored.record(number)

    def _check_failures(self, records: Sequence[TrialRecord]) -> None:
        records = [r for r in records if r.state in ("complete", "fail")]
        if len(records) >= MAX_FAILURES and all(r.state == "fail" for r in records):
            (reason, count), *_ = Counter(str(r.reason) for r in records).most_common()
            message = records[-1].audit.get("message", "")
            raise RunError(
                f"{len(records)} trainings failed and none succeeded, {count} of them with "
                f"{reason}: {message}; see {self._folder}/{records[-1].number:05d}/log.txt"
            )


def optimize(
    definition: StudyDefinition,
    url: str,
    device: str,
    nproc_per_node: int | None,
    more_trials: int | None,
    reporter: Reporter,
    node: Node | None = None,
) -> StoredStudy:
    """Starts a study, or goes on with it.

    Args:
        definition: The study file.
        url: Its database.
        device: ``auto``, ``cpu`` or ``cuda``.
        nproc_per_node: Ranks of a trial on this machine; None lets the device decide.
        more_trials: How many trials of any kind to add; None works towards ``search.trials``.
        reporter: Who is told how it goes.
        node: This node 0, if other machines train each trial with it.

    Raises:
        InputError: For data, device, database or limits that do not work; nothing has begun then.
        RunError: If no training succeeds.
    """
    if more_trials is not None and more_trials < 1:
        raise InputError(f"--trials must be >= 1, but got {more_trials}")
    devices = replace(find_devices(device, nproc_per_node), nnodes=node.nnodes if node else 1)
    facts = describe_dataset(definition.dataset)
    fresh = new_settings(definition, facts, devices)
    sobol_phase(definition, fresh).check_feasible()
    folder, meant = trials_folder(url, definition.name), definition
    with suppress(NoStudyError):  # what can be known of a study that has begun needs no trainer
        stored = StoredStudy.load(url, definition.name)
        meant = definition.as_of(stored.settings.schema)
        fresh = new_settings(meant, facts, devices)
        stored.refuse_change(fresh)
        if not node and more_trials is None and stored.counted() >= definition.search.trials:
            return stored
    cache = cache_folder(folder)
    server = (
        LeadingTrainer(definition, cache, node, introduction(node, devices, definition, facts))
        if node
        else TrainerServer(definition.dataset, definition.resolution, cache)
    )
    with server as trainer:
        trainer.wait()
        stored = StoredStudy.begin(url, definition.name, fresh)
        Search(meant, stored, devices, folder, reporter).run(trainer, more_trials)
    return stored


def _percent(news: Mapping[str, Any], evaluations: int) -> int | None:
    """How much of its budget a training has spent when it tells of an evaluation; else None.

    Where evaluations come at equal shares of the budget, trials are compared at those.
    """
    if "accuracy" not in news:
        return None
    shares = evaluations or 100
    share = int(news["spent"] * shares + 1e-9)
    return share * 100 // shares if share else None


def follow(
    definition: StudyDefinition,
    url: str,
    device: str,
    nproc_per_node: int | None,
    node: Node,
    say: Callable[[str], None],
) -> int:
    """Trains, with node 0, the trials of the study that it runs; touches no database.

    Args:
        definition: The study file, the same as node 0's.
        url: Its database; only tells beside which file this node leaves its own.
        device: ``auto``, ``cpu`` or ``cuda``.
        nproc_per_node: Ranks of a trial on this machine, as many as on node 0.
        node: This node.
        say: Told how it goes, a line each.

    Returns:
        How many trainings this node took part in.
    """
    devices = find_devices(device, nproc_per_node)
    own = introduction(node, devices, definition, describe_dataset(definition.dataset))
    folder = trials_folder(url, definition.name)
    # A folder of its own: nodes may share a file system.
    mine = folder / f"node-{node.node_rank}"
    follower = Follower(definition, node, own, mine, cache_folder(folder), say)
    follower.run()
    return follower.trainings


def new_settings(definition: StudyDefinition, facts: DatasetFacts, devices: Devices) -> Settings:
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
    )


def trial_seed(study_seed: int, number: int) -> int:
    """The seed of one trial's training, 63 bits, from the study's seed and the trial's number."""
    state = np.random.SeedSequence([study_seed, number]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def trials_folder(url: str, name: str) -> Path:
    """Where the trials of a study leave their files: beside an SQLite database, else below here."""
    file = sqlite_file(url)
    return (file.parent if file else Path("storage")).absolute() / name


def cache_folder(folder: Path) -> Path:
    """Where decoded images are kept, for all studies that share a folder."""
    return folder.parent / "cache"
