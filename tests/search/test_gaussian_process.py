"""The Gaussian process in closed form against GPyTorch, differences and plain definitions."""

from dataclasses import replace

import gpytorch
import numpy as np
import pytest
import torch
from botorch.acquisition.analytic import LogExpectedImprovement
from botorch.models import SingleTaskGP
from gpytorch.kernels import AdditiveKernel, MaternKernel, ScaleKernel
from scipy.optimize import approx_fprime

from betanas.parameters import Real
from betanas.search.gaussian_process import (
    GaussianProcess,
    Groups,
    Hyperparameters,
    _negative_posterior,
    fit,
    grouped,
)
from betanas.search.space import Space
from betanas.search.surrogate import Observations, Surrogate, log_h


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    inputs = rng.random((40, 5))
    targets = np.sin(4 * inputs[:, 0]) + inputs[:, 1] ** 2 + 0.05 * rng.normal(size=40)
    return inputs, (targets - targets.mean()) / targets.std()


EXACT = np.zeros(40)  # no observation has noise of its own
ONE = grouped(5)
HYPERPARAMETERS = Hyperparameters(
    np.log([0.4, 0.9, 2.0, 3.0, 5.0]), np.log([1.3]), float(np.log(0.02))
)
TWO = grouped(2, 3)
SUM = replace(HYPERPARAMETERS, log_signals=np.log([0.8, 0.5]))


def gpytorch_twin(
    inputs: np.ndarray,
    targets: np.ndarray,
    groups: Groups,
    hyperparameters: Hyperparameters,
    mean: float,
) -> SingleTaskGP:
    kernels = []
    for group, log_signal in zip(groups, hyperparameters.log_signals, strict=True):
        dims = tuple(range(group.start, group.stop))
        matern = MaternKernel(nu=2.5, ard_num_dims=len(dims), active_dims=dims)
        matern.lengthscale = torch.from_numpy(np.exp(hyperparameters.log_scales[group]))
        kernels.append(ScaleKernel(matern).double())
        kernels[-1].outputscale = float(np.exp(log_signal))
    kernel = AdditiveKernel(*kernels)
    model = SingleTaskGP(
        torch.from_numpy(inputs),
        torch.from_numpy(targets)[:, None],
        covar_module=kernel,
        likelihood=gpytorch.likelihoods.GaussianLikelihood().double(),
        outcome_transform=None,
    )
    model.likelihood.noise = float(np.exp(HYPERPARAMETERS.log_noise))
    model.mean_module.constant.data.fill_(mean)
    return model.eval()


@pytest.mark.parametrize(("groups", "hyperparameters"), [(ONE, HYPERPARAMETERS), (TWO, SUM)])
def test_posterior_equals_gpytorch(
    data: tuple[np.ndarray, np.ndarray], groups: Groups, hyperparameters: Hyperparameters
) -> None:
    process = GaussianProcess(*data, EXACT, groups, hyperparameters)
    twin = gpytorch_twin(*data, groups, hyperparameters, process.mean)
    at = np.random.default_rng(1).random((7, 5))
    mean, std = process.predict(at)
    posterior = twin.posterior(torch.from_numpy(at))
    np.testing.assert_allclose(mean, posterior.mean[:, 0].detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(std**2, posterior.variance[:, 0].detach().numpy(), rtol=1e-4)


def test_expected_improvement_equals_botorch(data: tuple[np.ndarray, np.ndarray]) -> None:
    process = GaussianProcess(*data, EXACT, ONE, HYPERPARAMETERS)
    twin = gpytorch_twin(*data, ONE, HYPERPARAMETERS, process.mean)
    at = np.random.default_rng(1).random((50, 5))
    mean, std = process.predict(at)
    theirs = LogExpectedImprovement(twin, best_f=1.0)(torch.from_numpy(at)[:, None, :])
    ours = np.log(std) + log_h((mean - 1.0) / std)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-3)


