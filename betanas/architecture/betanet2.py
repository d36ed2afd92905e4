"""BetaNet2: 13 parameters; a layer's width follows from its resolution alone.

Source: A. Peaston, EfficientNetV2 Neural Architecture Search, University of Sydney, 2022.
"""

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from betanas.architecture.beta import beta_cdf
from betanas.architecture.betanet import BetaNet, Skeleton, common_parameters
from betanas.arrays import FloatArray
from betanas.parameters import Real


class BetaNet2(BetaNet):
    """The family of that name, with the kernel that its published search ended with."""

    name = "betanet2"
    parameters = common_parameters(
        Real("Wa", 0.0, 0.5, (-2, 2), "log10 of the first Beta parameter, widths"),
        Real("Wb", -0.5, 0.0, (-2, 2), "log10 of the second Beta parameter, widths"),
    )
    members: ClassVar = {
        "betanet2": {
            "k": 3.2288, "K": 3.9504, "Da": 0.0471, "Db": 0.3262, "Wa": 0.5, "Wb": -0.0287,
            "G0": 2.0006, "G1": 2.4832, "B": 0.2897, "E0": 3.1174, "E1": 2.0,
            "S0": 18.1381, "S1": 19.9316,
        }
    }  # fmt: skip

    def width_profile(
        self, skeleton: Skeleton, parameter: Callable[[str], FloatArray]
    ) -> FloatArray:
        """``u = Beta cdf`` at the share of all halvings that a layer has behind it.

        That share is ``log2(R / r_i) / log2(R / r_last)``: 1/L a contraction when the halvings are
        exact. Computed once a contraction, then spread to the layers: the layers between two
        contractions share one resolution.
        """
        n, most = len(skeleton.depth), int(skeleton.contractions.max(initial=0))
        sides = np.ones(most + 1, dtype=np.int64)
        sides[0] = skeleton.resolution
        for t in range(most):
            sides[t + 1] = -(-sides[t] // 2)
        halvings = np.log2(skeleton.resolution / sides)
        last = halvings[skeleton.contractions][:, None]
        share = halvings[None, 1:] / np.where(last > 0, last, 1.0)
        a, b = parameter("Wa"), parameter("Wb")
        reached = np.arange(1, most + 1) <= skeleton.contractions[:, None]
        by_contraction = np.zeros((n, most + 1))
        rows, columns = np.nonzero(reached)
        by_contraction[rows, columns + 1] = beta_cdf(share[rows, columns], a[rows, 0], b[rows, 0])
        behind = np.cumsum(skeleton.contracts, axis=1, dtype=np.int64)
        return np.take_along_axis(by_contraction, behind, axis=1)


BETANET2 = BetaNet2()
