"""Another study's posterior mean as a prior mean: it helps where it is right, else it goes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from botorch.models import SingleTaskGP

from betanas.parameters import Real
from betanas.search.acquisitions import believer
from betanas.search.prior import LEAST_TOLD, SourceMean
from betanas.search.space import Space
from betanas.search.surrogate import Observations, Surrogate

SPACE = Space((Real("a", 0, 2), Real("fixed", 3, 3), Real("b", -1, 5), Real("c", 0, 1)))


def truth(kernels: np.ndarray) -> np.ndarray:
    return np.sin(2 * kernels[:, 0]) + 0.03 * kernels[:, 2] ** 2 - kernels[:, 3]


def observed(number: int, seed: int, scale: float = 1.0) -> Observations:
    rng = np.random.default_rng(seed)
    kernels = SPACE.kernels(rng.random((number, 4)))
    values = scale * (truth(kernels) + 0.03 * rng.normal(size=number)) + 0.2
    return Observations(kernels, kernels.sum(axis=1)[:, None], values, np.zeros(number))


def shuffled(told: Observations, seed: int) -> Observations:
    return replace(told, values=np.random.default_rng(seed).permutation(told.values))


ASKED = observed(400, 9)


def error(model: Surrogate, scale: float) -> float:
    """Root mean square of what it says of unseen kernels."""
    mean, _ = model.predict(ASKED.kernels, ASKED.features)
    return float(np.sqrt(np.mean((mean - scale * truth(ASKED.kernels) - 0.2) ** 2)))


@pytest.fixture(scope="module")
def source() -> Surrogate:
    return Surrogate(SPACE, observed(60, 0))


@pytest.mark.parametrize("number", [8, 16])
def test_a_source_of_another_scale_halves_the_error(source: Surrogate, number: int) -> None:
    few = observed(number, 5, scale=0.3)
    alone, guided = Surrogate(SPACE, few), Surrogate(SPACE, few, source=source)
    assert guided.source_weight > 0.5
    assert error(guided, 0.3) < 0.5 * error(alone, 0.3)


def test_a_shuffled_source_loses_its_weight() -> None:
    weights, harms = [], []
    for seed in range(6):
        few = observed(12, 20 + seed)
        misleading = Surrogate(SPACE, shuffled(observed(60, 0), seed))
        guided = Surrogate(SPACE, few, source=misleading)
        weights.append(guided.source_weight)
        harms.append(error(guided, 1.0) / error(Surrogate(SPACE, few), 1.0))
    assert np.median(weights) < 0.1
    assert np.median(harms) < 1.05


def test_a_source_that_says_the_opposite_has_no_weight(source: Surrogate) -> None:
    few = observed(12, 5, scale=-1.0)
    alone, guided = Surrogate(SPACE, few), Surrogate(SPACE, few, source=source)
    assert guided.source_weight == 0
    np.testing.assert_array_equal(
        guided.predict(ASKED.kernels, ASKED.features), alone.predict(ASKED.kernels, ASKED.features)
    )


def test_too_few_values_or_a_flat_source_have_no_say(source: Surrogate) -> None:
    few = observed(LEAST_TOLD - 1, 5)
    assert Surrogate(SPACE, few, source=source).source_weight == 0
    flat = observed(20, 0)
    flat = Surrogate(SPACE, replace(flat, values=np.full(20, 0.5)))
    assert Surrogate(SPACE, observed(12, 5), source=flat).source_weight == 0


def test_the_guess_is_the_sources_posterior_mean(source: Surrogate) -> None:
    few = observed(12, 5, scale=0.3)
    mean = Surrogate(SPACE, few, source=source).model.mean_module
    assert isinstance(mean, SourceMean)
    model = Surrogate(SPACE, few)
    asked = model.inputs_of(ASKED.kernels, ASKED.features)
    theirs, _ = source.predict(ASKED.kernels, ASKED.features)
    standard = source.model.outcome_transform
    guess = mean.guess(asked).numpy() * standard.stdvs.item() + standard.means.item()
    np.testing.assert_allclose(guess, theirs, rtol=1e-5, atol=1e-6)


def test_botorch_sees_the_same_model(source: Surrogate) -> None:
    model = Surrogate(SPACE, observed(12, 5, scale=0.3), source=source)
    asked = model.inputs_of(ASKED.kernels[:50], ASKED.features[:50])
    mean, std = model.predict(ASKED.kernels[:50], ASKED.features[:50])
    with torch.no_grad():
        plain = SingleTaskGP.posterior(model.model, asked)
        after = believer(model.model, asked[:1]).posterior(asked)
    np.testing.assert_allclose(mean, plain.mean[:, 0], rtol=1e-6)
    np.testing.assert_allclose(std**2, plain.variance[:, 0], rtol=1e-4, atol=1e-10)
    np.testing.assert_allclose(after.mean[:, 0], mean, atol=1e-3)


def test_gradients_go_through_the_guess(source: Surrogate) -> None:
    from betanas.search.acquisitions import posterior_mean

    model = Surrogate(SPACE, observed(12, 5, scale=0.3), source=source)
    function, rng = posterior_mean(model.model), np.random.default_rng(4)
    unit, at = rng.random((5, 4)), rng.normal(6, 1, size=(5, 1))
    in_unit, _ = model.gradients(function, SPACE.kernels(unit), at)
    for k in (0, 2, 3):
        step = 1e-5 * np.eye(4)[k]
        ends = [model.rate(function, SPACE.kernels(unit + s), at) for s in (step, -step)]
        np.testing.assert_allclose(in_unit[:, k], (ends[0] - ends[1]) / 2e-5, rtol=2e-3, atol=1e-4)
