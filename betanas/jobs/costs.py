"""What one network costs on a device: latencies of one image and of many, memory of a step."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from betanas.architecture.complexity import FLOAT_BYTES, count
from betanas.architecture.layers import IMAGE_CHANNELS, Architecture
from betanas.architecture.reference import TIMM, Network, ReferenceModel
from betanas.files import read_json, write_json
from betanas.models.latency import device_title, measure_latency
from betanas.models.network import build_network, count_macs

COSTS_FILE = "costs.json"
ANSWERED = (1, 64)  # images of an answer
_IMAGES = 2  # of which the memory is taken: batch norms need two


def costs_of(network: Network, batch_size: int, device: str, folder: Path) -> dict[str, Any]:
    """Measures once what is told of a network from then on, as long as the device is the same.

    Args:
        network: The network.
        batch_size: Images of a training step; ``activation_bytes`` are of one.
        device: ``cpu`` or ``cuda``.
        folder: Where ``costs.json`` keeps what was measured.

    Returns:
        ``activation_bytes``; in milliseconds ``latency_ms_1``, ``latency_ms_64`` (medians),
        ``latency_p95_ms_1`` and ``latency_p95_ms_64``; and ``latency_device``.
    """
    told = {"network": network.to_json(), "batch_size": batch_size, "on": device_title(device)}
    asked = json.loads(json.dumps(told))  # as the file has it: lists for tuples
    known = read_json(folder / COSTS_FILE)
    if known is not None and known["asked"] == asked:
        return dict(known["costs"])
    found: dict[str, Any] = {"activation_bytes": _activation_bytes(network, batch_size)}
    for images in ANSWERED:
        latency = measure_latency(network, images, device)
        found[f"latency_ms_{images}"] = 1000 * latency.seconds
        found[f"latency_p95_ms_{images}"] = 1000 * latency.p95
    found["latency_device"] = asked["on"]
    write_json(folder / COSTS_FILE, {"asked": asked, "costs": found})
    return found


def counts_of(network: ReferenceModel) -> tuple[int, int]:
    """Weights, and multiply-adds of one image; torchvision's networks take no memory for it."""
    with torch.device("cpu" if network.name.startswith(TIMM) else "meta"):
        model = build_network(network)
        macs = count_macs(model, network.resolution)
    return sum(p.numel() for p in model.parameters()), macs


def _activation_bytes(network: Network, batch_size: int) -> int:
    """What autograd keeps of a training step in float32: counted of ours, measured of others'."""
    if isinstance(network, Architecture):
        return count(network, batch_size).activation_bytes
    side = network.resolution
    saved = kept_values(build_network(network), torch.zeros(_IMAGES, IMAGE_CHANNELS, side, side))
    return FLOAT_BYTES * round(saved * batch_size / _IMAGES)


def kept_values(model: nn.Module, images: Tensor) -> int:
    """Values of four bytes that autograd keeps of a forward pass, beside weights and buffers.

    Args:
        model: On the images' device; left in training mode.
        images: ``b x 3 x R x R``.
    """
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        answered = model.train()(images)
    del answered
    storages = [t.untyped_storage() for place, t in kept.items() if place not in own]
    return sum(s.nbytes() for s in storages) // FLOAT_BYTES
