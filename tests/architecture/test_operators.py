"""The operator table's arithmetic, on seconds that are given."""

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops.misc import SqueezeExcitation

from betanas.architecture.betanet import TableFamily
from betanas.architecture.families import FAMILIES, find_family
from betanas.architecture.layers import LayerTable
from betanas.architecture.operators import (
    Grid,
    Operator,
    OperatorTable,
    corners,
    grid_axes,
    operators,
)
from betanas.models.network import build_model
from betanas.search.space import Space

CONVOLUTIONS = ("stem", "conv", "grouped", "pointwise", "depthwise")


def by_work() -> OperatorTable:
    """As many seconds as an operator has products, or else values."""
    grids = {}
    for operator in Operator:
        axes = ((8, 32, 128), (8, 32, 128), (2, 8, 32))
        axes = axes if operator.has_outputs else (axes[0], axes[2])
        places = np.array(np.meshgrid(*axes, indexing="ij"), dtype=np.float64)
        grids[operator] = Grid(axes, places.prod(axis=0) * places[-1])
    return OperatorTable("a device", grids)


def test_a_network_takes_what_its_operators_take() -> None:
    mix = find_family("betamix")
    plain = LayerTable.of(mix.decode(mix.members["plain"], 32, 10))
    widths, sides = (16, 32, 32, 64, 64, 64), (16, 16, 8, 8, 4, 4)
    expected = 16 * 16**2 + 64 * 4**2  # the stem, and the head
    for before, width, side in zip((0, *widths), widths, sides, strict=False):
        expected += before * width * side**2 + width * side**2  # convolution, norm and ReLU
    assert by_work().seconds(plain)[0] == pytest.approx(expected)


@pytest.mark.parametrize("name", [n for n, f in FAMILIES.items() if isinstance(f, TableFamily)])
def test_the_operators_are_those_that_the_module_has(name: str) -> None:
    family = FAMILIES[name]
    assert isinstance(family, TableFamily)
    space = Space(family.parameters)
    for kernel in space.kernels(np.random.default_rng(3).random((12, len(space.names)))):
        table = family.table(kernel[None, :], 32)
        if table.depth[0] == 0:
            continue
        found = Counter()
        for use in operators(table):
            found[str(use.operator).split("-")[0]] += int(use.where.sum())
        with torch.device("meta"):
            model = build_model(table.architecture(0, 10))
        squeezed = [m for s in model.modules() if isinstance(s, SqueezeExcitation)
                    for m in s.modules()]  # fmt: skip
        built = Counter(type(m) for m in model.modules() if m not in squeezed)
        assert sum(found[kind] for kind in CONVOLUTIONS) == built[nn.Conv2d]
        assert found["norm"] == built[nn.BatchNorm2d]
        assert found["pool"] == built[nn.MaxPool2d]
        assert found["head"] == built[nn.Linear] == 1
        assert found["squeeze"] == sum(isinstance(m, SqueezeExcitation) for m in model.modules())


def test_between_neighbours_seconds_are_linear_in_logarithms_and_beyond_them_too() -> None:
    grid = Grid(((8, 32), (4, 16)), np.array([[1.0, 4.0], [2.0, 8.0]]))
    assert grid(np.array([[8, 4], [32, 16]])) == pytest.approx([1.0, 8.0])
    assert grid(np.array([[16, 4], [16, 8]])) == pytest.approx([2**0.5, 2**1.5])
    assert grid(np.array([[128, 16]])) == pytest.approx([16.0])


def test_what_was_not_measured_follows_from_what_was() -> None:
    axes = ((8, 32, 128), (4, 16))
    measured = {(c, s): 1e-6 * c * s**2 for c, s in ((8, 4), (32, 4), (8, 16))}
    grid = Grid.of(axes, measured)
    for place, seconds in measured.items():
        assert grid(np.array([place])) == pytest.approx([seconds])
    assert grid(np.array([[128, 16]])) == pytest.approx([1e-6 * 128 * 16**2], rel=0.01)


def test_a_grid_holds_its_points_and_needs_no_corners_where_hardly_any_lie() -> None:
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.integers(9, 40, 200), rng.integers(4, 9, 200)])
    points[0] = 600, 30
    axes = grid_axes(points)
    assert axes[0][0] <= 9
    assert axes[0][-1] >= 600
    assert all(high <= 4 * low for axis in axes for low, high in pairwise(axis))
    wanted = corners(axes, points)
    assert max(c for c, _ in wanted) < 600
    assert len(wanted) < np.prod([len(axis) for axis in axes])


def test_a_trivial_network_takes_no_time_and_the_table_survives_json() -> None:
    mix = find_family("betamix")
    networks = LayerTable.of(*(mix.decode(m, 32, 10) for m in mix.members.values()))
    size = len(mix.members) + 2
    rows = [row for row in range(size) if row not in (1, 6)]
    spread = networks.spread(rows, size)
    table = by_work()
    seconds = table.seconds(spread)
    assert (seconds[[1, 6]] == 0).all()
    assert seconds[rows] == pytest.approx(table.seconds(networks))
    again = OperatorTable.from_json(json.loads(json.dumps(table.to_json())))
    assert again.device == "a device"
    assert again.seconds(networks) == pytest.approx(table.seconds(networks), rel=1e-3)


def test_an_operator_that_nobody_has_measured_counts_nothing() -> None:
    mix = find_family("betamix")
    networks = LayerTable.of(mix.decode(mix.members["plain"], 32, 10))
    table = by_work()
    less = replace(table, grids={k: v for k, v in table.grids.items() if k != Operator.STEM_2})
    assert table.seconds(networks)[0] - less.seconds(networks)[0] == pytest.approx(16 * 16**2)
