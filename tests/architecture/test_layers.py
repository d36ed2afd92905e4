"""Architectures as data: JSON, equality, fingerprints, tables."""

import json
from collections import defaultdict
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
from drawn_kernels import FAMILY_NAMES, RESOLUTIONS, kernels, random_kernels
from hypothesis import given, settings
from hypothesis import strategies as st

from betanas.architecture.decoding import decode
from betanas.architecture.families import FAMILIES
from betanas.architecture.layers import Activation, Architecture, Block, Layer, LayerTable

PUBLISHED = decode(FAMILIES["betanet2"], FAMILIES["betanet2"].published, 224, 100)


@settings(max_examples=60)
@given(data=st.data(), family=st.sampled_from(FAMILY_NAMES), resolution=RESOLUTIONS)
def test_json_round_trip(data: st.DataObject, family: str, resolution: int) -> None:
    kernel = data.draw(kernels(FAMILIES[family])) | {"k": 2.5}
    architecture = decode(FAMILIES[family], kernel, resolution, 10)
    text = json.dumps(architecture.to_json(), allow_nan=False)
    again = Architecture.from_json(json.loads(text))
    assert again == architecture
    assert hash(again) == hash(architecture)
    assert again.fingerprint == architecture.fingerprint
    assert again.to_json() == architecture.to_json()  # the ratios, which equality leaves out
    assert json.dumps(again.to_json()) == text
    assert all(type(y.block) is Block for y in again.layers)


@settings(max_examples=60)
@given(data=st.data(), family=st.sampled_from(FAMILY_NAMES), resolution=RESOLUTIONS)
def test_table_round_trip(data: st.DataObject, family: str, resolution: int) -> None:
    kernel = data.draw(kernels(FAMILIES[family])) | {"k": 2.5}
    vector = FAMILIES[family].vector(kernel)
    table = FAMILIES[family].table(vector[None, :], resolution)
    architecture = table.architecture(0, 10)
    again = LayerTable.of(architecture)
    assert again.architecture(0, 10) == architecture
    for f in fields(LayerTable):
        expected, found = getattr(table, f.name), getattr(again, f.name)
        assert np.array_equal(found, expected), f.name
        assert np.asarray(found).dtype == np.asarray(expected).dtype, f.name


def test_different_kernels_of_one_architecture() -> None:
    family = FAMILIES["betanet2"]
    nudged = {name: value + 1e-7 for name, value in family.published.items() if name[0] in "ESG"}
    other = decode(family, {**family.published, **nudged}, 224, 100)
    assert other.to_json() != PUBLISHED.to_json()  # the ratios tell them apart
    assert other == PUBLISHED
    assert hash(other) == hash(PUBLISHED)
    assert other.fingerprint == PUBLISHED.fingerprint
    assert len({other, PUBLISHED}) == 1


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_fingerprints_are_equal_exactly_for_equal_architectures(family: str) -> None:
    # Few layers and narrow ones: many of these kernels decode to the same network.
    fixed = {"k": 3.5, "K": 2.0, "E0": 2.0, "E1": 2.0, "S0": 20.0, "S1": 20.0, "G0": 2.0, "G1": 1.0}
    x = random_kernels(FAMILIES[family], 1500, seed=0, **fixed)
    table = FAMILIES[family].table(x, 16)
    groups: dict[str, set[Architecture]] = defaultdict(set)
    seen = set()
    for i in range(len(x)):
        architecture = table.architecture(i, 10)
        seen.add(architecture)
        groups[architecture.fingerprint].add(architecture)
    assert len(seen) < len(x) - 50  # otherwise this test shows nothing
    assert all(len(equal) == 1 for equal in groups.values())
    assert len(groups) == len(seen)


def test_fingerprint_has_16_hexadecimal_digits() -> None:
    assert len(PUBLISHED.fingerprint) == 16
    int(PUBLISHED.fingerprint, 16)


@pytest.mark.parametrize("name", ["resolution", "num_classes", "latent_channels"])
def test_every_number_of_the_network_counts(name: str) -> None:
    other = replace(PUBLISHED, **{name: getattr(PUBLISHED, name) + 1})
    assert other != PUBLISHED
    assert other.fingerprint != PUBLISHED.fingerprint


@pytest.mark.parametrize("name", [f.name for f in fields(Layer)])
def test_every_fact_of_a_layer_but_its_ratios_counts(name: str) -> None:
    last = PUBLISHED.layers[-1]
    others = {"block": Block.FMBC, "activation": Activation.RELU, "pools": True}
    value = others[name] if name in others else getattr(last, name) + 1
    other = replace(PUBLISHED, layers=(*PUBLISHED.layers[:-1], replace(last, **{name: value})))
    same = name in ("expansion_ratio", "se_ratio")
    assert (other == PUBLISHED) is same
    assert (other.fingerprint == PUBLISHED.fingerprint) is same


def test_order_of_layers_counts() -> None:
    first, second, third, *others = PUBLISHED.layers
    other = replace(PUBLISHED, layers=(first, third, second, *others))
    assert other.fingerprint != PUBLISHED.fingerprint


def test_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        PUBLISHED.resolution = 1  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        PUBLISHED.layers[0].stride = 1  # type: ignore[misc]


def test_residual() -> None:
    inner = PUBLISHED.layers[-1]
    assert inner.has_residual
    assert not replace(inner, stride=2).has_residual
    assert not replace(inner, out_channels=inner.in_channels + 1).has_residual
    assert not replace(inner, block=Block.CNA).has_residual
