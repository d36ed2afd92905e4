"""timm's networks by name: built at any side and number of classes, kept like others."""

from pathlib import Path

import pytest
import torch

from betanas.architecture.reference import ReferenceModel, network_from_json
from betanas.errors import InputError
from betanas.jobs.export import load_classifier
from betanas.jobs.model_names import find_model
from betanas.models.network import build_network
from betanas.models.trained import TrainedModel, write_trained


@pytest.mark.parametrize("name", ["timm:resnet10t", "timm:vit_tiny_patch16_224@48"])
def test_a_name_is_enough(name: str) -> None:
    found = find_model(name, 64, 7, None)
    side = 48 if "@" in name else 64
    assert found.network == ReferenceModel(name.partition("@")[0], side, 7)
    assert network_from_json(found.network.to_json()) == found.network
    model = build_network(found.network)
    assert model.eval()(torch.zeros(2, 3, side, side)).shape == (2, 7)


def test_what_timm_does_not_have_is_told() -> None:
    with pytest.raises(InputError, match=r"timm has no model 'resnet10x'; there are timm:\w+"):
        find_model("timm:resnet10x", 64, 7, None)


def test_a_model_file_is_opened_again(tmp_path: Path) -> None:
    network, grey = ReferenceModel("timm:mobilenetv3_small_050", 32, 2), (0.5, 0.5, 0.5)
    weights = build_network(network).state_dict()
    write_trained(tmp_path / "m.pt", TrainedModel(network, weights, ("a", "b"), grey, grey, {}))
    trained, model = load_classifier(tmp_path / "m.pt")
    assert trained.network == network
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 2)
    other = TrainedModel(ReferenceModel("timm:none", 32, 2), weights, ("a", "b"), grey, grey, {})
    write_trained(tmp_path / "m.pt", other)
    with pytest.raises(InputError, match="timm has no model 'none'"):
        load_classifier(tmp_path / "m.pt")
