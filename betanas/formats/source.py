"""A network as one file of plain torch that people can read, and its weights beside it."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

import torch
from torch import Tensor

from betanas.architecture.layers import IMAGE_CHANNELS, Architecture, Block, Layer
from betanas.errors import RunError
from betanas.formats.classifier import Answer, PixelClassifier
from betanas.models.trained import TrainedModel

SOURCE_FILE = "model.py"
WEIGHTS_FILE = "model-weights.pt"
_TEMPLATE = "network.py.template"
_TIMEOUT_SECONDS = 600

# In isolated mode; packages are then found where torch is, be that a user's own folder.
_RUN = """
import importlib.util
import sys

packages, source, images, logits = sys.argv[1:]
sys.path.append(packages)
import torch

spec = importlib.util.spec_from_file_location("model", source)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
network = module.load()
with torch.inference_mode():
    answers = [network(batch) for batch in torch.load(images, weights_only=True)]
torch.save(answers, logits)
"""


def write_source(trained: TrainedModel, model: PixelClassifier, folder: Path) -> None:
    """Writes ``model.py`` and the ``state_dict`` that it loads, ``model-weights.pt``."""
    torch.save(dict(trained.weights), folder / WEIGHTS_FILE)
    (folder / SOURCE_FILE).write_text(render(trained, model.num_params), encoding="utf-8")


def load_source(folder: Path) -> Answer:
    """What ``write_source`` wrote, run by a Python process of its own that knows nothing of us."""

    def run(batches: Sequence[Tensor]) -> list[Tensor]:
        with tempfile.TemporaryDirectory() as exchange:
            images, logits = Path(exchange, "images.pt"), Path(exchange, "logits.pt")
            torch.save(list(batches), images)
            packages = Path(torch.__file__).parents[1]
            paths = map(str, (packages, folder / SOURCE_FILE, images, logits))
            command = [sys.executable, "-I", "-B", "-c", _RUN, *paths]
            ended = subprocess.run(  # noqa: S603 - the file that was just written
                command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS
            )
            if ended.returncode:
                last = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
                raise RunError(f"{SOURCE_FILE} does not run: {last}")
            found: list[Tensor] = torch.load(logits, weights_only=True)
            return found

    return run


def render(trained: TrainedModel, num_params: int) -> str:
    """The text of ``model.py``.

    All that goes into it is written as a Python literal, or as a number with ``:d``, so that
    nothing a model file holds can become code.

    Raises:
        ValueError: If the description holds something else where a number belongs.
    """
    network = trained.network
    assert isinstance(network, Architecture)  # noqa: S101 - export() has refused others
    resolution, num_classes = f"{network.resolution:d}", f"{network.num_classes:d}"
    template = Template(files("betanas.formats").joinpath(_TEMPLATE).read_text(encoding="utf-8"))
    return template.substitute(
        weights_file=WEIGHTS_FILE,
        title=f"{num_classes} classes, R={resolution}, {num_params:,} parameters.",
        resolution=resolution,
        mean=repr(tuple(map(float, trained.mean))),
        std=repr(tuple(map(float, trained.std))),
        classes=_render_names(trained.classes),
        layers="\n".join(f"            {_render_layer(layer)}" for layer in network.layers),
        last_channels=f"{network.layers[-1].out_channels:d}",
        latent_channels=f"{network.latent_channels:d}",
        num_classes=num_classes,
    )


def _render_names(names: Sequence[str]) -> str:
    lines = "".join(f"    {str(name)!r},\n" for name in names)
    return f"(\n{lines})"


def _render_layer(layer: Layer) -> str:
    side = f"  # {layer.out_resolution:d} x {layer.out_resolution:d}"
    if layer.block is Block.CNA:
        return f"conv_norm({IMAGE_CHANNELS}, {layer.out_channels:d}, 3, stride=2),{side}"
    channels = f"{layer.in_channels:d}, {layer.out_channels:d}, {layer.expanded_channels:d}"
    stride = "" if layer.stride == 1 else f", stride={layer.stride:d}"
    if layer.block is Block.FMBC:
        return f"fused_mbconv({channels}{stride}),{side}"
    return f"mbconv({channels}, {layer.squeeze_channels:d}{stride}),{side}"
