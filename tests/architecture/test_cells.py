"""Cells as data: their written form, which of them are the same, what they cost."""

import json
from collections import Counter
from itertools import product

import numpy as np
import pytest

from betanas.architecture.cells import EDGES, OPERATIONS, Cell, CellNetwork, Operation
from betanas.architecture.complexity import count
from betanas.architecture.decoding import decode
from betanas.architecture.family import Kernel
from betanas.architecture.nasbench201 import NASBENCH201, kernel_of_cell
from betanas.architecture.reference import network_from_json
from betanas.errors import InputError, KernelError

ALL = [Cell(operations) for operations in product(OPERATIONS, repeat=6)]
NONE, SKIP, ONE, THREE, POOL = OPERATIONS


def network(*operations: Operation, classes: int = 10) -> CellNetwork:
    return NASBENCH201.decode(kernel_of_cell(Cell(operations)), 32, classes)


def literature_string(cell: Cell, *, keeps_zeros: bool) -> str:
    """How NAS-Bench-201's authors tell cells apart, with zeros as they come or left out."""
    nodes = ["0"]
    for node in range(1, 4):
        terms = []
        for operation, (source, target) in zip(cell.operations, EDGES, strict=True):
            if target != node:
                continue
            read = nodes[source]
            zero = operation == "none" or read in ("#", "")
            if not zero or keeps_zeros:
                term = read if operation == "skip_connect" else f"({read})@{operation}"
                terms.append("#" if zero else term)
        nodes.append("+".join(sorted(terms)))
    return nodes[-1]


def test_written_form_is_the_literatures() -> None:
    text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"
    cell = Cell.parse(text)
    assert cell.operations == (THREE, NONE, SKIP, POOL, ONE, NONE)
    assert str(cell) == text
    assert all(Cell.parse(str(c)) == c for c in ALL[::97])


@pytest.mark.parametrize(
    "text",
    ["", "|none~0|", "|none~0|+|none~0|none~1|+|none~0|none~1|max_pool~2|",
     "|none~1|+|none~0|none~1|+|none~0|none~1|none~2|"],
)  # fmt: skip
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="a cell must have the form"):
        Cell.parse(text)


def test_numbers_of_different_cells() -> None:
    """6,466 is Dong and Yang's; without any zero their strings make 5,390."""
    assert len({literature_string(c, keeps_zeros=True) for c in ALL}) == 6466
    assert len({literature_string(c, keeps_zeros=False) for c in ALL}) == 5390
    assert len({c.identity for c in ALL}) == 5260
    assert sum(c.identity == "" for c in ALL) == 341  # which do not see their input


SAME = [
    # The second and the third node change places.
    ((THREE, ONE, NONE, NONE, POOL, THREE), (ONE, THREE, NONE, NONE, THREE, POOL)),
    # A skip connection is no operation of its own.
    ((THREE, NONE, NONE, NONE, SKIP, NONE), (NONE, NONE, NONE, THREE, NONE, NONE)),
    # Nobody reads the second node; nothing comes into it.
    ((THREE, ONE, NONE, SKIP, NONE, POOL), (NONE, ONE, NONE, SKIP, NONE, POOL)),
    ((NONE, ONE, THREE, SKIP, POOL, POOL), (NONE, ONE, NONE, SKIP, NONE, POOL)),
    # A sum of sums, in another order.
    ((SKIP, NONE, SKIP, SKIP, ONE, THREE), (SKIP, NONE, SKIP, ONE, THREE, SKIP)),
]
DIFFERENT = [
    ((THREE, NONE, NONE, NONE, SKIP, NONE), (ONE, NONE, NONE, NONE, SKIP, NONE)),
    # One convolution that is read twice, and two of them.
    ((THREE, NONE, SKIP, NONE, SKIP, SKIP), (THREE, THREE, NONE, NONE, SKIP, SKIP)),
    # Once and twice the input.
    ((NONE, NONE, NONE, SKIP, NONE, NONE), (SKIP, NONE, NONE, SKIP, SKIP, NONE)),
]


