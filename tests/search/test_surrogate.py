"""The model of kernels: its fit against GPyTorch's, differences and plain definitions."""

import numpy as np
import pytest
import torch
from botorch.acquisition.analytic import LogExpectedImprovement
from botorch.models import SingleTaskGP
from botorch.optim.closures import get_loss_closure_with_grads
from gpytorch.mlls import ExactMarginalLogLikelihood

from betanas.parameters import Real
from betanas.search.acquisitions import believer, posterior_mean
from betanas.search.botorch_model import KernelGP, fit_model
from betanas.search.likelihood import FitClosure, learnt_noise
from betanas.search.space import Space
from betanas.search.surrogate import Observations, Surrogate

INPUTS = torch.rand(40, 5, dtype=torch.double, generator=torch.Generator().manual_seed(0))
NOISE = 0.05 * np.random.default_rng(0).normal(size=40)
VALUES = np.sin(4 * INPUTS[:, 0].numpy()) + INPUTS[:, 1].numpy() ** 2 + NOISE
SOME = np.where(np.arange(40) < 9, 0.3, 0.0)  # deviations of their own


@pytest.mark.parametrize("parameters", [2, 5])
@pytest.mark.parametrize("stds", [None, SOME])
def test_what_a_fit_minimises_and_its_gradient_equal_gpytorch(
    parameters: int, stds: np.ndarray | None
) -> None:
    model = fit_model(INPUTS, VALUES, parameters, stds=stds).train()
    rng = torch.Generator().manual_seed(1)
    for parameter in model.parameters():  # anywhere but where gradients vanish
        noise = torch.rand(parameter.shape, generator=rng, dtype=torch.double)
        parameter.data.mul_(0.5 + noise).add_(0.01)
    mll = ExactMarginalLogLikelihood(model.likelihood, model)
    learnt = {name: p for name, p in mll.named_parameters() if p.requires_grad}
    value, gradients = get_loss_closure_with_grads(mll, learnt)()
    ours, our_gradients = FitClosure(mll)()
    assert ours.item() == pytest.approx(value.item(), rel=1e-6)
    for found, expected in zip(our_gradients, gradients, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_a_fit_finds_what_matters_and_the_noise() -> None:
    model = fit_model(INPUTS, VALUES, 5)
    assert model.scales[:2].max() < model.scales[2:].min()
    assert 0.03 < model.noise_std < 0.08


def test_a_fit_begins_where_another_ended_whatever_their_noise() -> None:
    first = fit_model(INPUTS[:32], VALUES[:32], 2)
    later = fit_model(INPUTS, VALUES, 2, first, SOME)
    assert later.noise_std < 0.1
    again = fit_model(INPUTS, VALUES, 2, first, SOME)
    for one, other in zip(later.parameters(), again.parameters(), strict=True):
        np.testing.assert_array_equal(one.detach(), other.detach())


def test_noise_of_one_observation_is_what_it_is_told() -> None:
    def at_seven(std: float) -> tuple[float, float]:
        model = fit_model(INPUTS, VALUES, 5, stds=np.where(np.arange(40) == 7, std, 0.0))
        with torch.no_grad():
            learnt_noise(model.likelihood).noise = 0.01
            posterior = model.eval().posterior(INPUTS[7:8])
        return float(posterior.mean), float(posterior.variance)

    variances = [at_seven(std)[1] for std in (1e-3, 0.3, 10.0)]
    assert variances[0] < variances[1] < variances[2]


@pytest.mark.parametrize("stds", [None, SOME])
def test_a_believer_is_sure_where_it_believes(stds: np.ndarray | None) -> None:
    model = fit_model(INPUTS, VALUES, 2, stds=stds)
    asked = torch.full((2, 5), 0.9, dtype=torch.double)
    asked[1] = 0.1
    believing = believer(model, asked[:1])
    with torch.no_grad():
        before, after = model.posterior(asked), believing.posterior(asked)
    np.testing.assert_allclose(after.mean, before.mean, atol=1e-3)
    assert after.variance[0] < 0.7 * before.variance[0]


SPACE = Space((Real("a", 0, 2), Real("fixed", 3, 3), Real("b", -1, 5)))


@pytest.fixture(scope="module")
def surrogate() -> Surrogate:
    rng = np.random.default_rng(2)
    kernels, features = SPACE.kernels(rng.random((30, 3))), rng.normal(5, 2, size=(30, 1))
    values = np.sin(kernels[:, 0]) + 0.1 * features[:, 0]
    return Surrogate(SPACE, Observations(kernels, features, values, np.zeros(30)))


def test_predictions_are_those_of_botorch(surrogate: Surrogate) -> None:
    rng = np.random.default_rng(3)
    kernels, features = SPACE.kernels(rng.random((600, 3))), rng.normal(5, 2, size=(600, 1))
    mean, std = surrogate.predict(kernels, features)
    asked = surrogate.inputs_of(kernels, features)
    assert isinstance(surrogate.model, KernelGP)
    with torch.no_grad():
        theirs = SingleTaskGP.posterior(surrogate.model, asked)
    np.testing.assert_allclose(mean, theirs.mean[:, 0], rtol=1e-9)
    np.testing.assert_allclose(std**2, theirs.variance[:, 0], rtol=1e-5, atol=1e-12)
    rated = surrogate.rate(posterior_mean(surrogate.model), kernels, features)
    np.testing.assert_allclose(rated, mean, rtol=1e-9)


def test_gradients_equal_differences(surrogate: Surrogate) -> None:
    rng = np.random.default_rng(4)
    unit, at = rng.random((5, 3)), rng.normal(5, 2, size=(5, 1))
    function = LogExpectedImprovement(surrogate.model, best_f=1.0)

    def rated(u: np.ndarray, features: np.ndarray) -> np.ndarray:
        return surrogate.rate(function, SPACE.kernels(u), features)

    in_unit, in_features = surrogate.gradients(function, SPACE.kernels(unit), at)
    for k, step in enumerate(1e-5 * np.eye(3)):
        difference = (rated(unit + step, at) - rated(unit - step, at)) / 2e-5
        np.testing.assert_allclose(in_unit[:, k], difference, rtol=2e-3, atol=1e-4)
    difference = (rated(unit, at + 1e-5) - rated(unit, at - 1e-5)) / 2e-5
    np.testing.assert_allclose(in_features[:, 0], difference, rtol=2e-3, atol=1e-4)
