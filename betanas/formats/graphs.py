"""Graphs that need no Python source: ONNX, and torch's own exported programs.

Both take float32 images ``N x 3 x R x R`` with pixel values in [0, 1], normalise them, and return
logits ``N x classes``, for any N.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from betanas.formats.classifier import DESCRIPTION_KEY, Answer, PixelClassifier, answer
from betanas.models.trained import TrainedModel

ONNX_FILE = "model.onnx"
PROGRAM_FILE = "model.pt2"
CLASSES_KEY = "classes"
INPUT, OUTPUT = "images", "logits"


def write_program(trained: TrainedModel, model: PixelClassifier, folder: Path) -> None:
    """Writes ``model.pt2`` for ``torch.export.load``; the description is an extra file in it."""
    extra = {f"{DESCRIPTION_KEY}.json": json.dumps(trained.describe())}
    program = _trace(model, trained.network.resolution)
    torch.export.save(program, folder / PROGRAM_FILE, extra_files=extra)


def load_program(folder: Path) -> Answer:
    """What ``write_program`` wrote, run by torch."""
    return open_program(folder / PROGRAM_FILE)[1]


def open_program(path: Path) -> tuple[Mapping[str, Any], Answer]:
    """A file that ``write_program`` wrote: the model's description, and the program run by torch.

    Raises:
        ValueError: If the file has no description.
    """
    extra = {f"{DESCRIPTION_KEY}.json": ""}
    module = torch.export.load(path, extra_files=extra).module()
    description = _description(extra[f"{DESCRIPTION_KEY}.json"])
    return description, lambda batches: answer(module, batches)


def write_onnx(trained: TrainedModel, model: PixelClassifier, folder: Path) -> None:
    """Writes ``model.onnx``; the description and the class names are its metadata, as JSON.

    Weights beyond the 2 GB that one ONNX file holds go to ``model.onnx.data``.
    """
    program = torch.onnx.export(
        _trace(model, trained.network.resolution),
        dynamo=True,
        input_names=[INPUT],
        output_names=[OUTPUT],
        verbose=False,
    )
    assert program is not None  # noqa: S101 - it is None without dynamo only
    description = trained.describe()
    program.model.metadata_props[DESCRIPTION_KEY] = json.dumps(description)
    program.model.metadata_props[CLASSES_KEY] = json.dumps(description["classes"])
    program.save(folder / ONNX_FILE)


def load_onnx(folder: Path) -> Answer:
    """What ``write_onnx`` wrote, run by ONNX Runtime on the CPU."""
    return open_onnx(folder / ONNX_FILE)[1]


def open_onnx(path: Path) -> tuple[Mapping[str, Any], Answer]:
    """A file that ``write_onnx`` wrote: the model's description, and ONNX Runtime on the CPU.

    Raises:
        ValueError: If the file has no description.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Threads that spin for work would take the cores from everybody else.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map

    def run(batches: Sequence[Tensor]) -> list[Tensor]:
        return [
            torch.from_numpy(session.run([OUTPUT], {INPUT: batch.numpy()})[0]) for batch in batches
        ]

    return _description(metadata.get(DESCRIPTION_KEY, "")), run


def _description(text: str) -> Mapping[str, Any]:
    """What ``TrainedModel.describe`` told, from a file that may be anybody's."""
    if not text:
        raise ValueError("it does not tell its classes")
    found: dict[str, Any] = json.loads(text)
    return found


def _trace(model: PixelClassifier, resolution: int) -> ExportedProgram:
    # With an example of one image, torch would take 1 for a constant.
    example = torch.zeros(2, 3, resolution, resolution)
    program = torch.export.export(model, (example,), dynamic_shapes=({0: Dim("batch", min=1)},))
    # Else both formats tell, node by node, where on this machine the sources lie.
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program
