"""When a range holds a search back: kernels that press against its end, and not by chance."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from betanas.analysis.ranges import MIN_TRIALS, RangeAdvice, advise_ranges, wider_ranges
from betanas.arrays import FloatArray
from betanas.database.stored import StoredStudy
from betanas.jobs.widen import range_advice
from betanas.parameters import Choice, Integer, Real
from betanas.search.problem import Problem
from betanas.search.rules import Assessment, Rules
from betanas.search.space import Space
from betanas.study.loading import load_definition
from betanas.trial import Phase, TrialRecord

RECORDED = Path(__file__).parents[1] / "recorded"  # a real search of BetaNet2's
SPACE = Space(
    (
        Real("wide", 2, 5, (1, 16)),
        Real("whole", 0, 1),  # its range is its domain
        Real("rate", 1e-3, 1e-1, (1e-6, 1), log=True),
        Real("tiny", 1e-6, 1, (0, 1), log=True),
        Integer("layers", 1, 3, (1, 8)),
        Integer("width", 4, 64, (1, 512), log=True),
        Choice("kind", ("plain", "other"), ("plain", "other", "third")),
        Real("fixed", 3, 3, (0, 9)),
    )
)


@dataclass(frozen=True)
class Limited(Rules):
    """``wide`` times ``whole`` may be so much."""

    most: float = 99.0

    def assess(self, kernels: FloatArray) -> Assessment:
        return Assessment(kernels[:, 0] * kernels[:, 1] <= self.most, np.zeros((len(kernels), 0)))

    def identity(self, kernel: FloatArray) -> Hashable:
        return kernel.tobytes()


PROBLEM = Problem(SPACE, Limited(), 0, 12, 6)


def trials(
    value: Callable[[dict], float], number: int = 100, problem: Problem = PROBLEM, seed: int = 0
) -> list[TrialRecord]:
    """Feasible kernels, evenly drawn, and their values."""
    rng = np.random.default_rng(seed)
    kernels = problem.space.kernels(rng.random((40 * number, len(problem.space.names))))
    kernels = kernels[problem.rules.assess(kernels).feasible][:number]
    assert len(kernels) == number
    named = [problem.space.kernel(k) for k in kernels]
    return [TrialRecord(i, "complete", value=value(k), parameters=k) for i, k in enumerate(named)]


def ends(found: list[RangeAdvice]) -> list[tuple[str, str]]:
    return [(a.parameter, a.end) for a in found]


@pytest.mark.parametrize(
    ("best", "parameter", "end", "wider"),
    [
        ({"wide": 2.0}, "wide", "low", (1, 5)),  # the domain ends there
        ({"wide": 5.0}, "wide", "high", (2, 6.5)),
        ({"wide": 4.9}, "wide", "high", (2, 6.5)),
        ({"rate": 1e-3}, "rate", "low", (1e-4, 1e-1)),
        ({"rate": 0.09}, "rate", "high", (1e-3, 1)),
        ({"tiny": 1e-6}, "tiny", "low", (1e-9, 1)),
        ({"layers": 3}, "layers", "high", (1, 4)),
        ({"width": 4}, "width", "low", (1, 64)),
        ({"width": 64}, "width", "high", (4, 256)),
    ],
)
def test_an_end_that_the_best_press_against(best, parameter, end, wider) -> None:
    records = trials(lambda _: 0.1)
    for i in range(15):
        records[i] = replace(records[i], value=0.9, parameters=records[i].parameters | best)
    (found,) = advise_ranges(PROBLEM, records)
    assert (found.parameter, found.end, found.wider) == (parameter, end, pytest.approx(wider))
    assert found.pressing >= 15
    assert found.best == 25
    assert f"{parameter} presses against" in str(found)
    assert f"the {end} end of its range" in str(found)
    assert wider_ranges([found]) == {parameter: found.wider}
    is_whole = parameter in ("layers", "width")
    assert not is_whole or all(isinstance(x, int) for x in found.wider)


@pytest.mark.parametrize(
    "best", [{"wide": 2.2}, {"whole": 1.0}, {"kind": "other"}, {"layers": 1}, {"fixed": 3.0}]
)
def test_what_is_no_reason_for_a_wider_range(best) -> None:
    records = trials(lambda _: 0.1)
    for i in range(25):
        records[i] = replace(records[i], value=0.9, parameters=records[i].parameters | best)
    assert advise_ranges(PROBLEM, records) == []


def test_both_ends_may_press() -> None:
    records = trials(lambda _: 0.1)
    for i in range(25):
        at = {"wide": 2.0 if i % 2 else 5.0}
        records[i] = replace(records[i], value=0.9, parameters=records[i].parameters | at)
    found = advise_ranges(PROBLEM, records)
    assert ends(found) == [("wide", "low"), ("wide", "high")]
    assert wider_ranges(found) == {"wide": (1, 6.5)}


def test_chance_presses_against_nothing() -> None:
    found = []
    for seed in range(100):
        values = iter(np.random.default_rng([1, seed]).random(60))
        found += advise_ranges(PROBLEM, trials(lambda _, v=values: next(v), 60, seed=seed))
    assert len(found) <= 2  # the level is 1 %


def test_limits_that_leave_one_end_of_a_range_press_against_nothing() -> None:
    space = Space((Real("wide", 0, 100, (0, 900)), Real("whole", 0, 100)))
    tight = Problem(space, Limited(100.0), 0, 12, 6)
    values = iter(np.random.default_rng(1).random(100))
    records = trials(lambda _: next(values), problem=tight)
    shifted = replace(tight, space=Space((Real("wide", 0, 100, (-9, 900)), space.parameters[1])))
    near = sum(r.parameters["wide"] < 5 for r in records)
    assert near > 40  # of 100, since the limit leaves little else
    assert advise_ranges(shifted, records) == []
    assert ends(advise_ranges(replace(shifted, rules=Limited(1e9)), records)) == [("wide", "low")]


def test_few_trials_replicates_and_others_trials_advise_nothing() -> None:
    press = [replace(r, parameters=r.parameters | {"wide": 5.0}) for r in trials(lambda _: 0.5)]
    assert ends(advise_ranges(PROBLEM, press[:MIN_TRIALS])) == [("wide", "high")]
    assert advise_ranges(PROBLEM, press[: MIN_TRIALS - 1]) == []
    assert advise_ranges(PROBLEM, []) == []
    assert advise_ranges(PROBLEM, [replace(r, phase=Phase.CONFIRM) for r in press]) == []
    assert advise_ranges(PROBLEM, [replace(r, parameters={"wide": 5.0}) for r in press]) == []
    assert advise_ranges(PROBLEM, [replace(r, state="running", value=None) for r in press]) == []


def test_a_recorded_search_presses_against_the_low_ends_of_K_and_Wa(tmp_path) -> None:  # noqa: N802
    (tmp_path / "demo.db").write_bytes((RECORDED / "betanet2.db").read_bytes())
    stored = StoredStudy.load(f"sqlite:///{tmp_path}/demo.db", "demo")
    definition = load_definition(str(RECORDED / "betanet2.toml"))
    found = range_advice(definition, stored.settings, stored.records())
    assert ends(found) == [("K", "low"), ("Wa", "low")]
    assert [a.wider for a in found] == [(1, 5), (-0.25, 0.5)]
