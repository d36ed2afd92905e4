"""BetaNet3: 15 parameters; widths change at contractions and at adjustment layers of their own.

Source: A. Peaston, EfficientNetV2 Neural Architecture Search, University of Sydney, 2022.
"""

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from betanas.architecture.beta import beta_cdf, beta_ppf
from betanas.architecture.betanet import BetaNet, Skeleton, common_parameters
from betanas.arrays import FloatArray
from betanas.parameters import Real


class BetaNet3(BetaNet):
    """The family of that name, with the kernel that its published search ended with."""

    name = "betanet3"
    parameters = common_parameters(
        Real("WLa", -0.5, 0.5, (-2, 2), "log10 of the first Beta parameter, adjustments"),
        Real("WLb", -0.5, 0.5, (-2, 2), "log10 of the second Beta parameter, adjustments"),
        Real("WCa", -0.5, 0.5, (-2, 2), "log10 of the first Beta parameter, widths"),
        Real("WCb", -0.5, 0.5, (-2, 2), "log10 of the second Beta parameter, widths"),
    )
    members: ClassVar = {
        "betanet3": {
            "k": 3.5857, "K": 3.0860, "Da": -0.1650, "Db": 0.3865, "WLa": -0.3313, "WLb": 0.4973,
            "WCa": 0.1491, "WCb": 0.0790, "G0": 2.5780, "G1": 2.3262, "B": 0.1545,
            "E0": 4.6058, "E1": 4.5372, "S0": 21.9227, "S1": 19.9361,
        }
    }  # fmt: skip

    def width_profile(
        self, skeleton: Skeleton, parameter: Callable[[str], FloatArray]
    ) -> FloatArray:
        """``u = Beta cdf`` of the depth at each layer that changes the width; others keep theirs.

        The width changes at contractions (layer 0 is one) and at the adjustment layers
        ``int(N * ppf(j / L))``, ``j = 0 .. L-1``, spaced by a second Beta distribution.
        """
        changes = skeleton.contracts.copy()
        contractions, depth = skeleton.contractions, skeleton.depth
        rows, j = np.nonzero(np.arange(contractions.max(initial=0)) < contractions[:, None])
        adjustment = depth[rows] * beta_ppf(
            j / contractions[rows], parameter("WLa")[rows, 0], parameter("WLb")[rows, 0]
        )
        changes[rows, np.minimum(adjustment.astype(np.int64), depth[rows] - 1)] = True

        profile = np.zeros_like(skeleton.position)
        rows, layers = np.nonzero(changes)
        profile[rows, layers] = beta_cdf(
            skeleton.position[rows, layers], parameter("WCa")[rows, 0], parameter("WCb")[rows, 0]
        )
        keeps = np.maximum.accumulate(np.where(changes, np.arange(changes.shape[1]), 0), axis=1)
        return np.take_along_axis(profile, keeps, axis=1)


BETANET3 = BetaNet3()
