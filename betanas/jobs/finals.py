"""The finals: what wins after a short trial is not always what wins after the user's time.

The best of the search are trained again for longer, by successive halving towards that time. Who is
trained is written down before the first training, and every training when it ends: any process may
be killed at any line, the same command goes on, and several workers share the trainings.
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, zip_longest
from typing import Any

import numpy as np

from betanas.analysis.clusters import complete_trials
from betanas.analysis.finals import LARGER, Finals, finals_of
from betanas.architecture.layers import Architecture
from betanas.database.finals import Entrant, FinalsPlan, Round, StoredFinals, finals_name
from betanas.database.folders import trials_folder
from betanas.database.leases import LostLeaseError
from betanas.database.stored import StoredStudy
from betanas.devices.find import Devices
from betanas.jobs.recommend import recommended
from betanas.jobs.trials import Reporter, TrialRunner
from betanas.objectives import Objective
from betanas.search.learnt import learnt_rules
from betanas.search.plan import StudyProblem
from betanas.study.amounts import amount_text
from betanas.study.definition import StudyDefinition
from betanas.study.recipe import Budget, BudgetUnit
from betanas.trial import Phase, TrialRecord

ETA = 3  # times as long, and one in so many goes on; what Jamieson and Talwalkar's successors take
MOST = 27  # networks of a first round
_LEAST = 1.5  # times the trial's budget, below which a training tells what the trial has told
_PAUSE_SECONDS = 0.5


def plan_rounds(
    unit: BudgetUnit, amount: float, trial: float, total: float, most: int
) -> tuple[Round, ...]:
    """Successive halving that costs no more than it may, over as many budgets as that pays for.

    Args:
        unit: Of all amounts.
        amount: The last round's budget.
        trial: The search's, which all others exceed.
        total: What all trainings may take. Where it does not pay for the fewest that tell
            anything, it is exceeded: one training of the last budget and three of a third of it.
        most: Networks that there are.
    """
    rounded = [amount]
    while rounded[-1] / ETA >= _LEAST * trial:
        rounded.append(_rounded(unit, rounded[-1] / ETA))
    most = min(most, MOST)
    for length in range(len(rounded), 0, -1):
        for first in range(most, max(ETA ** (length - 1), 2) - 1, -1):
            found = _halved(rounded[:length], first)
            if sum(r.amount * r.networks for r in found) <= total:
                return found
    fewest = rounded[: min(most, 2)]
    return _halved(fewest, min(most, ETA if len(fewest) > 1 else 2))


def _halved(amounts: Sequence[float], first: int) -> tuple[Round, ...]:
    """Rounds of falling size; amounts fall, the last round's first."""
    rising = list(reversed(amounts))
    return tuple(Round(a, max(1, first // ETA**i)) for i, a in enumerate(rising))


def _rounded(unit: BudgetUnit, amount: float) -> float:
    """No more than it is: three digits of a time, whole steps."""
    if unit != "seconds":
        return float(max(1, math.floor(amount)))
    step = 10.0 ** (math.floor(math.log10(amount)) - 2)
    return float(f"{step * math.floor(amount / step + 1e-9):.3g}")


def choose_entrants(
    problem: StudyProblem,
    records: Sequence[TrialRecord],
    believed: dict[str, Any] | None,
    growth: float,
) -> Iterator[Entrant]:
    """Chooses who is trained for longer, in the order in which they are worth it.

    A short trial prefers small networks, so the best by value are one in three. One in three is the
    best among the larger ones: no network that is larger still has beaten it. And one in three is
    one of the best, made wider, where the family has a parameter for that.

    Args:
        problem: The study's space and rules.
        records: Its trials.
        believed: The kernel that its model recommends.
        growth: How many times as wide a network is to be at most for its longer training.
    """
    space = problem.space
    own = [r for r in records if not r.is_replicate and space.holds(r.parameters)]
    complete, rules = complete_trials(own), learnt_rules(problem, own)
    kernels = space.vectors([r.parameters for r in complete])
    costs = rules.costs(kernels)["macs"] if complete else np.zeros(0)
    trials = [
        Entrant(r.number, 1.0, "value", r.value, dict(r.parameters), int(macs))
        for r, macs in zip(complete, costs, strict=True)
    ]

    def trial_of(parameters: dict[str, Any]) -> Entrant:
        """The trial of a recommended kernel, if there was one."""
        vector = space.vector(parameters)
        for e in trials:
            if rules.identity(space.vector(e.parameters)) == rules.identity(vector):
                return e
        macs = int(rules.costs(vector[None])["macs"][0])
        return Entrant(None, 1.0, "value", None, parameters, macs)

    best = trials
    if believed is not None and trials:
        one = trial_of(believed)
        best = [one, *trials] if one in trials else [trials[0], one, *trials[1:]]
    width = rules.feasibility.family.width_parameter
    streams: list[Iterable[Entrant]] = [best, _larger(trials)]
    if width is not None and growth > 1:
        streams.insert(1, _wider(problem, best, width, growth))
    seen = set()
    for entrant in (e for place in zip_longest(*streams) for e in place if e is not None):
        vector = space.vector(entrant.parameters)
        identity = rules.identity(vector)
        # What has a value was measured, and kept the limits, whatever is predicted of it by now.
        kept = entrant.value is not None or rules.assess(vector[None]).feasible[0]
        if identity not in seen and kept:
            seen.add(identity)
            yield entrant


def _larger(trials: Sequence[Entrant]) -> Iterator[Entrant]:
    """The best trial, the best of those larger than it, and so on."""
    size = trials[0].macs if trials else 0
    for e in trials:
        if e.macs >= LARGER * size:
            size = e.macs
            yield Entrant(e.trial, e.widths, "size", e.value, e.parameters, e.macs)


def _wider(
    problem: StudyProblem, best: Sequence[Entrant], width: str, growth: float
) -> Iterator[Entrant]:
    """Each of the best at two larger widths, as far as the study's range goes."""
    (most,) = (p.range[1] for p in problem.space.parameters if p.name == width)
    for e in best:
        for factor in (growth, growth**0.5):
            widest = min(factor * e.parameters[width], most)
            factor = widest / e.parameters[width]  # noqa: PLW2901
            if factor > 1:
                parameters = {**e.parameters, width: widest}
                vector = problem.space.vector(parameters)
                macs = int(problem.rules.costs(vector[None])["macs"][0])
                yield Entrant(e.trial, factor, "wider", None, parameters, macs)


def make_plan(
    definition: StudyDefinition,
    wanted: Budget,
    stored: StoredStudy,
    problem: StudyProblem,
    records: Sequence[TrialRecord],
) -> FinalsPlan:
    """Decides who is trained for how long.

    Args:
        definition: The study file.
        wanted: How long the winner is to train.
        stored: Its database.
        problem: What it searches.
        records: Its trials, of which one at least is complete.
    """
    budget = definition.budget
    trained = sum(r.counts for r in records)
    found = recommended(definition, stored.settings, records)
    # The best size for a longer training has as many times the multiply-adds as the square root of
    # its cost (Hoffmann et al., 2022, "Training Compute-Optimal Large Language Models", table 2),
    # and they grow with the square of the width.
    growth = (wanted.amount / budget.amount) ** 0.25
    believed = dict(found.parameters) if found else None
    entrants = list(islice(choose_entrants(problem, records, believed, growth), MOST))
    share = definition.search.finals_share
    total = share * trained * budget.amount
    rounds = plan_rounds(budget.unit, wanted.amount, budget.amount, total, len(entrants))
    chosen = tuple(entrants[: rounds[0].networks])
    begun = _begun(records)
    return FinalsPlan(budget.unit, budget.amount, share, begun, trained, chosen, rounds)


def is_due(definition: StudyDefinition, stored: StoredStudy) -> bool:
    """Whether a study's finals are wanted and not over."""
    if definition.finals is None:
        return False
    found = finals_of(stored)
    return found is None or not found.is_done or not _goes_on(definition, stored, found.plan)


def _goes_on(definition: StudyDefinition, stored: StoredStudy, plan: FinalsPlan) -> bool:
    """Whether the last plan is what is wanted: for the same time, of the same trials.

    What others were still at when it was made was begun before it, and changes nothing.
    """
    wanted = definition.finals
    asked = (definition.budget.unit, wanted and wanted.amount, definition.search.finals_share)
    return (plan.unit, plan.amount, plan.share) == asked and plan.begun == _begun(stored.records())


def _begun(records: Sequence[TrialRecord]) -> int:
    """How many trials the search has begun."""
    return sum(not r.is_replicate for r in records)


def hold_finals(
    definition: StudyDefinition,
    wanted: Budget,
    stored: StoredStudy,
    problem: StudyProblem,
    url: str,
    devices: Devices,
    objective: Objective,
    reporter: Reporter,
) -> None:
    """Trains the best of a study for longer, together with its other workers, until it is over.

    Args:
        definition: The study file.
        wanted: How long the winner is to train: ``definition.finals``.
        stored: Its database.
        problem: What it searches.
        url: Where the database is.
        devices: Where to train.
        objective: What trains.
        reporter: Who is told how it goes.

    Raises:
        RunError: If this machine cannot train.
    """
    if not any(problem.space.holds(r.parameters) for r in complete_trials(stored.records())):
        reporter.progress({"note": "no finals: the study has no complete trial yet"})
        return
    finals = StoredFinals.begin(stored)
    plan = finals.agree(
        lambda last: _goes_on(definition, stored, last),
        lambda: make_plan(definition, wanted, stored, problem, stored.records()),
    )
    reporter.progress({"note": _announced(plan)})
    folder = trials_folder(url, finals_name(definition.name))
    for which, _ in enumerate(plan.rounds):
        longer = definition.model_copy(update={"budget": plan.budget(which)})
        runner = TrialRunner(
            longer, finals.stored, problem, devices, folder, reporter, prunes=False
        )
        while not _is_over(plan, finals, which):
            if not _train_one(finals, plan, which, problem, runner, objective):
                time.sleep(_PAUSE_SECONDS)  # others are at the rest of the round


def _is_over(plan: FinalsPlan, finals: StoredFinals, which: int) -> bool:
    now = Finals(plan, finals.trained())
    return all(now.result(which, e) is not None for e in now.field(which))


def _train_one(
    finals: StoredFinals,
    plan: FinalsPlan,
    which: int,
    problem: StudyProblem,
    runner: TrialRunner,
    objective: Objective,
) -> bool:
    """Trains the first of a round that nobody is at; False if there is none."""
    space = problem.space.distributions
    for entrant in Finals(plan, finals.trained()).field(which):
        claimed = finals.claim(plan, which, entrant, space)
        if claimed is None:
            continue
        seed_of = partial(_seed, problem.seed, plan.training(which, entrant))
        try:
            runner.run(claimed, entrant.parameters, Phase.FINAL, seed_of, objective)
        except LostLeaseError:
            pass  # another worker's by now
        except BaseException:
            finals.stored.release(claimed)
            raise
        return True
    return False


def _seed(study_seed: int, training: str, _: Architecture) -> int:
    """The seed of a training, 63 bits: no trial's."""
    entropy = [study_seed, int(training, 16)]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _announced(plan: FinalsPlan) -> str:
    """What is about to be trained, and what it costs."""
    rounds = [
        f"{r.networks} {'network' * (not i)}{'s' * (not i and r.networks > 1)}".strip()
        + f" for {amount_text(plan.unit, r.amount)}"
        for i, r in enumerate(plan.rounds)
    ]
    share = plan.cost / (plan.trained * plan.trial_amount)
    entrants = "; ".join(e.title for e in plan.entrants)
    return (
        f"finals: {', '.join(rounds)}; {amount_text(plan.unit, plan.cost)} of training in all, "
        f"{share:.2g} times the search's\nfinals: {entrants}"
    )
