"""What a study proves: replicates, outcomes, fronts, dependence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from betanas.analysis.evidence import find_replicates, outcomes_by_phase
from betanas.analysis.importance import (
    length_scale_importance,
    main_effects,
    partial_dependence,
    shares,
)
from betanas.analysis.pareto import COSTS, cost_of, pareto_front
from betanas.parameters import Real
from betanas.trial import TrialRecord


def trial(number: int, value: float | None, **more) -> TrialRecord:
    state = more.pop("state", "complete" if value is not None else "pruned")
    return TrialRecord(number, state, more.pop("phase", "gp"), value, **more)


def test_replicates_tell_the_noise_of_training() -> None:
    found = find_replicates(
        [
            trial(0, 0.70, fingerprint="a"),
            trial(1, 0.80, fingerprint="b"),
            trial(2, 0.72, fingerprint="a"),
            trial(3, 0.84, fingerprint="b"),
            trial(4, 0.9, fingerprint="c"),
            trial(5, None, fingerprint="c"),
        ]
    )
    assert found.groups == {"a": (0, 2), "b": (1, 3)}
    assert found.degrees == 2
    assert found.noise_std == pytest.approx(np.sqrt((0.02**2 / 2 + 0.04**2 / 2) / 2))
    assert find_replicates([]).noise_std is None


def test_outcomes_name_reasons_by_phase(records) -> None:
    outcomes = outcomes_by_phase(records)
    assert sum(sum(counts.values()) for counts in outcomes.values()) == len(records)
    assert set(outcomes["sobol"]) == {"complete", "no_contraction", "num_params"}
    assert outcomes["gp"]["diverged"] == outcomes["gp"]["running"] == 1
    assert outcomes_by_phase([trial(0, None, phase=None, state="waiting")]) == {
        "not begun": {"waiting": 1}
    }


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 8)), max_size=25))
def test_the_front_is_what_nothing_dominates(points) -> None:
    records = [trial(i, v / 10, num_params=c) for i, (v, c) in enumerate(points)]
    front = pareto_front(records, "num_params")
    for r in front:
        assert not any(
            o.value >= r.value and o.num_params <= r.num_params
            and (o.value > r.value or o.num_params < r.num_params)
            for o in records
        )  # fmt: skip
    for r in records:
        assert any(f.value >= r.value and f.num_params <= r.num_params for f in front)
    assert [r.num_params for r in front] == sorted({r.num_params for r in front})


def test_costs_that_were_not_measured_are_left_out(records) -> None:
    assert all(cost_of(records[0], cost) for cost in COSTS)
    assert pareto_front(records, "latency_seconds") == []


def test_partial_dependence_of_a_known_function() -> None:
    parameters = (Real("a", 0, 2), Real("b", 1, 1), Real("c", 0, 1))
    kernels = np.random.default_rng(0).random((200, 3))
    kernels[:, 1] = 1
    a, c = partial_dependence(
        lambda x: (3 * x[:, 0] + x[:, 1], np.full(len(x), 0.1)), kernels, parameters, points=5
    )
    assert (a.name, c.name) == ("a", "c")
    np.testing.assert_allclose(a.mean - a.mean[0], 3 * a.grid)
    np.testing.assert_allclose(a.std, 0.1)
    assert np.ptp(c.mean) == pytest.approx(0)
    assert main_effects([a, c]) == pytest.approx({"a": 1.0, "c": 0.0})


def test_shares_sum_to_one() -> None:
    assert shares({"a": 1, "b": 3}) == {"a": 0.25, "b": 0.75}
    assert shares({"a": 0.0}) == {"a": 0.0}
    assert length_scale_importance({"a": 0.5, "b": 1.5}) == pytest.approx({"a": 0.75, "b": 0.25})
