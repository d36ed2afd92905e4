"""Times the operators that networks are made of on this device: what ``OperatorTable`` adds up."""

import json
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer
from torchvision.ops.misc import SqueezeExcitation

from betanas.architecture.layers import IMAGE_CHANNELS, Architecture, LayerTable
from betanas.architecture.operators import (
    Grid,
    Operator,
    OperatorTable,
    corners,
    grid_axes,
    operators,
)
from betanas.arrays import IntArray
from betanas.files import read_json, write_json
from betanas.models.latency import device_title

OPERATORS_FILE = "operators.json"  # in the cache folder
_SECONDS = 0.004  # of one measurement, at least
_MOST_MACS = 2**27  # of the images that are timed at once: fewer images where each has more
_MOST_VALUES = 2**22  # likewise
_SQUEEZE_RATIO = 8  # about what networks have; its cost is that of the wide tensor
_CLASSES = 10


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which operators are timed.

    Attributes:
        device: ``cpu`` or ``cuda``.
        batch_size: Images at once.
        bf16: Whether convolutions compute in bf16, under autocast.
        trains: Whether gradients are computed, or the network only answers.
        threads: Of a CPU.
    """

    device: str
    batch_size: int
    bf16: bool = False
    trains: bool = True
    threads: int = 1


Known = dict[str, float]


def measure_operators(
    networks: LayerTable, conditions: Conditions, known: Known | None = None
) -> OperatorTable:
    """Times what networks like these are made of; ten seconds or so on one core.

    Args:
        networks: Some of those that the table will be asked about.
        conditions: How they will run.
        known: Seconds that were measured before under these conditions; new ones are added.
    """
    known = {} if known is None else known
    points: dict[Operator, list[IntArray]] = {}
    for use in operators(networks):
        points.setdefault(use.operator, []).append(use.points)
    threads = torch.get_num_threads()
    torch.set_num_threads(conditions.threads)
    try:
        grids = {op: _grid(op, np.concatenate(p), conditions, known) for op, p in points.items()}
    finally:
        torch.set_num_threads(threads)
    return OperatorTable(device_title(conditions.device), grids)


def _grid(operator: Operator, points: IntArray, conditions: Conditions, known: Known) -> Grid:
    """One operator at the corners of the cells in which points, ``u x a``, lie."""
    axes = grid_axes(points)
    seconds = {}
    for corner in corners(axes, points):
        name = " ".join(map(str, (operator, *corner)))
        if name not in known:
            known[name] = _seconds(operator, corner, conditions)
        seconds[corner] = known[name]
    return Grid.of(axes, seconds)


def _seconds(operator: Operator, corner: tuple[int, ...], conditions: Conditions) -> float:
    """Seconds an image of one operator.

    Args:
        operator: Which.
        corner: Channels, output channels where they are free, and the side of what it writes.
        conditions: How.
    """
    channels, outputs, side = corner[0], corner[-2], corner[-1]
    module, read, scale = _module(operator, channels, outputs)
    work = sum(p.numel() for p in module.parameters() if p.ndim == 4) * side**2
    values = max(read, outputs) * (side * scale) ** 2
    number = min(_MOST_MACS // max(work, 1), _MOST_VALUES // values, conditions.batch_size)
    number = max(number, 1)
    module = module.to(conditions.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    module.train(conditions.trains)
    in_bf16 = conditions.bf16 and read > IMAGE_CHANNELS
    images = torch.ones(
        number,
        read,
        side * scale,
        side * scale,
        device=conditions.device,
        dtype=torch.bfloat16 if in_bf16 else torch.float32,
    ).contiguous(memory_format=torch.channels_last)
    images.requires_grad_(conditions.trains and read > IMAGE_CHANNELS)
    once = (
        _training(module, images, conditions) if conditions.trains else _answering(module, images)
    )
    # On one thread a CPU's own seconds, which other processes do not disturb.
    own = conditions.device == "cpu" and conditions.threads == 1
    timer = Timer(
        "once()",
        globals={"once": once},
        timer=time.process_time if own else time.perf_counter,
        num_threads=conditions.threads,
    )
    return timer.blocked_autorange(min_run_time=_SECONDS).median / number


def _answering(module: nn.Module, images: Tensor) -> Callable[[], object]:
    def once() -> None:
        with torch.inference_mode():
            module(images)

    return once


def _training(module: nn.Module, images: Tensor, conditions: Conditions) -> Callable[[], object]:
    """Forward and backward pass, with the gradient of what is read, as inside a network."""
    wanted = [*module.parameters(), *([images] if images.requires_grad else [])]
    precision = torch.autocast(conditions.device, torch.bfloat16, enabled=conditions.bf16)

    def forward() -> Tensor:
        with precision:
            found: Tensor = module(images)
            return found

    gradient = torch.ones_like(forward())
    return lambda: torch.autograd.grad(forward(), wanted, gradient)


class _Sum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + x


def _module(operator: Operator, channels: int, outputs: int) -> tuple[nn.Module, int, int]:
    """An operator as networks have it, how many channels it reads, and its side over its result's.

    Args:
        operator: Which.
        channels: Of the table.
        outputs: Likewise; of a grouped convolution those of a group.
    """
    name = str(operator)
    stride = 2 if name.endswith("-2") else 1
    read = IMAGE_CHANNELS if name.startswith("stem") else channels

    def conv(out: int, size: int = 3, groups: int = 1) -> nn.Module:
        return nn.Conv2d(read, out, size, stride, size // 2, groups=groups, bias=False)

    activations = {"silu": nn.SiLU, "relu": nn.ReLU, "gelu": nn.GELU}
    match name.split("-"):
        case ["stem", *_]:
            built = conv(channels)
        case ["conv", *_]:
            built = conv(outputs)
        case ["grouped", *_]:
            built = conv(channels, groups=max(1, channels // outputs))
        case ["pointwise"]:
            built = conv(outputs, 1)
        case ["depthwise", size, *_]:
            built = conv(channels, int(size), channels)
        case ["norm"]:
            built = nn.BatchNorm2d(channels)
        case ["norm", activation]:
            in_place = {} if activation == "gelu" else {"inplace": True}
            built = nn.Sequential(nn.BatchNorm2d(channels), activations[activation](**in_place))
        case ["pool"]:
            built, stride = nn.MaxPool2d(2, ceil_mode=True), 2
        case ["add"]:
            built = _Sum()
        case ["squeeze"]:
            built = SqueezeExcitation(channels, max(1, channels // _SQUEEZE_RATIO), nn.SiLU)
        case ["head"]:
            built = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(channels, _CLASSES)
            )
        case _:
            built = activations[name]()
    return built, read, stride


def main() -> None:
    """Reads a request from stdin, answers with a table on stdout: see ``jobs/timing.py``."""
    request = json.load(sys.stdin)
    conditions = Conditions(**request["how"])
    networks = LayerTable.of(*map(Architecture.from_json, request["networks"]))
    file = Path(request["cache"]) / OPERATORS_FILE
    key = f"{socket.gethostname()}, {device_title(conditions.device)}, {conditions}"
    known: Known = (read_json(file) or {}).get(key, {})
    table = measure_operators(networks, conditions, known)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, (read_json(file) or {}) | {key: known})
    json.dump(table.to_json(), sys.stdout)


if __name__ == "__main__":
    main()
