"""Decoding against a plain second writing of BETANET.md section 2, and its laws."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest
import scipy.stats
from drawn_kernels import FAMILY_NAMES, RESOLUTIONS, kernels, random_kernels
from hypothesis import example, given, settings
from hypothesis import strategies as st

from betanas.architecture.beta import beta_cdf, beta_ppf
from betanas.architecture.decoding import TrivialKernelError, decode
from betanas.architecture.families import FAMILIES, find_family
from betanas.architecture.layers import Architecture, Layer, LayerTable
from betanas.errors import InputError, KernelError

BETANET2, BETANET3 = FAMILIES["betanet2"], FAMILIES["betanet3"]


# -- BETANET.md section 2 once more, one scalar at a time ---------------------------------------


@dataclass
class Plain:
    """A network as the rules describe it; ``layers`` are tuples in the order of ``described``."""

    latent_channels: int
    layers: list[tuple[object, ...]]


def described(layer: Layer) -> tuple[object, ...]:
    return (
        str(layer.block),
        layer.in_channels,
        layer.out_channels,
        layer.stride,
        layer.in_resolution,
        layer.out_resolution,
        layer.expanded_channels,
        layer.squeeze_channels,
    )


def beta(log10_a: float, log10_b: float) -> Any:
    # numpy's power, not Python's: they differ in the last bit on some processors.
    return scipy.stats.beta(np.power(10.0, log10_a), np.power(10.0, log10_b))


def halvings(resolution: int, k: float) -> list[int]:
    sides = [resolution]
    while not sides[-1] < 2**k:
        sides.append(math.ceil(sides[-1] / 2))
    return sides


def contraction_layers(kernel: Mapping[str, float], n: int, count: int) -> set[int]:
    spacing = beta(kernel["Da"], kernel["Db"])
    taken = {0}
    for j in range(1, count):
        wished = min(1 + int((n - 1) * spacing.ppf(j / count)), n - 1)
        after = [i for i in range(wished, n) if i not in taken]
        before = [i for i in range(wished) if i not in taken]
        taken.add(after[0] if after else before[-1])
    return taken


def betanet2_widths(
    kernel: Mapping[str, float], n: int, contracts: set[int], sides: list[int]
) -> list[float]:
    profile, total = beta(kernel["Wa"], kernel["Wb"]), math.log2(sides[0] / sides[-1])
    behind = [sum(c <= i for c in contracts) for i in range(n)]
    return [profile.cdf(min(math.log2(sides[0] / sides[b]) / total, 1.0)) for b in behind]


def betanet3_widths(
    kernel: Mapping[str, float], n: int, contracts: set[int], sides: list[int]
) -> list[float]:
    spacing, profile = beta(kernel["WLa"], kernel["WLb"]), beta(kernel["WCa"], kernel["WCb"])
    count = len(sides) - 1
    changing = contracts | {int(n * spacing.ppf(j / count)) for j in range(count)}
    values: list[float] = []
    for i in range(n):
        values.append(profile.cdf((i + 0.5) / n) if i in changing else values[-1])
    return values


WIDTHS = {"betanet2": betanet2_widths, "betanet3": betanet3_widths}


def plainly(family: str, kernel: Mapping[str, float], resolution: int) -> Plain | None:
    """The network of a kernel; None for a trivial one."""
    sides = halvings(resolution, kernel["k"])
    count = len(sides) - 1
    if count == 0:
        return None
    n = int(kernel["K"] * count)
    contracts = contraction_layers(kernel, n, count)
    final = kernel["G0"] * resolution
    widths = [int(3 + (final - 3) * u) for u in WIDTHS[family](kernel, n, contracts, sides)]
    layers: list[tuple[object, ...]] = []
    width, passed = 3, 0
    for i in range(n):
        stride = 2 if i in contracts else 1
        side, passed = sides[passed], passed + (stride == 2)
        block = "CNA" if i == 0 else "FMBC" if (i + 0.5) / n < kernel["B"] else "MBC"
        along = i / (n - 1) if n > 1 else 0.0
        expansion = kernel["E0"] + (kernel["E1"] - kernel["E0"]) * along
        se_ratio = kernel["S0"] + (kernel["S1"] - kernel["S0"]) * along
        expanded = int(width * expansion) if i else 0
        squeeze = max(1, int(expanded / se_ratio)) if block == "MBC" else 0
        layers.append((block, width, widths[i], stride, side, sides[passed], expanded, squeeze))
        width = widths[i]
    return Plain(int(kernel["G1"] * final), layers)


# -- against it ---------------------------------------------------------------------------------


def check_against_plain(family: str, kernel: dict[str, float], resolution: int) -> None:
    expected = plainly(family, kernel, resolution)
    if expected is None:
        with pytest.raises(TrivialKernelError):
            decode(FAMILIES[family], kernel, resolution, 10)
        return
    found = decode(FAMILIES[family], kernel, resolution, 10)
    assert [described(y) for y in found.layers] == expected.layers
    assert (found.latent_channels, found.num_classes, found.resolution) == (
        expected.latent_channels,
        10,
        resolution,
    )


@settings(max_examples=250)
@given(kernel=kernels(BETANET2), resolution=RESOLUTIONS)
@example(kernel=dict(BETANET2.published), resolution=224)
def test_betanet2_as_written(kernel: dict[str, float], resolution: int) -> None:
    check_against_plain("betanet2", kernel, resolution)


@settings(max_examples=250)
@given(kernel=kernels(BETANET3), resolution=RESOLUTIONS)
@example(kernel=dict(BETANET3.published), resolution=224)
def test_betanet3_as_written(kernel: dict[str, float], resolution: int) -> None:
    check_against_plain("betanet3", kernel, resolution)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_many_even_kernels_as_written(family: str) -> None:
    # Hypothesis loves the corners; here is the middle of the space.
    x = random_kernels(FAMILIES[family], 80, seed=5)
    for vector, resolution in zip(x, np.random.default_rng(6).integers(16, 1025, 80), strict=True):
        check_against_plain(family, FAMILIES[family].kernel(vector), int(resolution))


@settings(max_examples=100)
@given(data=st.data(), family=st.sampled_from(FAMILY_NAMES), resolution=RESOLUTIONS)
def test_ratios_and_stochastic_depth_are_linear(
    data: st.DataObject, family: str, resolution: int
) -> None:
    kernel = data.draw(kernels(FAMILIES[family]))
    kernel["k"] = min(kernel["k"], 4.0)
    layers = decode(FAMILIES[family], kernel, resolution, 10).layers
    n = len(layers)
    for i, y in enumerate(layers):
        along = i / (n - 1)
        assert y.expansion_ratio == pytest.approx(kernel["E0"] * (1 - along) + kernel["E1"] * along)
        assert y.se_ratio == pytest.approx(kernel["S0"] * (1 - along) + kernel["S1"] * along)
        residual = i > 0 and y.stride == 1 and y.in_channels == y.out_channels
        assert y.has_residual == residual
        assert y.stochastic_depth == pytest.approx(0.2 * along if residual else 0.0)


# -- laws, inside the ranges and as far as any study may go --------------------------------------


def check_laws(architecture: Architecture, kernel: dict[str, float], resolution: int) -> None:
    layers = architecture.layers
    sides = halvings(resolution, kernel["k"])
    count = len(sides) - 1
    assert len(layers) == int(kernel["K"] * count)
    assert sum(y.stride == 2 for y in layers) == count
    assert layers[0].stride == 2
    assert layers[0].in_channels == 3
    assert layers[0].in_resolution == resolution
    assert layers[-1].out_resolution == sides[-1] < 2 ** kernel["k"]
    for before, after in itertools.pairwise(layers):
        assert after.in_channels == before.out_channels
        assert after.out_channels >= before.out_channels
        assert after.in_resolution == before.out_resolution
    for y in layers:
        assert y.out_resolution == (
            math.ceil(y.in_resolution / 2) if y.stride == 2 else y.in_resolution
        )
        assert y.out_channels >= 3
    blocks = [str(y.block) for y in layers]
    assert blocks[0] == "CNA"
    assert blocks[1:] == sorted(blocks[1:])  # FMBC before MBC
    assert architecture.latent_channels >= 0  # 0 is pooled directly


@settings(max_examples=200)
@given(
    data=st.data(),
    family=st.sampled_from(FAMILY_NAMES),
    resolution=RESOLUTIONS,
    widest=st.booleans(),
)
def test_laws_or_a_typed_rejection(
    data: st.DataObject, family: str, resolution: int, widest: bool
) -> None:
    kernel = data.draw(kernels(FAMILIES[family], widest=widest))
    if resolution < 2 ** kernel["k"]:
        with pytest.raises(TrivialKernelError):
            decode(FAMILIES[family], kernel, resolution, 100)
        return
    architecture = decode(FAMILIES[family], kernel, resolution, 100)
    check_laws(architecture, kernel, resolution)
    assert decode(FAMILIES[family], dict(kernel), resolution, 100) == architecture


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_laws_at_the_corners_of_the_domain(family: str) -> None:
    # Extreme Beta parameters push all contractions to one end: the rule for collisions at work.
    domain = FAMILIES[family].domain
    for a in domain["Da"]:
        for b in domain["Db"]:
            for layers_each in (1.0, 1.5, 2.0, 3.7):
                kernel = dict(FAMILIES[family].published) | {"k": 1.0, "K": layers_each}
                kernel |= {"Da": a, "Db": b}
                check_laws(decode(FAMILIES[family], kernel, 1024, 10), kernel, 1024)


# -- collisions ---------------------------------------------------------------------------------


def contractions(kernel: dict[str, float], resolution: int) -> list[int]:
    layers = decode(BETANET2, kernel, resolution, 10).layers
    return [i for i, y in enumerate(layers) if y.stride == 2]


@pytest.mark.parametrize(
    ("a", "b", "layers_each", "expected"),
    [
        # 64 -> 2 in five halvings. All wishes fall on layer 1: each takes the next free one.
        (-2.0, 2.0, 2.0, [0, 1, 2, 3, 4]),
        # All wishes fall on the last layer: each takes the nearest free one before it.
        (2.0, -2.0, 2.0, [0, 6, 7, 8, 9]),
        # As many layers as contractions: there is only one way.
        (0.3, -0.4, 1.0, [0, 1, 2, 3, 4]),
        # Two point masses, half of the wishes at either end.
        (-2.0, -2.0, 2.0, [0, 1, 2, 8, 9]),
    ],
)
def test_collisions(a: float, b: float, layers_each: float, expected: list[int]) -> None:
    kernel = dict(BETANET2.published) | {"k": 1.5, "K": layers_each, "Da": a, "Db": b}
    assert contractions(kernel, 64) == expected


def test_a_layer_at_the_depth_of_b_is_no_longer_fused() -> None:
    # Four layers at depths 1/8, 3/8, 5/8, 7/8.
    kernel = dict(BETANET2.published) | {"k": 5.0, "K": 2.0, "B": 0.625}
    blocks = [str(y.block) for y in decode(BETANET2, kernel, 64, 10).layers]
    assert blocks == ["CNA", "FMBC", "MBC", "MBC"]


def test_even_spacing_without_collision() -> None:
    # Beta(1, 1) is uniform: 1 + int(9 * j / 5) for j = 1 .. 4.
    kernel = dict(BETANET2.published) | {"k": 1.5, "K": 2.0, "Da": 0.0, "Db": 0.0}
    assert contractions(kernel, 64) == [0, 2, 4, 6, 8]


# -- trivial kernels ----------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_bound_on_the_final_resolution_is_exclusive(family: str) -> None:
    kernel = dict(FAMILIES[family].published)
    assert len(decode(FAMILIES[family], kernel | {"k": 4.0}, 16, 10).layers) == int(kernel["K"])
    with pytest.raises(
        TrivialKernelError, match=r"kernel\.k must be <= log2\(resolution\) = 4 .*got 4\.001"
    ):
        decode(FAMILIES[family], kernel | {"k": 4.001}, 16, 10)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_trivial_rows_are_empty(family: str) -> None:
    x = random_kernels(FAMILIES[family], 3, seed=1, k=5.0)
    x[1, FAMILIES[family].names.index("k")] = 9.0
    table = FAMILIES[family].table(x, 64)
    assert table.depth[1] == 0
    assert (table.depth[[0, 2]] > 0).all()
    for f in fields(LayerTable):
        value = getattr(table, f.name)
        if isinstance(value, np.ndarray) and value.ndim == 2:
            assert not value[1].any(), f.name


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_nothing_but_trivial_rows(family: str) -> None:
    table = FAMILIES[family].table(random_kernels(FAMILIES[family], 4, seed=1, k=9.0), 64)
    assert table.depth.tolist() == [0, 0, 0, 0]
    assert table.block.shape == (4, 0)
    empty = FAMILIES[family].table(np.zeros((0, len(FAMILIES[family].names))), 64)
    assert len(empty.depth) == 0


# -- many at a time -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILY_NAMES)
@pytest.mark.parametrize("resolution", [16, 97, 224, 1024])
def test_batch_equals_single(family: str, resolution: int) -> None:
    chosen = FAMILIES[family]
    x = random_kernels(chosen, 120, seed=resolution)
    table = chosen.table(x, resolution)
    for i, vector in enumerate(x):
        if table.depth[i] == 0:
            with pytest.raises(TrivialKernelError):
                decode(chosen, chosen.kernel(vector), resolution, 7)
            continue
        single = decode(chosen, chosen.kernel(vector), resolution, 7)
        from_batch = table.architecture(i, 7)
        assert from_batch == single
        assert from_batch.to_json() == single.to_json()  # the ratios too, to the last bit
    past_the_end = np.arange(table.block.shape[1]) >= table.depth[:, None]
    assert not table.out_channels[past_the_end].any()
    assert not table.expanded_channels[past_the_end].any()


# -- the Beta distribution ----------------------------------------------------------------------


def test_beta_equals_scipy_stats_bit_for_bit() -> None:
    draw = np.random.default_rng(0)
    q, a, b = draw.random(3000), draw.uniform(-2, 2, 3000), draw.uniform(-2, 2, 3000)
    q[:3] = 0.0, 0.5, 1.0
    reference = scipy.stats.beta(np.power(10.0, a), np.power(10.0, b))
    assert np.array_equal(beta_ppf(q, a, b), reference.ppf(q))
    assert np.array_equal(beta_cdf(q, a, b), reference.cdf(q))


def test_beta_cdf_at_and_past_the_ends() -> None:
    assert beta_cdf([-1e-9, 0.0, 1.0, 1 + 1e-9], 0.3, -0.2).tolist() == [0.0, 0.0, 1.0, 1.0]


# -- what is refused ----------------------------------------------------------------------------


def without(name: str) -> dict[str, float]:
    return {key: value for key, value in BETANET2.published.items() if key != name}


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (without("Wa"), r"exactly the parameters k, K, .*but got missing Wa$"),
        ({**BETANET2.published, "WLa": 0.0, "Q": 1.0}, r"but got unknown Q, unknown WLa$"),
        ({**without("k"), "kk": 3.0}, r"but got missing k, unknown kk$"),
        ({**BETANET2.published, "K": math.nan}, r"kernel\.K must be in \[1, 16\], but got nan"),
        ({**BETANET2.published, "K": math.inf}, r"kernel\.K must be in \[1, 16\], but got inf"),
        ({**BETANET2.published, "K": 0.99}, r"kernel\.K must be in \[1, 16\], but got 0\.99"),
        ({**BETANET2.published, "B": 1.01}, r"kernel\.B must be in \[0, 1\], but got 1\.01"),
        ({**BETANET2.published, "B": True}, r"kernel\.B must be a number, but got True"),
        ({**BETANET2.published, "S0": "18"}, r"kernel\.S0 must be a number, but got '18'"),
        ({**BETANET2.published, "S0": None}, r"kernel\.S0 must be a number, but got None"),
        ({**BETANET2.published, "S0": [18.0]}, r"kernel\.S0 must be a number, but got \[18\.0\]"),
    ],
)
def test_wrong_kernels(kernel: dict[str, float], message: str) -> None:
    with pytest.raises(KernelError, match=message):
        decode(BETANET2, kernel, 224, 100)


@pytest.mark.parametrize("resolution", [15, 0, -224, 4097])
def test_resolution_out_of_range(resolution: int) -> None:
    with pytest.raises(InputError, match=rf"resolution must be in \[16, 4096\], .*{resolution}$"):
        decode(BETANET2, BETANET2.published, resolution, 100)


@pytest.mark.parametrize("classes", [0, -1])
def test_classes_out_of_range(classes: int) -> None:
    with pytest.raises(InputError, match=rf"num_classes must be >= 1, but got {classes}"):
        decode(BETANET2, BETANET2.published, 224, classes)


@pytest.mark.parametrize("shape", [(13,), (2, 12), (1, 2, 13)])
def test_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"kernels must have shape n x 13"):
        BETANET2.table(np.ones(shape), 224)


def test_unknown_family() -> None:
    with pytest.raises(
        InputError, match="betamix, mbconv, nasbench201, efficientnet, nasnet, but got 'betanet4'"
    ):
        find_family("betanet4")


def test_integers_are_numbers() -> None:
    kernel = dict(BETANET2.published) | {"K": 4, "B": 0}
    assert len(decode(BETANET2, kernel, 64, 10).layers) == 4 * 3
