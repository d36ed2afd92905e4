"""Operators as modules, and what is remembered of them; no second of it is asserted."""

from pathlib import Path

import numpy as np
import pytest
import torch

from betanas.architecture.families import find_family
from betanas.architecture.layers import LayerTable
from betanas.architecture.operators import Operator
from betanas.files import write_json
from betanas.models.operators import (
    OPERATORS_FILE,
    Conditions,
    Known,
    _key,
    _module,
    measure_operators,
    remembered_operators,
)


@pytest.mark.parametrize("operator", list(Operator))
def test_every_operator_can_be_built_and_writes_the_side_that_it_is_known_by(
    operator: Operator,
) -> None:
    module, scale = _module(operator, 16, 8)
    read = 3 if operator.reads_images else 16
    found = module(torch.ones(2, read, 4 * scale, 4 * scale))
    written = 8 if operator.has_outputs and not operator.startswith("grouped") else 16
    if operator is not Operator.HEAD:
        assert found.shape == (2, written, 4, 4)


@pytest.mark.slow
@pytest.mark.parametrize("trains", [True, False])
def test_what_was_measured_once_is_not_measured_again(trains: bool, tmp_path: Path) -> None:
    mix = find_family("betamix")
    networks = LayerTable.of(mix.decode(mix.members["plain"], 16, 10))
    known: Known = {}
    conditions = Conditions("cpu", 2, bf16=False, trains=trains)
    threads = torch.get_num_threads()
    first = measure_operators(networks, conditions, known)
    assert torch.get_num_threads() == threads
    assert all(seconds > 0 for seconds in known.values())
    assert first.seconds(networks)[0] > 0
    assert remembered_operators(networks, conditions, tmp_path) is None
    write_json(tmp_path / OPERATORS_FILE, {_key(conditions): known})
    remembered = remembered_operators(networks, conditions, tmp_path)
    assert remembered.to_json() == first.to_json()
    assert remembered_operators(networks, Conditions("cpu", 3), tmp_path) is None

    doubled = {name: 2 * seconds for name, seconds in known.items()}
    before = dict(doubled)
    again = measure_operators(networks, conditions, doubled)
    assert doubled == before
    for operator, grid in first.grids.items():
        assert np.allclose(again.grids[operator].seconds, 2 * grid.seconds)
