"""The profile says of a table what one reads from the written-out architecture."""

import numpy as np
import pytest
from drawn_kernels import FAMILY_NAMES, random_kernels

from betanas.architecture.decoding import decode
from betanas.architecture.families import FAMILIES
from betanas.architecture.layers import Block
from betanas.architecture.profile import PROFILE, SHARES, profile_table


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_profile_is_the_architectures(family: str) -> None:
    chosen = FAMILIES[family]
    kernels = random_kernels(chosen, 20, seed=3, k=3.2)
    profiles = profile_table(chosen.table(kernels, 64))
    assert profiles.shape == (20, len(PROFILE))
    for kernel, profile in zip(kernels, profiles, strict=True):
        layers = decode(chosen, chosen.kernel(kernel), 64, 10).layers
        at = [layers[min(int(share * len(layers)), len(layers) - 1)] for share in SHARES]
        expected = [
            np.log(len(layers)),
            np.mean([layer.block is Block.FMBC for layer in layers]),
            *(np.log(layer.out_channels) for layer in at),
            *(np.log(layer.out_resolution) for layer in at),
        ]
        np.testing.assert_allclose(profile, expected)


def test_trivial_networks_have_a_finite_profile() -> None:
    chosen = FAMILIES["betanet2"]
    kernels = random_kernels(chosen, 4, seed=0)
    kernels[:2, chosen.names.index("k")] = 12.0  # no contraction at 16 pixels
    assert np.all(np.isfinite(profile_table(chosen.table(kernels, 16))))
    assert np.all(np.isfinite(profile_table(chosen.table(kernels[:2], 16))))
