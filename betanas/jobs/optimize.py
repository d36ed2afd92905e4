"""The search: propose, check, train, record, until enough trials are complete.

Any process may be killed at any line of this file; the next ``optimize`` goes on from the database.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from betanas.architecture.layers import Architecture
from betanas.architecture.limits import Rejection
from betanas.data import DatasetFacts, describe_dataset
from betanas.database.folders import cache_folder, trials_folder
from betanas.database.leases import LostLeaseError
from betanas.database.patience import patient
from betanas.database.settings import Settings, new_settings, other_cores
from betanas.database.stored import ClaimedTrial, StoredStudy
from betanas.database.waiting import wait_for_earlier_kernels
from betanas.devices.find import Devices, find_devices
from betanas.errors import InputError, NoStudyError, RunError
from betanas.jobs.finals import hold_finals, is_due
from betanas.jobs.front import note_reference
from betanas.jobs.oneshot import SupernetFailedError, choose_network
from betanas.jobs.timing import note_operators, with_operators
from betanas.jobs.trials import Reporter, TrialRunner
from betanas.jobs.warm_start import check_source, with_opening, with_source
from betanas.launcher.leading import LeadingTrainer
from betanas.launcher.link import introduction
from betanas.launcher.objective import TrainObjective
from betanas.launcher.rendezvous import Node
from betanas.objectives import Objective, find_objective
from betanas.search.plan import study_problem
from betanas.search.prefilter import Prefilter
from betanas.search.pruning import make_pruner
from betanas.search.sampler import FALLBACK, KernelSampler
from betanas.study.agreement import refuse_unread_ranges
from betanas.study.definition import StudyDefinition
from betanas.trial import Phase, TrialRecord, trial_seed

MAX_FAILURES = 5  # trainings in a row that may fail before anything was learnt


@dataclass(frozen=True)
class SearchOptions:
    """Where a search trains, and how far it goes.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or GPUs by number.
        nproc_per_node: Ranks of a trial on this machine; None lets the device decide.
        more_trials: How many trials of any kind to add; None works towards ``search.trials``.
        node: This node 0, if other machines train each trial with it.

    Raises:
        InputError: If ``more_trials`` is below 1.
    """

    device: str = "auto"
    nproc_per_node: int | None = None
    more_trials: int | None = None
    node: Node | None = None

    def __post_init__(self) -> None:
        if self.more_trials is not None and self.more_trials < 1:
            raise InputError(f"--trials must be >= 1, but got {self.more_trials}")


@dataclass(frozen=True)
class Team:
    """The workers of one study on this machine, as one of them sees them.

    Attributes:
        size: How many there are.
        may_begin: Asked before each trial whether it is wanted; waits until that is known.
    """

    size: int
    may_begin: Callable[[], bool]


class Search:
    """One worker of a study.

    Args:
        definition: The study file.
        stored: Its database.
        devices: Where to train.
        folder: Where trials leave their files.
        reporter: Who is told.

    Attributes:
        problem: What is searched.
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
        self._folder = folder
        self._reporter = reporter
        self._devices = devices
        classes, self._cache = len(stored.settings.classes), cache_folder(folder)
        self._prefilter = _prefilter(definition, classes, self._cache)
        stored.study.pruner = make_pruner(definition.search)
        self._plan()

    def _plan(self) -> None:
        """What is searched and how, by the study's settings."""
        definition, stored = self._definition, self._stored
        self.problem = study_problem(definition, stored.settings)
        search = definition.search
        takes = search.sampler in ("botorch", "gp") and len(definition.objectives) == 1
        acquisition = search.acquisition if takes else None
        self._sampler = KernelSampler(self.problem, search.sampler, acquisition, self._prefilter)
        self._runner = TrialRunner(
            definition,
            stored,
            self.problem,
            self._devices,
            self._folder,
            self._reporter,
            prunes=len(stored.objectives) == 1,  # Optuna prunes no other studies
        )

    def run(
        self,
        objective: Objective,
        more_trials: int | None,
        may_begin: Callable[[], bool] | None = None,
    ) -> None:
        """Works until the study's target is met, or ``more_trials`` trials of any kind are added.

        Args:
            objective: What measures.
            more_trials: None works towards ``search.trials``.
            may_begin: Decides that instead, before each trial, for workers that share the rest.

        Raises:
            RunError: If trainings fail one after the other and none ever succeeded.
        """
        self._reporter.begins(self._definition, self._stored, self.problem.opening_length)
        done = 0
        while True:
            records = self._stored.records()
            if done:
                self._check_failures(records)
            if may_begin is None:
                ends = self._is_done(records, done, more_trials)
            else:
                ends = not may_begin()
            if ends:
                return
            claimed = self._stored.claim()
            try:
                done += self._work_on(claimed, objective)
            except LostLeaseError:
                continue  # another worker's by now
            except BaseException:
                self._stored.release(claimed)
                raise

    def _is_done(self, records: Sequence[TrialRecord], done: int, more_trials: int | None) -> bool:
        if more_trials is not None:
            return done >= more_trials
        return sum(r.counts for r in records) >= self._definition.search.trials

    def _work_on(self, claimed: ClaimedTrial, objective: Objective) -> bool:
        """One trial, from proposal to record; False if another worker has taken it over."""
        number, one_shot = claimed.number, self._definition.is_one_shot
        phase = Phase.ONE_SHOT if one_shot else self._sampler.phase(number)
        try:
            kernel = self._kernel(claimed, objective)
        except SupernetFailedError as failed:
            return self._runner.fail(claimed, phase, failed.result)

        def seed_of(_: Architecture) -> int:
            return trial_seed(self._definition.search.seed, number)

        recorded = self._runner.run(claimed, kernel, phase, seed_of, objective)
        reason = self._stored.record(number).reason if one_shot else None
        if reason in set(Rejection):
            raise RunError(
                f"the network that trial {number}'s supernet has chosen breaks a limit: {reason}; "
                "the same command trains another supernet, of another seed; a higher limit or "
                "oneshot.latency_weight is another study, of another name"
            )
        return recorded

    def _kernel(self, claimed: ClaimedTrial, objective: Objective) -> dict[str, Any]:
        """The trial's kernel: what an earlier worker has recorded, or a new proposal."""
        space = self.problem.space
        known = dict(self._stored.kernel(claimed, space.names))
        if len(known) == len(space.names):
            return known
        if self._definition.is_one_shot:
            chosen, facts = choose_network(
                self._definition,
                self._stored.settings,
                self._runner,
                claimed,
                objective,
                self._note,
            )
            self._stored.put_kernel(claimed, chosen, space.distributions, facts)
            return chosen
        if self._sampler.learns(claimed.number):
            wait_for_earlier_kernels(self._stored, claimed, space.names)
            note_reference(self._stored)
            if note_operators(self._definition, self._stored, self._cache, self._note):
                self._plan()
        proposed, trouble = patient(self._sampler.propose)(self._stored.study, claimed.frozen)
        kernel: dict[str, Any] = proposed | known
        facts = {FALLBACK: trouble} if trouble else {}
        self._stored.put_kernel(claimed, kernel, space.distributions, facts)
        return kernel

    def _note(self, note: str) -> None:
        """Tells who watches."""
        self._reporter.progress({"note": note})

    def _check_failures(self, records: Sequence[TrialRecord]) -> None:
        records = [r for r in records if r.state in ("complete", "fail")]
        if len(records) >= MAX_FAILURES and all(r.state == "fail" for r in records):
            (reason, count), *_ = Counter(str(r.reason) for r in records).most_common()
            last = [r for r in records if str(r.reason) == reason][-1]
            raise RunError(
                f"{len(records)} trainings failed and none succeeded, {count} of them with "
                f"{reason}: {last.audit.get('message', '')}; see "
                f"{self._folder}/{last.number:05d}/log.txt"
            )


