"""The best trials trained again with new seeds: is their order more than luck?

Beside them the largest model that the limits allow, which is what one would take without a search.
Any process may be killed at any line; the same command goes on, and several workers share the work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from optuna.samplers import RandomSampler

from betanas.analysis.clusters import complete_trials
from betanas.architecture.decoding import decode
from betanas.architecture.layers import Architecture
from betanas.data import describe_dataset
from betanas.database.leases import LostLeaseError
from betanas.database.replicates import Replicate, claim_replicate
from betanas.database.stored import ClaimedTrial, StoredStudy
from betanas.devices.find import find_devices
from betanas.errors import InputError
from betanas.jobs.optimize import Reporter, Search, cache_folder, new_settings, trials_folder
from betanas.launcher.client import TrainerServer
from betanas.search.acquisition import feasible_pool, maximize
from betanas.search.plan import sobol_phase
from betanas.search.rules import ArchitectureRules
from betanas.search.space import SobolPhase
from betanas.study.definition import RECIPE_PREFIX, StudyDefinition, kernel_of
from betanas.trial import LARGEST, REPEATS, Failure, Phase, TrialRecord, TrialTask

Size = Literal["num_params", "macs", "none"]
_POOL = 4096


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to train again.

    Attributes:
        top: How many of the best trials; equal networks count once.
        seeds: How often each is trained again.
        largest: In what the reference model is the largest; ``none`` for no reference.
    """

    top: int = 5
    seeds: int = 3
    largest: Size = "num_params"


def plan_replicates(
    phase: SobolPhase, records: Sequence[TrialRecord], wanted: Wanted
) -> list[Replicate]:
    """Chooses the best architectures of the search and, as a reference, the largest feasible one.

    The first repetition of all models comes before the second of any, so that a confirmation that
    is interrupted has compared them evenly.

    Args:
        phase: The study's space and rules.
        records: Its trials.
        wanted: How many, how often.

    Raises:
        InputError: If there is nothing to repeat yet.
    """
    if wanted.top < 1 or wanted.seeds < 2:
        raise InputError(
            f"--top must be >= 1 and --seeds >= 2, but got {wanted.top} and {wanted.seeds}"
        )
    if len(records) < phase.length:
        raise InputError(
            f"the study has begun {len(records)} of the {phase.length} trials of its Sobol phase, "
            "whose numbers a confirmation must not take; go on with betanas optimize first"
        )
    best = complete_trials(records)
    if not best:
        raise InputError("the study has no complete trial that could be confirmed")
    chosen: dict[object, TrialRecord] = {}
    for record in best:
        chosen.setdefault((record.fingerprint, *_searched_recipe(record).items()), record)
    models: list[tuple[int | str, dict[str, float]]] = [
        (r.number, dict(r.parameters)) for r in list(chosen.values())[: wanted.top]
    ]
    if wanted.largest != "none":
        name = f"{LARGEST} {wanted.largest}"
        begun = [dict(r.parameters) for r in records if r.audit.get(REPEATS) == name]
        kernel = begun[0] if begun else _largest(phase, records, best[0], wanted.largest)
        models.append((name, kernel))
    return [Replicate(of, i, kernel) for i in range(wanted.seeds) for of, kernel in models]


def _largest(
    phase: SobolPhase, records: Sequence[TrialRecord], best: TrialRecord, largest: Size
) -> dict[str, float]:
    """The feasible kernel of most parameters or multiply-adds, as far as a search for it finds."""
    space = phase.space
    own = [r for r in records if not r.is_replicate]
    memory = [r.parameters for r in own if r.reason == Failure.OUT_OF_MEMORY]
    fitted = [r.parameters for r in own if r.state == "complete"]
    rules = ArchitectureRules(space, phase.feasibility).tightened(
        space.vectors(memory), space.vectors(fitted)
    )
    trait = {"num_params": 0, "macs": 1}[largest]
    pool = feasible_pool(space, rules, _POOL, phase.seed)
    found, _ = maximize(
        lambda _, traits: traits[:, trait],
        space,
        rules,
        pool,
        pool.kernels[:0],
        np.random.default_rng(phase.seed),
    )
    kernel = space.kernel(found.kernels[0])
    # What is searched beside the kernel is the search's merit too: the reference has the best's.
    return kernel | _searched_recipe(best)


