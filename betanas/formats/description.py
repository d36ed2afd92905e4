"""What goes along with the weights, as plain JSON: the network, its input, its classes."""

import json
from collections.abc import Mapping
from typing import Any

from betanas.training.trained import TrainedModel

DESCRIPTION_KEY = "betanas"
"""Its name among a file's metadata."""


def describe(trained: TrainedModel) -> dict[str, Any]:
    """All but the weights; with them it makes the same model again."""
    return {
        "network": trained.network.to_json(),
        "resolution": trained.network.resolution,
        "classes": list(trained.classes),
        "mean": list(trained.mean),
        "std": list(trained.std),
        "facts": dict(trained.facts),
    }


def to_text(description: Mapping[str, Any], indent: int | None = None) -> str:
    """JSON in ASCII: class names are names of folders, which need not be valid UTF-8."""
    return json.dumps(description, indent=indent)
