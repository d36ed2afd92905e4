"""Weights as safetensors, with the description beside them and inside."""

import json
from pathlib import Path

from betanas.formats.classifier import DESCRIPTION_KEY, Answer, PixelClassifier, answer
from betanas.models.trained import TrainedModel

WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "model.json"


def write_safetensors(trained: TrainedModel, _model: PixelClassifier, folder: Path) -> None:
    """Writes ``model.safetensors``, the network's ``state_dict``, and ``model.json``.

    The network takes normalised images: ``(pixels in [0, 1] - mean) / std``.
    """
    from safetensors.torch import save

    description = trained.describe()
    # The format knows neither strides nor tensors that share memory.
    weights = {name: tensor.contiguous().clone() for name, tensor in trained.weights.items()}
    metadata = {DESCRIPTION_KEY: json.dumps(description), "format": "pt"}
    # Its own save_file makes a file that nobody else may read.
    (folder / WEIGHTS_FILE).write_bytes(save(weights, metadata=metadata))
    (folder / DESCRIPTION_FILE).write_text(
        json.dumps(description, indent=2) + "\n", encoding="utf-8"
    )


def load_safetensors(folder: Path) -> Answer:
    """The network that ``model.json`` describes, built anew, with the weights of the other file."""
    from safetensors.torch import load_file

    told = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    trained = TrainedModel.described(told, load_file(folder / WEIGHTS_FILE))
    model = PixelClassifier(trained.build(), trained.mean, trained.std)
    return lambda batches: answer(model, batches)
