"""NASNet-A: the published numbers, and modules that are what their descriptions say."""

from pathlib import Path

import pytest
import torch
from test_betamix import saved_bytes
from torch import nn

from betanas.architecture.complexity import count
from betanas.architecture.decoding import decode
from betanas.architecture.nasnet import NASNET
from betanas.architecture.nasnet_cells import NORMAL_A, REDUCTION_A, Step, SumCell, SumCellNetwork
from betanas.architecture.reference import ReferenceModel, network_from_json
from betanas.errors import InputError
from betanas.jobs.export import export
from betanas.models.heads import set_dropout, weights_in_use
from betanas.models.nasnet import Halving, SumCellModule
from betanas.models.network import build_model, build_network, count_macs
from betanas.models.trained import TrainedModel, write_trained

BATCH = 3


def decoded(number: int, width: int, resolution: int, classes: int = 7) -> SumCellNetwork:
    network = decode(NASNET, {"N": number, "F": width}, resolution, classes)
    assert isinstance(network, SumCellNetwork)
    return network


def test_nasnet_mobile_is_the_published_one() -> None:
    costs = count(decode(NASNET, NASNET.members["nasnet_mobile"], 224, 1000), 1)
    # Zoph et al., 2018, Table 2: 5.3M parameters and 564M multiply-adds; their code's exact number.
    assert costs.num_params == 5_289_978
    assert costs.macs == 563_638_816


@pytest.mark.parametrize(
    ("number", "width", "resolution"), [(1, 4, 16), (2, 13, 33), (1, 10, 64), (3, 8, 47)]
)
def test_counts_are_those_of_the_module(number: int, width: int, resolution: int) -> None:
    network = decoded(number, width, resolution)
    model, costs = build_model(network).train(), count(network, BATCH)
    assert sum(p.numel() for p in model.parameters()) == costs.num_params
    saved = saved_bytes(model, torch.randn(BATCH, 3, resolution, resolution))
    assert saved == pytest.approx(costs.activation_bytes, rel=0.01)
    assert count_macs(model, resolution) == costs.macs


def test_a_description_comes_back_from_json() -> None:
    network = decoded(1, 8, 32)
    back = network_from_json(network.to_json())
    assert back == network
    assert back.fingerprint == network.fingerprint  # type: ignore[union-attr]
    others = [decoded(2, 8, 32), decoded(1, 9, 32), decoded(1, 8, 33), decoded(1, 8, 32, 8)]
    assert len({network.fingerprint, *(other.fingerprint for other in others)}) == 5
    assert all(
        SumCell.from_json({"sums": cell.sums, "output": cell.output}) == cell
        for cell in (NORMAL_A, REDUCTION_A)
    )


def test_a_cell_cannot_read_ahead() -> None:
    with pytest.raises(InputError, match="node 2 of a cell must read one before it"):
        SumCell((((Step.IDENTITY, 0), (Step.AVERAGE, 2)),), (2,))


def test_a_cell_sums_what_it_says() -> None:
    """Of pools and identities alone, on inputs as they are."""
    cell = SumCell(
        (((Step.AVERAGE, 0), (Step.IDENTITY, 1)), ((Step.MAXIMUM, 2), (Step.IDENTITY, 0))), (1, 3)
    )
    layer = decoded(1, 8, 64).layers[3]
    module = SumCellModule(cell, layer, None)
    module.current = nn.Identity()  # type: ignore[assignment]
    current, before = torch.randn(2, 8, 6, 6), torch.randn(2, 8, 6, 6)
    pooled = nn.functional.avg_pool2d(current, 3, 1, 1, count_include_pad=False) + before
    last = nn.functional.max_pool2d(pooled, 3, 1, 1) + current
    torch.testing.assert_close(module(current, before), torch.cat([before, last], 1).relu())


def test_halving_sees_pixels_of_both_diagonals() -> None:
    halving = Halving(1, 2).eval()
    for conv in (halving.even, halving.odd):
        nn.init.ones_(conv.weight)
    x = torch.arange(25.0).view(1, 1, 5, 5)
    even, odd = (halving(x) * (1 + halving.norm.eps) ** 0.5)[0]
    torch.testing.assert_close(even, x[0, 0, ::2, ::2])
    assert torch.equal(odd.round(), torch.tensor([[6.0, 8, 0], [16, 18, 0], [0, 0, 0]]))


def test_the_auxiliary_head_answers_in_training_only() -> None:
    network = decoded(1, 8, 32)
    torch.manual_seed(0)
    model = build_network(network, auxiliary=True)
    images = torch.randn(4, 3, 32, 32)
    logits, second = model.train()(images)
    assert logits.shape == second.shape == (4, 7)
    (logits.sum() + second.sum()).backward()
    assert all(p.grad is not None for p in model.parameters())
    plain = build_network(network)
    plain.load_state_dict(weights_in_use(model))  # without the head's
    assert torch.equal(model.eval()(images), plain.eval()(images))
    with torch.no_grad():
        assert isinstance(plain.train()(images), torch.Tensor)


def test_dropout_is_before_the_last_layer() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 1000), nn.ReLU(), nn.Linear(1000, 2))
    names = list(model.state_dict())
    seen: list[torch.Tensor] = []
    set_dropout(model, 0.75)
    assert list(model.state_dict()) == names
    for linear in (model[1], model[3]):
        linear.register_forward_hook(lambda _module, inputs, _y: seen.append(inputs[0]))
    nn.init.ones_(model[1].weight)
    torch.manual_seed(0)
    model.train()(torch.ones(1, 4))
    model.eval()(torch.ones(1, 4))
    assert bool((seen[0] == 1).all())
    kept = seen[1] != 0
    assert 150 < kept.sum() < 350
    torch.testing.assert_close(seen[1][kept], 4 * seen[3][kept])
    assert bool((seen[3] != 0).all())


def test_dropout_that_a_network_has_takes_the_recipes_place() -> None:
    model = build_network(ReferenceModel("mobilenet_v2", 32, 2))
    set_dropout(model, 0.5)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.5]


@pytest.mark.slow
def test_onnx_answers_as_the_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, grey = decoded(1, 8, 32, 3), (0.5, 0.5, 0.5)
    weights = build_network(network).state_dict()
    trained = TrainedModel(network, weights, ("a", "b", "c"), grey, grey, {})
    write_trained(tmp_path / "model.pt", trained)
    assert export(tmp_path / "model.pt", "onnx", tmp_path).files
