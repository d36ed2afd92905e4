"""BoTorch's acquisition functions by name, and what one of your own is.

An acquisition function rates kernels by a fitted model; ``acquisition.maximize`` looks for the
feasible kernel that it rates highest, whichever function it is. Those below are BoTorch's. Noisy
expected improvement integrates over the noise of what was measured (Ament et al., 2023, "Unexpected
Improvements to Expected Improvement for Bayesian Optimization"). The analytic ones know nothing of
kernels in training: for them the model takes its own mean as measured there (Ginsbourger et al.,
2010, "Kriging believer").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from betanas.errors import InputError

if TYPE_CHECKING:
    from botorch.acquisition import AcquisitionFunction
    from botorch.models.model import Model
    from botorch.sampling import SobolQMCNormalSampler
    from torch import Tensor

_SAMPLES = 64  # of the posterior
_BETA = 4.0  # of the upper confidence bound: two standard deviations above the mean


class AcquisitionMaker(Protocol):
    """Makes an acquisition function for one proposal: subclass nothing, any such callable will do.

    Inputs of the model are about [0, 1] each: the encoded parameters, then the features of what
    the kernel decodes to (``surrogate.InputScaling``), e + c of them.
    """

    def __call__(
        self, model: Model, observed: Tensor, pending: Tensor | None, seed: int
    ) -> AcquisitionFunction:
        """Makes it.

        Args:
            model: BoTorch's, fitted to values of which more is better.
            observed: Inputs of the measured kernels, ``n x (e + c)``, float64.
            pending: Inputs of those in training, ``p x (e + c)``; None for none.
            seed: For whatever it draws: the study's seed and the trial's number decide it.

        Returns:
            From ``m x 1 x (e + c)`` inputs to ``m`` values, the higher the better.
        """
        ...


Acquisition = str | AcquisitionMaker


def noisy_improvement(
    model: Model, observed: Tensor, pending: Tensor | None, seed: int
) -> AcquisitionFunction:
    """``qLogNEI``: log noisy expected improvement on the best of what was measured."""
    from botorch.acquisition.logei import qLogNoisyExpectedImprovement

    return qLogNoisyExpectedImprovement(
        model, observed, sampler=_sampler(seed), X_pending=pending, prune_baseline=True
    )


def sampled_improvement(
    model: Model, observed: Tensor, pending: Tensor | None, seed: int
) -> AcquisitionFunction:
    """``qLogEI``: log expected improvement on the best posterior mean, by samples."""
    from botorch.acquisition.logei import qLogExpectedImprovement

    best = _best_mean(model, observed)
    return qLogExpectedImprovement(model, best, sampler=_sampler(seed), X_pending=pending)


def improvement(
    model: Model,
    observed: Tensor,
    pending: Tensor | None,
    seed: int,  # noqa: ARG001 - it draws nothing
) -> AcquisitionFunction:
    """``LogEI``: log expected improvement on the best posterior mean, in closed form."""
    from botorch.acquisition.analytic import LogExpectedImprovement

    return _on_best_mean(LogExpectedImprovement, model, observed, pending)


def probability(
    model: Model,
    observed: Tensor,
    pending: Tensor | None,
    seed: int,  # noqa: ARG001 - it draws nothing
) -> AcquisitionFunction:
    """``LogPI``: log probability of an improvement on the best posterior mean."""
    from botorch.acquisition.analytic import LogProbabilityOfImprovement

    return _on_best_mean(LogProbabilityOfImprovement, model, observed, pending)


def upper_confidence_bound(
    model: Model,
    observed: Tensor,  # noqa: ARG001 - the model knows them
    pending: Tensor | None,
    seed: int,  # noqa: ARG001 - it draws nothing
) -> AcquisitionFunction:
    """``UCB``: two posterior standard deviations above the mean."""
    from botorch.acquisition.analytic import UpperConfidenceBound

    return UpperConfidenceBound(believer(model, pending), beta=_BETA)


def posterior_mean(model: Model) -> AcquisitionFunction:
    """What recommends: the best without regard to what else there is to learn."""
    from botorch.acquisition.analytic import PosteriorMean

    return PosteriorMean(model)


ACQUISITIONS: Mapping[str, AcquisitionMaker] = {
    "qLogNEI": noisy_improvement,
    "qLogEI": sampled_improvement,
    "LogEI": improvement,
    "LogPI": probability,
    "UCB": upper_confidence_bound,
}


def find_acquisition(acquisition: Acquisition) -> AcquisitionMaker:
    """What makes an acquisition function, by its name or given itself.

    Raises:
        InputError: For an unknown name, naming those that exist.
    """
    if callable(acquisition):
        return acquisition
    if acquisition not in ACQUISITIONS:
        known = ", ".join(ACQUISITIONS)
        raise InputError(
            f"acquisition must be one of {known}, or a function that makes one, "
            f"but got {acquisition!r}"
        )
    return ACQUISITIONS[acquisition]


def believer(model: Model, pending: Tensor | None) -> Model:
    """A model that takes its own mean as measured at ``p x (e + c)`` inputs; None for none."""
    if pending is None:
        return model
    import torch
    from gpytorch.likelihoods import FixedNoiseGaussianLikelihood

    with torch.no_grad():
        mean = model.posterior(pending).mean  # it also fills caches that conditioning needs
        if isinstance(model.likelihood, FixedNoiseGaussianLikelihood):
            return model.condition_on_observations(pending, mean, noise=torch.zeros_like(mean))
        return model.condition_on_observations(pending, mean)


def _on_best_mean(
    make: Callable[[Model, Tensor], AcquisitionFunction],
    model: Model,
    observed: Tensor,
    pending: Tensor | None,
) -> AcquisitionFunction:
    """An analytic function of a model and of the value that is to be improved on."""
    return make(believer(model, pending), _best_mean(model, observed))


def _best_mean(model: Model, observed: Tensor) -> Tensor:
    """The highest posterior mean of a measured kernel: noise has made the best value look good."""
    import torch

    with torch.no_grad():
        best: Tensor = model.posterior(observed).mean.max()
        return best


def _sampler(seed: int) -> SobolQMCNormalSampler:
    import torch
    from botorch.sampling import SobolQMCNormalSampler

    return SobolQMCNormalSampler(torch.Size([_SAMPLES]), seed=seed)