@dataclass(frozen=True)
class Prepared:
    """A search that was checked, and may begin.

    Attributes:
        definition: The study file, as the study means it.
        settings: What is decided if it begins here and now.
        facts: Of its images.
        stored: Its database, if it has begun.
    """

    definition: StudyDefinition
    settings: Settings
    facts: DatasetFacts
    stored: StoredStudy | None

    @property
    def is_done(self) -> bool:
        """Whether the study's target is met, and its finals are over."""
        if self.stored is None or self.stored.counted() < self.definition.search.trials:
            return False
        return not is_due(self.definition, self.stored)


def prepare(definition: StudyDefinition, url: str, devices: Devices) -> Prepared:
    """Finds out what can be known without a trainer; nothing begins by that.

    Raises:
        InputError: For data, database or limits that do not work.
    """
    reads_images = definition.objective.reads_images
    facts = describe_dataset(definition.dataset, reads_images=reads_images)
    fresh = new_settings(definition, facts, devices)
    try:
        stored = StoredStudy.load(url, definition.name)
    except NoStudyError:
        refuse_unread_ranges(definition)
        study_problem(definition, fresh).check_feasible()
        return Prepared(definition, with_source(definition, fresh, url), facts, None)
    meant = definition.as_of(stored.settings.schema)
    fresh = new_settings(meant, facts, devices)
    stored.refuse_change(fresh)
    check_source(meant, stored.settings)
    return Prepared(meant, fresh, facts, stored)