@pytest.mark.parametrize(("first", "second"), SAME)
def test_isomorphic_cells_have_one_fingerprint(first: tuple, second: tuple) -> None:
    assert network(*first).fingerprint == network(*second).fingerprint
    assert network(*first) != network(*second)


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_others_have_not(first: tuple, second: tuple) -> None:
    assert network(*first).fingerprint != network(*second).fingerprint


def value(cell: Cell, weights: dict[int, float]) -> float:
    """The output for the input 1, each convolution a quadratic function of its own."""
    nodes = [1.0, 0.0, 0.0, 0.0]
    for i, (source, target) in enumerate(EDGES):
        x = nodes[source]
        nodes[target] += {
            NONE: 0.0, SKIP: x, POOL: np.sin(x), ONE: weights[i] * x**2, THREE: x**2 / weights[i],
        }[cell.operations[i]]  # fmt: skip
    return nodes[-1]


def test_cells_of_one_identity_compute_the_same_functions() -> None:
    """The values that convolutions can make are as many, and sum to the same, over all weights."""
    own = np.random.default_rng(0).uniform(0.5, 2.0, 2)
    groups: dict[str, list[Cell]] = {}
    for cell in ALL[::7]:
        groups.setdefault(cell.identity, []).append(cell)
    several = [cells for cells in groups.values() if len(cells) > 1]
    assert len(several) > 100
    for cells in several[:40]:
        reached = [
            {round(value(c, dict(enumerate(drawn))), 9) for drawn in product(own, repeat=6)}
            for c in cells
        ]
        assert all(values == reached[0] for values in reached)


def test_a_network_is_json_and_back() -> None:
    before = network(THREE, ONE, SKIP, NONE, POOL, THREE)
    after = network_from_json(json.loads(json.dumps(before.to_json())))
    assert isinstance(after, CellNetwork)
    assert after == before
    assert after.fingerprint == before.fingerprint
    assert network(*before.cell.operations, classes=100).fingerprint != before.fingerprint


def test_the_chain_is_the_papers() -> None:
    layers = network(*6 * [THREE]).layers
    assert Counter(y.block for y in layers) == {"CN": 1, "CELL": 15, "RED": 2}
    shapes = [(y.out_channels, y.out_resolution) for y in layers]
    assert shapes == 6 * [(16, 32)] + 6 * [(32, 16)] + 6 * [(64, 8)]


@pytest.mark.parametrize(
    ("kernel", "num_params"),
    [
        (kernel_of_cell(Cell(6 * (NONE,))), 73_306),
        (kernel_of_cell(Cell(6 * (THREE,))), 1_531_546),
        (NASBENCH201.members["nasbench201-best"], 1_073_466),
    ],
)
def test_published_sizes(kernel: Kernel, num_params: int) -> None:
    assert count(NASBENCH201.decode(kernel, 32, 10), 1).num_params == num_params


def test_many_kernels_are_surveyed_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    kernels = rng.integers(0, 5, (40, 6)).astype(np.float64)
    together = NASBENCH201.survey(kernels, 48, 100, 16)
    assert not together.trivial.any()
    for i, row in enumerate(kernels):
        alone = count(NASBENCH201.decode(NASBENCH201.kernel(row), 48, 100), 16)
        assert together.complexities.row(i) == alone


def test_features_are_of_what_the_output_depends_on() -> None:
    cells = [(THREE, ONE, NONE, SKIP, NONE, POOL), (THREE, SKIP, ONE, NONE, THREE, THREE)]
    kernels = np.array([NASBENCH201.vector(kernel_of_cell(Cell(c))) for c in cells])
    features = NASBENCH201.survey(kernels, 32, 10, 1).features
    assert features.tolist() == [[1, 1, 0, 1, 2, 1, 0], [1, 1, 3, 0, 3, 3, 1]]


def test_an_operation_that_there_is_not_is_refused() -> None:
    kernel = kernel_of_cell(Cell(6 * (NONE,))) | {"op3": "max_pool_3x3"}
    with pytest.raises(KernelError, match=r"kernel.op3 must be one of none, skip_connect, nor_co"):
        decode(NASBENCH201, kernel, 32, 10)
