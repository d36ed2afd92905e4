"""A trained model as one file: the network's description, its weights, and what its input means."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from betanas.architecture.reference import Network, network_from_json
from betanas.data.images import Channels
from betanas.errors import InputError
from betanas.files import whole_file
from betanas.models.network import build_network

FORMAT = 1


@dataclass(frozen=True)
class TrainedModel:
    """All that is needed to answer what an image shows.

    Attributes:
        network: What was trained.
        weights: Its ``state_dict``, on the CPU.
        classes: Class names in the order of the outputs.
        mean: Of each channel, of pixel values in [0, 1]; inputs are normalised with it.
        std: As ``mean``.
        facts: What is known of it, as plain JSON: data set, accuracies, epochs, ...
    """

    network: Network
    weights: Mapping[str, Tensor]
    classes: tuple[str, ...]
    mean: Channels
    std: Channels
    facts: Mapping[str, Any]

    @classmethod
    def described(cls, description: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Self:
        """Rebuilds what ``describe`` described."""
        return cls(
            network_from_json(description["network"]),
            weights,
            tuple(description["classes"]),
            tuple(description["mean"]),
            tuple(description["std"]),
            description["facts"],
        )

    def describe(self) -> dict[str, Any]:
        """All but the weights, as plain JSON."""
        return {
            "network": self.network.to_json(),
            "resolution": self.network.resolution,
            "classes": list(self.classes),
            "mean": list(self.mean),
            "std": list(self.std),
            "facts": dict(self.facts),
        }

    def build(self) -> nn.Module:
        """The network with its weights, in evaluation mode: normalised images to logits."""
        model = build_network(self.network)
        weights = model.state_dict()  # it tells versions, without which MNASNet takes no weights
        weights.clear()
        weights.update(self.weights)
        model.load_state_dict(weights)
        return model.eval()


def write_trained(path: Path, trained: TrainedModel) -> None:
    """Writes a model file that is there in whole or not at all; tensors and plain data only."""
    description = json.dumps(trained.describe())
    weights = dict(trained.weights)
    with whole_file(path) as file:
        torch.save({"betanas": FORMAT, "description": description, "weights": weights}, file)


def read_trained(path: Path) -> TrainedModel:
    """Reads what ``write_trained`` wrote; loads tensors and plain data, never code.

    Raises:
        InputError: If there is no such file, or it is something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); betanas train writes such a file"
        ) from None
    except Exception:  # a foreign or damaged file may make its reader raise anything
        state = None
    if not isinstance(state, dict) or "betanas" not in state:
        raise InputError(f"{path} is no model of betanas train; give the model.pt that it wrote")
    if state["betanas"] > FORMAT:
        raise InputError(
            f"{path} was written by a newer BetaNAS (format {state['betanas']}, this one reads "
            f"{FORMAT}); upgrade: pip install --upgrade betanas"
        )
    return TrainedModel.described(json.loads(state["description"]), state["weights"])
