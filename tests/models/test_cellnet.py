"""Networks of cells: counted as they are built, and computing what their cells say."""

import random

import pytest
import torch
from test_betamix import saved_bytes
from torch.nn import functional

from betanas.architecture.cells import EDGES, OPERATIONS, Cell
from betanas.architecture.complexity import count
from betanas.architecture.nasbench201 import NASBENCH201, kernel_of_cell
from betanas.models.cellnet import CellModule
from betanas.models.network import build_model, count_macs

BATCH = 4
NONE, SKIP, ONE, THREE, POOL = OPERATIONS
CHOSEN = random.Random(0)
CELLS = [Cell(tuple(CHOSEN.choices(OPERATIONS, k=6))) for _ in range(8)]
# Pooling reads the input through a skip connection; nothing reaches the output.
CELLS += [Cell((SKIP, POOL, POOL, NONE, POOL, POOL)), Cell(6 * (NONE,))]


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_counts_are_those_of_the_module(cell: Cell) -> None:
    architecture = NASBENCH201.decode(kernel_of_cell(cell), 18, 10)  # an odd side of 9, too
    model, costs = build_model(architecture).train(), count(architecture, BATCH)
    assert sum(p.numel() for p in model.parameters()) == costs.num_params
    saved = saved_bytes(model, torch.randn(BATCH, 3, 18, 18))
    assert saved == pytest.approx(costs.activation_bytes, rel=0.001)
    assert count_macs(model, 18) == costs.macs


def test_a_cell_sums_its_operations() -> None:
    torch.manual_seed(0)
    cell = CellModule(Cell((THREE, POOL, SKIP, SKIP, NONE, ONE)), 4)
    x = torch.randn(2, 4, 6, 6)
    first = functional.batch_norm(
        functional.conv2d(x.relu(), cell.edges[0][1].weight, padding=1), None, None, training=True
    )
    pooled = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    last = functional.conv2d((pooled + first).relu(), cell.edges[5][1].weight)
    last = functional.batch_norm(last, None, None, training=True)
    torch.testing.assert_close(cell(x), x + last)
    assert [e for e, _ in enumerate(EDGES) if list(cell.edges[e].parameters())] == [0, 5]


def test_every_weight_has_a_gradient() -> None:
    """Ranks wait for each other's gradients: none may be missing, even where it is 0."""
    cell = Cell((THREE, NONE, NONE, SKIP, NONE, NONE))
    model = build_model(NASBENCH201.decode(kernel_of_cell(cell), 16, 10))
    model(torch.randn(2, 3, 16, 16)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
