"""The best trials trained again with new seeds: is their order more than luck?

Beside them the largest model that the limits allow, which is what one would take without a search.
Any process may be killed at any line; the same command goes on, and several workers share the work.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from optuna.samplers import RandomSampler

from betanas.analysis.clusters import complete_trials
from betanas.analysis.front import find_front
from betanas.architecture.layers import Architecture
from betanas.data import describe_dataset
from betanas.database.folders import cache_folder, trials_folder
from betanas.database.leases import LostLeaseError
from betanas.database.replicates import Replicate, claim_replicate
from betanas.database.settings import new_settings
from betanas.database.stored import StoredStudy
from betanas.devices.find import find_devices
from betanas.errors import InputError
from betanas.jobs.trials import Reporter, TrialRunner
from betanas.objectives import Objective, find_objective
from betanas.search.acquisition import feasible_pool, maximize
from betanas.search.learnt import learnt_rules
from betanas.search.plan import StudyProblem, study_problem
from betanas.study.definition import StudyDefinition
from betanas.study.recipe import beside_kernel
from betanas.trial import LARGEST, REPEATS, Phase, TrialRecord

Size = Literal["num_params", "macs", "none"]
_POOL = 4096


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to train again.

    Attributes:
        top: How many of the best trials, of several objectives those on the Pareto front; equal
            networks count once.
        seeds: How often each is trained again.
        largest: In what the reference model is the largest; ``none`` for no reference.
    """

    top: int = 5
    seeds: int = 3
    largest: Size = "num_params"


def plan_replicates(
    problem: StudyProblem, records: Sequence[TrialRecord], wanted: Wanted
) -> list[Replicate]:
    """Chooses the best architectures of the search and, as a reference, the largest feasible one.

    The first repetition of all models comes before the second of any, so that a confirmation that
    is interrupted has compared them evenly.

    Args:
        problem: The study's space and rules.
        records: Its trials.
        wanted: How many, how often.

    Raises:
        InputError: If there is nothing to repeat yet.
    """
    if wanted.top < 1 or wanted.seeds < 2:
        raise InputError(
            f"--top must be >= 1 and --seeds >= 2, but got {wanted.top} and {wanted.seeds}"
        )
    if len(records) < problem.opening_length:
        raise InputError(
            f"the study has begun {len(records)} of the {problem.opening_length} trials "
            "that it opens with, whose numbers a confirmation must not take; go on with betanas "
            "optimize first"
        )
    found = find_front(problem.objectives, records)
    first = complete_trials(records) if found is None else found.trials
    best = [r for r in first if problem.space.holds(r.parameters)]
    if not best:
        raise InputError("the study has no complete trial that could be confirmed")
    chosen: dict[object, TrialRecord] = {}
    for record in best:
        network = record.fingerprint or record.number  # somebody else's trial may not tell
        chosen.setdefault((network, *beside_kernel(record.parameters).items()), record)
    models: list[tuple[int | str, dict[str, Any]]] = [
        (r.number, dict(r.parameters)) for r in list(chosen.values())[: wanted.top]
    ]
    if wanted.largest != "none":
        name = f"{LARGEST} {wanted.largest}"
        begun = [dict(r.parameters) for r in records if r.audit.get(REPEATS) == name]
        kernel = begun[0] if begun else _largest(problem, records, best[0], wanted.largest)
        models.append((name, kernel))
    return [Replicate(of, i, kernel) for i in range(wanted.seeds) for of, kernel in models]


def _largest(
    problem: StudyProblem, records: Sequence[TrialRecord], best: TrialRecord, largest: Size
) -> dict[str, Any]:
    """The feasible kernel of most parameters or multiply-adds, as far as a search for it finds."""
    space = problem.space
    rules = learnt_rules(problem, [r for r in records if not r.is_replicate])
    size = {"num_params": 0, "macs": 1}[largest]
    pool = feasible_pool(space, rules, _POOL, problem.seed)
    found, _ = maximize(
        lambda _, features: features[:, size],
        space,
        rules,
        pool,
        pool.kernels[:0],
        np.random.default_rng(problem.seed),
    )
    kernel = space.kernel(found.kernels[0])
    # What is searched beside the kernel is the search's merit too: the reference has the best's.
    return kernel | beside_kernel(best.parameters)


def train_replicates(
    stored: StoredStudy,
    problem: StudyProblem,
    plan: Sequence[Replicate],
    runner: TrialRunner,
    objective: Objective,
) -> None:
    """Trains the replicates that nobody has trained or is training.

    Args:
        stored: The study.
        problem: What it searches.
        plan: The replicates, in the order in which they are wanted.
        runner: Works on each; it must stop none early, whatever it reaches.
        objective: What measures.

    Raises:
        RunError: If this machine cannot train.
    """
    stored.study.sampler = RandomSampler()  # never asked: kernels are known
    for replicate in plan:
        claimed = claim_replicate(stored, replicate, problem.space.distributions)
        if claimed is None:
            continue
        seed_of = partial(replicate_seed, problem.seed, index=replicate.seed_index)
        try:
            runner.run(claimed, replicate.parameters, Phase.CONFIRM, seed_of, objective)
        except LostLeaseError:
            continue  # another worker's by now
        except BaseException:
            stored.release(claimed)
            raise


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
    definition = definition.as_of(stored.settings.schema)
    open_objective = find_objective(definition.objective.name)
    problem = study_problem(definition, stored.settings)
    plan = plan_replicates(problem, stored.records(), wanted)
    devices = find_devices(device, nproc_per_node)
    reads_images = definition.objective.reads_images
    facts = describe_dataset(definition.dataset, reads_images=reads_images)
    stored.refuse_change(new_settings(definition, facts, devices))
    reporter.begins(definition, stored, problem.opening_length)
    if is_done(stored, plan):
        return
    folder = trials_folder(url, definition.name)
    runner = TrialRunner(definition, stored, problem, devices, folder, reporter, prunes=False)
    with open_objective(definition, cache_folder(folder)) as objective:
        train_replicates(stored, problem, plan, runner, objective)


def is_done(stored: StoredStudy, plan: Sequence[Replicate]) -> bool:
    """Whether every replicate of a plan has ended."""
    ended = [t for t in stored.study.get_trials(deepcopy=False) if t.state.is_finished()]
    return all(any(r.is_trial(t) for t in ended) for r in plan)


def replicate_seed(study_seed: int, architecture: Architecture, index: int) -> int:
    """The seed of a replicate, 63 bits: another one for every network and every repetition."""
    entropy = [study_seed, 1 + index, int(architecture.fingerprint, 16)]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))
