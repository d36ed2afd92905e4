"""A study searched by one worker or by several on this machine: how many, and how fairly."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

import numpy as np

from betanas.architecture.complexity import count
from betanas.architecture.layers import Architecture
from betanas.cores import available_cores, core_shares
from betanas.database.folders import cache_folder, trials_folder
from betanas.database.stored import StoredStudy
from betanas.devices.find import asked_gpus, find_devices, most_workers
from betanas.errors import DeviceError, InputError
from betanas.jobs.optimize import Prepared, SearchOptions, optimize, prepare
from betanas.jobs.trials import Reporter
from betanas.launcher.pace import Pace
from betanas.search.plan import StudyProblem, study_problem
from betanas.study.definition import StudyDefinition
from betanas.trial import TrialTask

FAIR_SHARE = 0.9  # of a lone worker's images a second, under which trials are not quite the same
_WORTH = 1.25  # times the images that twice as many workers must bring
_SAMPLE = 64  # Sobol points among which a typical network is looked for


def search(
    definition: StudyDefinition,
    url: str,
    options: SearchOptions,
    reporter: Reporter,
    workers: int | None = 1,
) -> StoredStudy:
    """Starts a study, or goes on with it, as one worker or as several.

    Args:
        definition: The study file.
        url: Its database.
        options: Where to train, and how far to go.
        reporter: Who is told how it goes.
        workers: How many; None lets the machine decide.

    Raises:
        InputError: For data, device, database or limits that do not work; nothing has begun then.
        RunError: If no training succeeds, or workers are killed again and again.
    """
    alone = partial(optimize, definition, url, options, reporter)
    if workers == 1:
        return alone()
    if options.node is not None:
        raise InputError("--workers must be 1 with --nnodes: those machines train a trial together")
    device, more_trials = options.device, options.more_trials
    ranks = options.nproc_per_node or 1
    _check(device, ranks, workers)
    if asked_gpus(device):
        workers = workers or _free_gpus(device) // ranks
    else:
        ready = prepare(definition, url, find_devices("cpu", ranks, workers=workers or 1))
        if ready.stored is not None:
            if more_trials is None and ready.is_done:
                return ready.stored
            ready.stored.disconnect()
        workers = _on_cores(ready, url, ranks, workers, reporter)
    if workers <= 1:
        return alone()
    # Imports torch, once for all workers, which are forks; a lone one first needs it for its model.
    from betanas.jobs.crew import Crew  # noqa: PLC0415

    work = partial(optimize, definition, url, replace(options, nproc_per_node=ranks))
    shares = [[]] * workers if asked_gpus(device) else core_shares(workers)
    return Crew(definition, url, more_trials, reporter, work, shares).run()


def _check(device: str, ranks: int, workers: int | None) -> None:
    """Raises DeviceError if so many workers do not fit on this machine."""
    most = most_workers(device, ranks)
    if not most or (workers or 1) <= most:  # for none it is the ranks that are too many
        return
    kind = "GPUs" if asked_gpus(device) else "processor cores"
    each = f"one each, times {ranks} ranks" if ranks > 1 else "one each"
    raise DeviceError(
        f"--workers must be <= {most}, for the {kind} here ({each}), but got {workers or 'auto'}"
    )


def _free_gpus(device: str) -> int:
    """How many GPUs nobody has; found out in another process, for forks must find CUDA unused."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(find_devices, device, None).result().nproc_per_node


def _on_cores(
    ready: Prepared, url: str, ranks: int, workers: int | None, reporter: Reporter
) -> int:
    """How many workers share the cores, and how fairly; told to the reporter.

    Args:
        ready: The study.
        url: Its database.
        ranks: Of each worker.
        workers: How many are asked for; None for as many as are worth it.
        reporter: Is told.
    """
    most = most_workers("cpu", ranks)
    if ready.definition.objective.name != "train":
        if workers is None:
            raise InputError(
                f"--workers auto measures trainings, and objective.name = "
                f"{ready.definition.objective.name} is none; give a number up to {most}"
            )
        return workers
    with Pace(_typical_task(ready, url)) as pace:
        if workers is None:
            workers = worthwhile(pace.alone, most)
        measured = (pace.alone(workers), pace.together(workers)) if workers > 1 else (None, None)
    alone, together = measured
    if workers == 1:
        reporter.progress({"note": f"1 worker on {_cores(available_cores())}: more bring little"})
        return workers
    told = f"{workers} workers with {_cores(available_cores() // workers)} each"
    if not alone or not together:
        reporter.progress({"note": f"{told}; what they cost each other could not be measured"})
        return workers
    share = together / alone
    reporter.progress({"note": f"{told}, side by side at {share:.2f} of the images/s of one alone"})
    if share < FAIR_SHARE:
        reporter.progress(
            {
                "note": f"warning: at {share:.2f} of a lone worker's pace, under {FAIR_SHARE}, a "
                "budget in seconds means less; fewer --workers, or a longer budget, are fairer"
            }
        )
    return workers


def worthwhile(rate: Callable[[int], float | None], most: int) -> int:
    """How many workers are worth it: twice as many while those train on a quarter more images.

    Fewer workers with more threads each train each trial further, and learn from each before they
    propose the next; so the machine's images a second must pay for it.

    Args:
        rate: Images a second of one of so many equal shares of the cores, alone; None where that
            cannot be measured.
        most: Workers that may share them.
    """
    workers, reached = 1, rate(1)
    while reached and 2 * workers <= most:
        halved = rate(2 * workers)
        if not halved or 2 * halved < _WORTH * reached:
            break
        workers, reached = 2 * workers, halved
    return workers


def _typical_task(ready: Prepared, url: str) -> TrialTask:
    """The study's network of median multiply-adds, among some of its first points, in training."""
    definition = ready.definition
    settings = ready.stored.settings if ready.stored else ready.settings
    folder = trials_folder(url, definition.name)
    architecture = _typical(study_problem(definition, settings))
    return TrialTask(
        number=0,
        seed=0,
        architecture=architecture,
        dataset=definition.dataset,
        recipe=settings.trained(definition.recipe, "cpu"),
        budget=definition.budget.of_network(count(architecture, batch_size=1).macs),
        nproc_per_node=1,
        device="cpu",
        folder=str(folder),
        cache=str(cache_folder(folder)),
    )


def _typical(problem: StudyProblem) -> Architecture:
    points, number = problem.sobol_points(0, _SAMPLE), _SAMPLE
    while not (verdicts := problem.rules.check(points)).feasible.any():  # there are some
        points, number = problem.sobol_points(number, number), 2 * number
    found = np.flatnonzero(verdicts.feasible)
    by_cost = found[np.argsort(verdicts.complexities.macs[found], kind="stable")]
    return problem.rules.architecture(problem.space.kernel(points[by_cost[len(by_cost) // 2]]))


def _cores(number: int) -> str:
    return f"{number} {'core' if number == 1 else 'cores'}"