def optimize(
    definition: StudyDefinition,
    url: str,
    options: SearchOptions,
    reporter: Reporter,
    team: Team | None = None,
) -> StoredStudy:
    """Starts a study, or goes on with it, as one worker.

    Args:
        definition: The study file.
        url: Its database.
        options: Where to train, and how far to go.
        reporter: Who is told how it goes.
        team: The workers of this machine that this one belongs to; they add
            ``options.more_trials`` together.

    Raises:
        InputError: For data, device, database or limits that do not work; nothing has begun then.
        RunError: If no training succeeds.
    """
    node, more_trials = options.node, options.more_trials
    open_objective = find_objective(definition.objective.name)
    devices = find_devices(options.device, options.nproc_per_node, workers=team.size if team else 1)
    devices = replace(devices, nnodes=node.nnodes if node else 1)
    ready = prepare(definition, url, devices)
    if ready.stored and not node and more_trials is None and ready.is_done:
        return ready.stored
    if node:
        open_objective = partial(_train_together, node=node, devices=devices, facts=ready.facts)
    folder, meant = trials_folder(url, definition.name), ready.definition
    with open_objective(meant, cache_folder(folder)) as objective:
        if ready.stored is None:  # once the images are known to be good, for this takes seconds
            fresh = with_operators(
                meant,
                ready.settings,
                cache_folder(folder),
                lambda note: reporter.progress({"note": note}),
            )
            study_problem(meant, fresh).check_feasible()
            fresh = with_opening(meant, fresh)
            ready = replace(ready, settings=fresh)
        stored = StoredStudy.begin(url, definition.name, ready.settings)
        check_source(meant, stored.settings)  # another worker may have begun it just now
        search = Search(meant, stored, devices, folder, reporter)
        if told := other_cores(stored.settings, ready.settings):
            reporter.progress({"note": told})
        search.run(objective, more_trials, team.may_begin if team else None)
        if (wanted := meant.finals) is not None:
            hold_finals(meant, wanted, stored, search.problem, url, devices, objective, reporter)
    return stored


def _prefilter(definition: StudyDefinition, num_classes: int, cache: Path) -> Prefilter | None:
    """What ``search.prefilter`` says."""
    search = definition.search
    if search.prefilter == "none":
        return None
    from betanas.measures.scored import kernel_scorer  # noqa: PLC0415 - imports torch

    score = kernel_scorer(definition, search.prefilter, num_classes, cache)
    return Prefilter(search.prefilter_candidates, score)


def _train_together(
    definition: StudyDefinition, cache: Path, node: Node, devices: Devices, facts: DatasetFacts
) -> TrainObjective:
    """``train`` on several machines."""
    if definition.objective.name != "train":
        raise InputError(
            f"objective.name = {definition.objective.name} is measured on one machine; "
            "leave out --nnodes"
        )
    own = introduction(node, devices, definition, facts)
    return TrainObjective(definition, cache, LeadingTrainer(definition, cache, node, own))
