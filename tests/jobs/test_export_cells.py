"""Networks of cells in other formats."""

from pathlib import Path

import pytest
import torch

from betanas.architecture.families import find_family
from betanas.architecture.reference import Network
from betanas.errors import InputError
from betanas.jobs.export import export
from betanas.models.network import build_network
from betanas.models.trained import TrainedModel, read_trained, write_trained


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    family = find_family("nasbench201")
    kernel = dict(family.published) | {"op1": "avg_pool_3x3", "op4": "none"}
    network: Network = family.decode(kernel, 18, 3)
    weights, grey = build_network(network).state_dict(), (0.5, 0.5, 0.5)
    path = tmp_path / "model.pt"
    write_trained(path, TrainedModel(network, weights, ("a", "b", "c"), grey, grey, {}))
    return path


def test_a_model_file_keeps_the_cell(checkpoint: Path) -> None:
    trained = read_trained(checkpoint)
    assert trained.network.cell.operations[4] == "none"
    assert trained.build()(torch.zeros(2, 3, 18, 18)).shape == (2, 3)


def test_there_is_no_readable_source_of_cells(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--format python must get"):
        export(checkpoint, "python", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "torch-export", "safetensors"])
def test_other_formats_answer_as_the_model(checkpoint: Path, tmp_path: Path, name: str) -> None:
    # Fresh batch norms leave the logits in the hundreds.
    with torch.inference_mode():
        scale = read_trained(checkpoint).build()(torch.rand(8, 3, 18, 18)).abs().max().item()
    assert export(checkpoint, name, tmp_path / "out").max_abs_error < 1e-5 * scale
