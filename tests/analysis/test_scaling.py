"""Costs against resolution: the published counts, and resolutions as people write them."""

import math

import pytest

from betanas.analysis.scaling import (
    RESOLUTIONS,
    Ceiling,
    Growth,
    Rule,
    Scaling,
    largest,
    parse_resolutions,
    scale,
)
from betanas.architecture.complexity import count
from betanas.architecture.decoding import decode
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


@pytest.mark.parametrize("name", ["betanet2", "betanet3", "betamix", "efficientnet", "nasbench201"])
@pytest.mark.parametrize("rule", Rule)
def test_every_rule_begins_with_the_kernels_own_network_and_counts_what_it_builds(
    name, rule
) -> None:
    family = FAMILIES[name]
    if Scaling.refusal(family, rule):
        with pytest.raises(InputError, match=f"rule {rule} needs"):
            Scaling(family, family.published, 10, rule, 96)
        return
    scaling = Scaling(family, family.published, 10, rule, 96)
    assert scaling.architecture(96) == decode(family, family.published, 96, 10)
    for resolution in (64, 96, 131):
        network = scaling.architecture(resolution)
        counted, row = count(network, 3), scaling.cost(resolution, 3)
        assert (row.num_params, row.macs, row.activation_bytes, row.layers) == (
            counted.num_params, counted.macs, counted.activation_bytes, len(network.layers),
        )  # fmt: skip


def test_the_tamed_rule_keeps_the_depth_and_weights_grow_as_the_side() -> None:
    family = FAMILIES["betanet2"]
    tamed, plain = (
        {r: Scaling(family, family.published, 100, rule).cost(r, 1) for r in (224, 384, 1024)}
        for rule in (Rule.TAMED, Rule.PLAIN)
    )
    assert {row.layers for row in tamed.values()} == {19}
    for resolution in (384, 1024):
        grown = tamed[resolution].num_params / tamed[224].num_params
        assert grown == pytest.approx(resolution / 224, rel=0.03)
    assert plain[384].num_params > 1.9 * tamed[384].num_params
    # k alone: widths are as wide as by the plain rule.
    k_only = Scaling(family, family.published, 100, Rule.TAMED, growth=Growth(width=1.0))
    grown = k_only.cost(384, 1).num_params / 8_859_193
    assert grown == pytest.approx((384 / 224) ** 2, rel=0.02)


def test_b0_scaled_by_its_own_rule_is_the_formulas_network() -> None:
    family = FAMILIES["efficientnet"]
    scaling = Scaling(family, family.published, 1000, Rule.COMPOUND)
    phi = math.log(296 / 224, family.published["gamma"])
    larger = decode(family, {**family.published, "phi": phi}, 224, 1000)
    assert larger.resolution == 296
    assert scaling.architecture(296) == larger


def test_the_largest_that_fits() -> None:
    family = FAMILIES["betanet2"]
    rows = scale(family, {**family.published, "k": 7}, (64, 128, 224, 256, 384), 100, 1)
    limit = rows[2].num_params
    assert largest(rows, Ceiling(num_params=limit)).resolution == 224
    assert largest(rows, Ceiling(num_params=limit, macs=rows[2].macs - 1)).resolution == 128
    assert largest(rows, Ceiling(num_params=1)) is None
    with pytest.raises(InputError, match="--max-macs must be > 0, but got -1"):
        Ceiling(macs=-1)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"gamma": 1.0}, "gamma > 1, but got 1.2, 1.1 and 1"),
        ({"alpha": float("nan")}, "alpha >= 1"),
        ({"k": -1}, r"k in \[0, 4\]"),
    ],
)
def test_a_growth_that_shrinks_is_refused(numbers, said) -> None:
    with pytest.raises(InputError, match=said):
        Growth(**numbers)


def test_a_network_whose_side_is_not_the_studys_grows_from_its_own() -> None:
    family = FAMILIES["efficientnet"]
    scaling = Scaling(family, family.members["efficientnet-b3"], 10, Rule.COMPOUND, 224)
    assert scaling.architecture(224) == decode(family, scaling.kernel, 224, 10)
    assert scaling.architecture(224).resolution == 300
    assert scaling.architecture(448).resolution == 600


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("growth", [Growth(gamma=1.001), Growth(alpha=8.0, gamma=1.1)])
def test_compound_scaling_beyond_all_counts_is_refused(growth) -> None:
    family = FAMILIES["betanet2"]
    scaling = Scaling(family, family.published, 100, Rule.COMPOUND, growth=growth)
    assert scaling.cost(16, 1).layers > 0
    with pytest.raises(InputError, match=r"from 224 to 512 pixels .* times as deep and .* alpha"):
        scaling.cost(512, 1)


def test_the_authors_multipliers_reach_from_the_smallest_side_to_the_largest() -> None:
    family = FAMILIES["betanet2"]
    scaling = Scaling(family, family.published | {"k": 3.0}, 100, Rule.COMPOUND, 16)
    assert scaling.cost(4096, 1).layers > 5000
