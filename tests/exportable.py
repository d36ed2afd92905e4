"""Models as if trained, for exporting: both families' and one of torchvision's."""

from pathlib import Path

import torch
from torch import nn

from betanas.architecture.betamix import BETAMIX
from betanas.architecture.decoding import decode
from betanas.architecture.efficientnet import EFFICIENTNET
from betanas.architecture.families import FAMILIES
from betanas.architecture.layers import Architecture
from betanas.architecture.mbconv import MBCONV
from betanas.architecture.reference import Network, ReferenceModel
from betanas.models.network import build_network
from betanas.models.trained import TrainedModel, write_trained

NAMES = ("cat", 'a "quoted" dog', "üñí\n", "$name\\", "\udcff not UTF-8")
MEAN, STD = (0.48, 0.45, 0.30), (0.22, 0.25, 0.40)


def network_of(family: str, resolution: int, **changed: float) -> Architecture:
    kernel = {**FAMILIES[family].published, "K": 3.2, "B": 0.4, "E1": 3.0, **changed}
    return decode(FAMILIES[family], kernel, resolution, len(NAMES))


def mixed(**changed: float | str) -> Architecture:
    kernel = {**BETAMIX.members["plain"], "K": 2.6, "B": 0.5, "E0": 2.0, "G0": 1.0, **changed}
    return BETAMIX.decode(kernel, 32, len(NAMES))


NETWORKS: dict[str, Network] = {
    "betanet2": network_of("betanet2", 32),
    "betanet3": network_of("betanet3", 24, k=2.5),
    "betamix-convolutions": mixed(late="fused", E0=1.0, group="16", G0=2.0),
    "betamix-residual": mixed(early="residual", late="convnext", kernel="5", activation="gelu"),
    "betamix-pooled": mixed(
        early="fused", late="mbconv", se="all", contraction="pool", stem=1, head="latent", W0=1.0
    ),
    "betamix-pooled-residual": mixed(
        early="residual", late="fused", contraction="pool", group="16", W0=1.0, G0=2.0
    ),
    "mbconv": MBCONV.decode(
        {
            **MBCONV.published,
            "width": 0.25,
            "stages": 2,
            "s1b2": "skip",
            "s2b2": "3x3-3",
            "head": 16,
        },
        32,
        len(NAMES),
    ),
    "efficientnet": EFFICIENTNET.decode(
        {"alpha": 0.5, "beta": 0.35, "gamma": 1.0, "phi": 1.0}, 32, len(NAMES)
    ),
    "mobilenet_v3_small": ReferenceModel("mobilenet_v3_small", 32, len(NAMES)),
}
OWN = set(NETWORKS) - {"mobilenet_v3_small"}


def trained_of(network: Network) -> TrainedModel:
    """As if trained: batch norms that do something, logits that depend on the image."""
    torch.manual_seed(1)
    model = build_network(network)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.3, 1.7)
        elif isinstance(module, nn.Conv2d):
            # torchvision's own begin so small that little of the image arrives at the end.
            nn.init.kaiming_normal_(module.weight, mode="fan_in")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.1)
    facts = {"top1": 0.5, "dataset": "drawn"}
    return TrainedModel(network, model.state_dict(), NAMES, MEAN, STD, facts)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_model(folder: Path, trained: TrainedModel) -> Path:
    folder.mkdir(exist_ok=True)
    write_trained(folder / "model.pt", trained)
    return folder / "model.pt"


def write_models(folder: Path) -> dict[str, Path]:
    """All of ``NETWORKS``, each in a folder of its own."""
    return {
        name: write_model(folder / name, trained_of(network)) for name, network in NETWORKS.items()
    }
