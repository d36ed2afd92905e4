"""The regression that foresees a training's end: right where it knows, unsure where it does not."""

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from betanas.search.foresight import LEAST_TRIALS, foresee, last_percent, regress
from betanas.trial import PACE


def trial(
    pace: float | None, value: float | None = None, accuracy: float | None = None, **facts: float
) -> FrozenTrial:
    """One that told of itself at half of its budget."""
    return create_trial(
        state=TrialState.RUNNING if value is None else TrialState.COMPLETE,
        value=value,
        intermediate_values={} if accuracy is None else {50: accuracy},
        user_attrs={**facts, **({} if pace is None else {PACE: {"50": pace}})},
    )


def test_a_linear_relation_is_learnt_with_its_noise() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(200, 3)) * [1, 5, 0.1] + [0, 20, 3]
    noise = rng.normal(scale=0.01, size=200)
    values = 0.5 + inputs @ [0.1, 0.02, 0.0] + noise
    asked = np.array([[0.0, 20.0, 3.0], [1.0, 25.0, 3.1]])
    found = regress(inputs, values, asked)
    assert found.values == pytest.approx(0.5 + asked @ [0.1, 0.02, 0.0], abs=0.005)
    assert found.stds == pytest.approx(noise.std(), rel=0.15)
    assert found.chances(float(found.values[0]))[0] == pytest.approx(0.5, abs=0.01)
    assert np.sum(found.weights) == pytest.approx(1)


def test_ten_trials_with_four_inputs_are_not_believed_too_much() -> None:
    """Of values in its 90 % intervals there are about 90 % from the first prediction on."""
    inside = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        inputs = rng.normal(size=(LEAST_TRIALS + 1, 4))
        values = inputs @ rng.normal(size=4) + rng.normal(scale=rng.choice([0.1, 1, 3]), size=11)
        found = regress(inputs[:-1], values[:-1], inputs[-1:])
        inside.append(0.05 < found.chances(values[-1])[0] < 0.95)
    assert 0.85 < np.mean(inside) < 0.97


def test_what_is_the_same_for_all_tells_nothing() -> None:
    rng = np.random.default_rng(1)
    inputs, values = rng.normal(size=(20, 2)), rng.normal(size=20)
    alike = np.column_stack([inputs, np.full(20, 7.0)])
    other = np.column_stack([inputs[:3], np.full(3, 12.0)])
    found, same = regress(inputs, values, inputs[:3]), regress(alike, values, other)
    assert same.values == pytest.approx(found.values)
    assert same.stds == pytest.approx(found.stds)


def test_equal_values_are_no_trouble() -> None:
    found = regress(np.arange(12.0)[:, None], np.full(12, 0.3), np.array([[50.0]]))
    assert found.values == pytest.approx([0.3])
    assert found.chances(0.4)[0] == pytest.approx(0)


def test_only_complete_trials_of_which_as_much_is_known_teach() -> None:
    known = [trial(p, 0.1 * p, 0.05 * p, num_params=100, macs=10**p) for p in range(1, 10)]
    less = [trial(None, 0.9, 0.01, num_params=100, macs=10) for _ in range(20)]
    asked = [trial(2.0, None, 0.1, num_params=100, macs=100)]
    assert foresee(asked, [*known, *less], 50) is None  # nine teach, ten are needed
    more = [*known, trial(10, 1.0, 0.5, num_params=100, macs=10**10)]
    found, without = foresee(asked, [*more, *less], 50), foresee(asked, more, 50)
    assert found is not None
    assert without is not None
    assert found.values == pytest.approx(without.values)
    assert found.values == pytest.approx([0.2], abs=0.05)


def test_who_has_told_nothing_is_not_foreseen() -> None:
    many = [trial(p, 0.1 * p, num_params=100, macs=10) for p in range(1, 20)]
    assert foresee([trial(None, num_params=100, macs=10)], many, 50) is None
    assert last_percent(trial(None)) is None
    assert last_percent(trial(3.0)) == 50


def test_what_others_have_noted_by_the_same_names_is_no_trouble() -> None:
    theirs = create_trial(value=0.4, user_attrs={PACE: "slow", "num_params": "many", "macs": None})
    assert last_percent(theirs) is None
    assert foresee([trial(2.0)], [theirs] * 20, 50) is None
    odd = create_trial(value=0.4, user_attrs={PACE: {"half": 3.0, "50": None}})
    assert last_percent(odd) == 50
    assert foresee([odd], [odd] * 20, 50) is None
