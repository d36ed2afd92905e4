"""A network as one file of plain torch that people can read, and its weights beside it."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from torch import Tensor

from betanas.architecture.layers import Activation, Architecture, Block, Layer
from betanas.data.decode import LARGEST_KEPT_SIDE, resized_side
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
    layers = network.layers
    fused = [y for y in layers if y.block is Block.FMBC]
    environment = Environment(  # noqa: S701 - what is written is Python, not HTML
        loader=PackageLoader("betanas", "formats"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(_TEMPLATE).render(
        weights_file=WEIGHTS_FILE,
        title=f"{network.num_classes:d} classes, R={network.resolution:d}, {num_params:,} weights.",
        sources=_sources(layers),
        resolution=f"{network.resolution:d}",
        stored_side=f"{resized_side(network.resolution):d}",
        largest_side=f"{LARGEST_KEPT_SIDE:d}",
        mean=repr(tuple(map(float, trained.mean))),
        std=repr(tuple(map(float, trained.std))),
        classes=_render_names(trained.classes),
        activation=_ACTIVATIONS[layers[0].activation],
        blocks={str(y.block) for y in layers},
        residual=any(y.block not in (Block.CNA, Block.RES) for y in layers),
        single=any(not y.expanded_channels for y in fused),
        fused=any(y.expanded_channels for y in fused),
        bare=any(y.block is Block.MBC and not y.expanded_channels for y in layers),
        squeezes=any(y.squeeze_channels for y in layers),
        pools=any(y.pools for y in layers),
        layers="\n".join(f"            {_render_layer(layer)}" for layer in layers),
        last_channels=int(layers[-1].out_channels),
        latent_channels=int(network.latent_channels),
        num_classes=f"{network.num_classes:d}",
    )


_ACTIVATIONS = {
    Activation.SILU: "nn.SiLU",
    Activation.RELU: "nn.ReLU",
    Activation.GELU: "nn.GELU",
    Activation.RELU6: "nn.ReLU6",
}
_PAPERS = {
    Block.FMBC: "EfficientNetV2 (Tan and Le, 2021)",
    Block.MBC: "MobileNetV2 (Sandler et al., 2018)",
    Block.RES: "ResNet (He et al., 2016)",
    Block.CNX: "ConvNeXt (Liu et al., 2022)",
}


def is_uniform(network: Architecture) -> bool:
    """Whether all layers have one activation, as the source takes for granted."""
    return len({y.activation for y in network.layers}) == 1


def _sources(layers: Sequence[Layer]) -> str:
    """Where the blocks come from."""
    papers = sorted({_PAPERS[y.block] for y in layers if y.block in _PAPERS})
    return (
        f"The blocks are those of {', '.join(papers)}."
        if papers
        else "Its layers are convolutions."
    )


def _render_names(names: Sequence[str]) -> str:
    lines = "".join(f"    {str(name)!r},\n" for name in names)
    return f"(\n{lines})"


def _render_layer(layer: Layer) -> str:
    """One layer as the call that builds it; what is 1, 0 or 3 by default is left out."""
    y = layer
    channels = [f"{y.in_channels:d}", f"{y.out_channels:d}"]
    stride = 1 if y.pools else y.stride
    match y.block:
        case Block.CNA:
            call, own = "conv_norm", [*channels, f"{y.kernel_size:d}"]
        case Block.RES:
            call, own = "BasicBlock", channels
        case Block.FMBC if not y.expanded_channels:
            call, own = "conv", channels
        case Block.CNX:
            call, own = "convnext", [*channels, f"{y.expanded_channels:d}"]
        case _:
            call = "mbconv" if y.block is Block.MBC else "fused_mbconv"
            own = [*channels, f"{y.expanded_channels:d}"]
            own += [f"{y.squeeze_channels:d}"] if y.squeeze_channels else []
    named = {"stride": (stride, 1), "groups": (y.groups, 1)}
    if y.block in (Block.MBC, Block.CNX):
        named["kernel_size"] = (y.kernel_size, 3)
    own += [f"{name}={value:d}" for name, (value, usual) in named.items() if value != usual]
    if y.pools and y.block is not Block.CNA:
        own.append("adds_input=False")
    text = f"{call}({', '.join(own)})"
    text = f"pooled({text})" if y.pools else text
    return f"{text},  # {y.out_resolution:d} x {y.out_resolution:d}"
