"""Another study's posterior mean as a mean function, as far as leave-one-out bears it out.

What one study has learnt is a first guess of what another one will: its posterior mean, scaled,
stands in the place of a constant mean (Golovin et al., 2017, "Google Vizier", section 3.3.2,
stack processes on residuals in this way). The weight of the guess is found by stacking two models
that are left each value out: one with the guess, one without (Wolpert, 1992, "Stacked
Generalization"). Where the guess misleads that is 0, and the model is as if there were none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from gpytorch.means import ConstantMean

from betanas.search.likelihood import noisy_covariance

if TYPE_CHECKING:
    from betanas.search.botorch_model import KernelGP

LEAST_TOLD = 5  # values, below which leaving one out says nothing
_FLAT = 1e-3  # deviation of the guesses, in the source's own, below which they are none


class SourceMean(ConstantMean):  # type: ignore[misc,unused-ignore]
    """A constant, and a weight times the posterior mean of another study's model.

    Args:
        source: That model, fitted.
        scale: Of its inputs in this one's, ``e + c``: theirs are ``inputs * scale + shift``.
        shift: Likewise.

    Attributes:
        weight: Standardised values here a standardised value there; 0 makes it a constant mean.
    """

    def __init__(self, source: KernelGP, scale: torch.Tensor, shift: torch.Tensor) -> None:
        super().__init__()
        with torch.no_grad():
            precision = torch.linalg.inv(noisy_covariance(source))
            residual = source.train_targets - source.mean_module(source.train_inputs[0])
            self._weights = precision @ residual
            self._constant = source.mean_module.constant.detach().clone()
        # In a tuple, torch does not take the source's parameters for those of this mean.
        self._covariance = (source.covar_module.requires_grad_(requires_grad=False),)
        self._known, self._scale, self._shift = source.train_inputs[0], scale, shift
        self.weight = 0.0

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - GPyTorch's name
        """Prior mean of standardised values at ``... x (e + c)`` inputs, ``...``."""
        constant: torch.Tensor = super().forward(input)
        return constant + self.weight * self.guess(input) if self.weight else constant

    def guess(self, inputs: torch.Tensor) -> torch.Tensor:
        """The source's posterior mean at ``... x (e + c)`` inputs, standardised there, ``...``."""
        asked = inputs.reshape(-1, inputs.shape[-1]) * self._scale + self._shift
        near: torch.Tensor = self._covariance[0](asked, self._known).to_dense()
        found: torch.Tensor = self._constant + near @ self._weights
        return found.reshape(inputs.shape[:-1])


def source_weight(plain: KernelGP, guided: KernelGP, guess: torch.Tensor) -> float:
    """How far a guess is to be believed: its slope, times what leaving values out leaves of it.

    In each fold the slope is found anew without the value that is foretold, so that a guess that
    means nothing foretells worse than none.

    Args:
        plain: Fitted with a constant mean.
        guided: Fitted to the same n values with the guess in its mean.
        guess: At the values' inputs, ``n``.

    Returns:
        The mean's ``weight``, >= 0.
    """
    targets = plain.train_targets
    slope = guess_slope(guided, guess)
    if slope <= 0:
        return 0.0
    ones = torch.ones_like(targets)[:, None]
    without = _left_out_errors(plain, ones)
    gain = without - _left_out_errors(guided, torch.column_stack([ones, guess]))
    share = float(without @ gain / (gain @ gain).clamp_min(1e-12))
    return slope * min(max(share, 0.0), 1.0)


def guess_slope(model: KernelGP, guess: torch.Tensor) -> float:
    """Generalised least squares' slope of a model's n targets on a guess, ``n``; 0 if it is flat.

    Beside a constant, under the model's covariance.
    """
    if len(guess) < LEAST_TOLD or guess.std() < _FLAT:
        return 0.0
    columns = torch.column_stack([torch.ones_like(guess), guess])
    with torch.no_grad():
        half = torch.linalg.solve(noisy_covariance(model), columns)
    return float(torch.linalg.solve(columns.T @ half, half.T @ model.train_targets)[1])


def _left_out_errors(model: KernelGP, columns: torch.Tensor) -> torch.Tensor:
    """What a model's n targets are off from what the others foretell of each, ``n``.

    Universal kriging in closed form: the factors of the columns, ``n x k``, are estimated anew for
    each (Dubrule, 1983, "Cross Validation of Kriging in a Unique Neighborhood").
    """
    with torch.no_grad():
        precision = torch.linalg.inv(noisy_covariance(model))
        half = precision @ columns
        inner = precision - half @ torch.linalg.solve(columns.T @ half, half.T)
        errors: torch.Tensor = inner @ model.train_targets / inner.diagonal().clamp_min(1e-12)
        return errors
