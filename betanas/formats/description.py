"""What goes along with the weights, as plain JSON: the network, its input, its classes."""

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from betanas.architecture.reference import network_from_json
from betanas.training.trained import TrainedModel

DESCRIPTION_KEY = "betanas"
"""Its name among a file's metadata."""


def describe(trained: TrainedModel) -> dict[str, Any]:
    """All but the weights; ``undescribe`` makes the same model of it."""
    return {
        "network": trained.network.to_json(),
        "resolution": trained.network.resolution,
        "classes": list(trained.classes),
        "mean": list(trained.mean),
        "std": list(trained.std),
        "facts": dict(trained.facts),
    }


def undescribe(told: Mapping[str, Any], weights: Mapping[str, Tensor]) -> TrainedModel:
    """The model that ``describe`` was given."""
    return TrainedModel(
        network_from_json(told["network"]),
        weights,
        tuple(told["classes"]),
        tuple(told["mean"]),
        tuple(told["std"]),
        told["facts"],
    )


def to_text(description: Mapping[str, Any], indent: int | None = None) -> str:
    """JSON in ASCII: class names are names of folders, which need not be valid UTF-8."""
    return json.dumps(description, indent=indent)
