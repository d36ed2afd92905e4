"""Costs against resolution: the published counts, and resolutions as people write them."""

import pytest

from betanas.analysis.scaling import RESOLUTIONS, parse_resolutions, scale
from betanas.architecture.families import FAMILIES
from betanas.errors import InputError


@pytest.mark.parametrize(
    ("family", "at_224", "at_384"), [("betanet2", 8_859_193, 30.01), ("betanet3", 5_112_268, 14.63)]
)
def test_published_kernels_scale_to_their_published_sizes(family, at_224, at_384) -> None:
    chosen = FAMILIES[family]
    rows = {r.resolution: r for r in scale(chosen, chosen.published, (64, 224, 384, 1024), 100, 1)}
    assert rows[224].num_params == at_224
    assert rows[384].num_params / 1e6 == pytest.approx(at_384, abs=0.005)
    assert rows[64].macs < rows[224].macs < rows[1024].macs
    assert rows[64].layers < rows[1024].layers


def test_a_kernel_without_a_contraction_has_no_cost() -> None:
    family = FAMILIES["betanet2"]
    small, large = scale(family, {**family.published, "k": 7}, (64, 256), 10, 1)
    assert (small.layers, small.num_params, small.macs, small.activation_bytes) == (0, *[None] * 3)
    assert large.layers > 0


def test_resolutions_may_be_listed_or_continued() -> None:
    assert parse_resolutions("64, 96,...,1024") == RESOLUTIONS
    assert parse_resolutions("224") == (224,)
    assert parse_resolutions("64,128,32") == (64, 128, 32)
    assert parse_resolutions("64,100,...,180") == (64, 100, 136, 172)


@pytest.mark.parametrize(
    "text", ["", "a", "64,...", "64,96,...", "96,64,...,128", "64;96", "1,2,...,9999"]
)
def test_other_texts_are_refused(text) -> None:
    with pytest.raises(InputError, match="--resolutions takes"):
        parse_resolutions(text)