def test_log_h_is_smooth_down_to_where_nothing_is_expected() -> None:
    z = -np.logspace(-2, 6, 4001)
    values = log_h(z)
    assert np.all(np.isfinite(values))
    assert np.all(np.diff(values) < 0)
    assert log_h(np.array([3.0]))[0] == pytest.approx(np.log(3.000382), abs=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gradient_equals_differences(data: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups, near = (TWO, SUM) if seed else (ONE, HYPERPARAMETERS)
    vector = near.vector() + 0.3 * rng.normal(size=len(near.vector()))
    gradient = _negative_posterior(vector, *data, EXACT, groups)[1]
    numeric = approx_fprime(vector, lambda v: _negative_posterior(v, *data, EXACT, groups)[0], 1e-6)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-3, atol=1e-3)


def test_fit_finds_what_matters(data: tuple[np.ndarray, np.ndarray]) -> None:
    found = fit(*data, EXACT, ONE, Hyperparameters.prior_mode(ONE), 60)
    assert found.log_scales[:2].max() < found.log_scales[2:].min()
    assert np.exp(found.log_noise) < 0.05


def test_posterior_gradients_equal_differences(data: tuple[np.ndarray, np.ndarray]) -> None:
    process = GaussianProcess(*data, EXACT, TWO, SUM)
    at = np.random.default_rng(1).random((6, 5))
    gradients = process.gradients(at)
    for k, step in enumerate(1e-5 * np.eye(5)):
        higher, lower = process.predict(at + step), process.predict(at - step)
        for ours, up, down in zip(gradients, higher, lower, strict=True):
            np.testing.assert_allclose(ours[:, k], (up - down) / 2e-5, atol=1e-5)


def test_gradient_of_expected_improvement_equals_differences() -> None:
    rng = np.random.default_rng(2)
    space = Space((Real("a", 0, 2), Real("fixed", 3, 3), Real("b", -1, 5)))
    kernels, features = space.kernels(rng.random((30, 3))), rng.normal(5, 2, size=(30, 1))
    values = np.sin(kernels[:, 0]) + 0.1 * features[:, 0]
    surrogate = Surrogate(space, Observations(kernels, features, values, np.zeros(30)))
    unit, at = rng.random((5, 3)), rng.normal(5, 2, size=(5, 1))

    def acquisition(u: np.ndarray, t: np.ndarray) -> np.ndarray:
        return surrogate.log_expected_improvement(space.kernels(u), t)

    in_unit, in_features = surrogate.log_expected_improvement_gradient(space.kernels(unit), at)
    for k, step in enumerate(1e-5 * np.eye(3)):
        difference = (acquisition(unit + step, at) - acquisition(unit - step, at)) / 2e-5
        np.testing.assert_allclose(in_unit[:, k], difference, rtol=2e-3, atol=1e-4)
    difference = (acquisition(unit, at + 1e-5) - acquisition(unit, at - 1e-5)) / 2e-5
    np.testing.assert_allclose(in_features[:, 0], difference, rtol=2e-3, atol=1e-4)


def test_noise_of_one_observation_equals_its_definition(
    data: tuple[np.ndarray, np.ndarray],
) -> None:
    inputs, targets = data
    extra = np.where(np.arange(40) == 7, 4.0, 0.0)
    exact = GaussianProcess(inputs, targets, EXACT, ONE, HYPERPARAMETERS)
    noisy = GaussianProcess(inputs, targets, extra, ONE, HYPERPARAMETERS)
    without = np.arange(40) != 7
    absent = GaussianProcess(
        inputs[without], targets[without], EXACT[without], ONE, HYPERPARAMETERS
    )
    at = inputs[[7]]
    stds = [process.predict(at)[1][0] for process in (exact, noisy, absent)]
    assert stds[0] < stds[1] < stds[2]
    # An observation of infinite noise is none at all.
    endless = GaussianProcess(inputs, targets, 1e12 * extra, ONE, HYPERPARAMETERS)
    np.testing.assert_allclose(endless.predict(at), absent.predict(at), rtol=1e-6)


def test_gradient_with_noise_of_one_observation_equals_differences(
    data: tuple[np.ndarray, np.ndarray],
) -> None:
    extra = np.linspace(0.0, 0.5, 40)
    vector = SUM.vector()
    gradient = _negative_posterior(vector, *data, extra, TWO)[1]
    numeric = approx_fprime(vector, lambda v: _negative_posterior(v, *data, extra, TWO)[0], 1e-6)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-3, atol=1e-3)