def _searched_recipe(record: TrialRecord) -> dict[str, float]:
    """The recipe values that were searched beside the kernel."""
    return {n: v for n, v in record.parameters.items() if n.startswith(RECIPE_PREFIX)}


class Confirmation(Search):
    """One worker that repeats trials; trains as the search does."""

    def confirm(self, trainer: TrainerServer, plan: Sequence[Replicate]) -> None:
        """Trains what nobody has trained or is training.

        Raises:
            RunError: If this machine cannot train.
        """
        self._stored.study.sampler = RandomSampler()  # never asked: kernels are known
        space = self._sobol.space.distributions
        for replicate in plan:
            claimed = claim_replicate(self._stored, replicate, space)
            if claimed is None:
                continue
            try:
                self._repeat(claimed, replicate, trainer)
            except LostLeaseError:
                continue  # another worker's by now
            except BaseException:
                self._stored.release(claimed)
                raise

    def _repeat(self, claimed: ClaimedTrial, replicate: Replicate, trainer: TrainerServer) -> None:
        rules, space = self._sobol.feasibility, self._sobol.space
        asked = space.vector(replicate.parameters)[None, :]
        costs = rules.check(space.architectural(asked)).complexities.row(0)
        kernel = kernel_of(replicate.parameters)
        architecture = decode(rules.family, kernel, rules.limits.resolution, rules.num_classes)
        self._stored.describe(claimed, Phase.CONFIRM, costs, architecture.fingerprint)
        self._reporter.proposed(self._record(claimed.number))
        seed = replicate_seed(self._definition.search.seed, architecture, replicate.seed_index)
        recipe = self._definition.recipe_of(replicate.parameters)
        task = self._task(claimed.number, seed, architecture, recipe)
        if self._stored.finish(claimed, self._train(claimed, task, trainer)):
            self._reporter.recorded(self._record(claimed.number))

    def _gives_up(self, claimed: ClaimedTrial, task: TrialTask, news: Mapping[str, Any]) -> bool:
        """Never: a repetition is wanted whatever it reaches, and is no measure for other trials."""
        return False


def confirm(
    definition: StudyDefinition,
    stored: StoredStudy,
    url: str,
    device: str,
    nproc_per_node: int | None,
    wanted: Wanted,
    reporter: Reporter,
) -> None:
    """Trains the best trials of a study again, and the largest feasible model.

    Args:
        definition: The study file.
        stored: Its database.
        url: Where that is.
        device: ``auto``, ``cpu`` or ``cuda``.
        nproc_per_node: Ranks of a trial on this machine; None lets the device decide.
        wanted: What to train again.
        reporter: Who is told how it goes.

    Raises:
        InputError: For what cannot be confirmed, or data and devices that do not work.
        RunError: If this machine cannot train.
    """
    settings = stored.settings
    definition = definition.as_of(settings.schema)
    phase = sobol_phase(definition, settings)
    plan = plan_replicates(phase, stored.records(), wanted)
    devices = find_devices(device, nproc_per_node)
    stored.refuse_change(new_settings(definition, describe_dataset(definition.dataset), devices))
    reporter.begins(definition, stored, phase.length)
    if is_done(stored, plan):
        return
    folder = trials_folder(url, definition.name)
    with TrainerServer(definition.dataset, definition.resolution, cache_folder(folder)) as trainer:
        trainer.wait()
        Confirmation(definition, stored, devices, folder, reporter).confirm(trainer, plan)


def is_done(stored: StoredStudy, plan: Sequence[Replicate]) -> bool:
    """Whether every replicate of a plan has ended."""
    ended = [t for t in stored.study.get_trials(deepcopy=False) if t.state.is_finished()]
    return all(any(r.is_trial(t) for t in ended) for r in plan)


def replicate_seed(study_seed: int, architecture: Architecture, index: int) -> int:
    """The seed of a replicate, 63 bits: another one for every network and every repetition."""
    entropy = [study_seed, 1 + index, int(architecture.fingerprint, 16)]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))
