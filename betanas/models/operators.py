"""Times the operators that networks are made of on this device: what ``OperatorTable`` adds up."""

import json
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
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
from betanas.models.depthwise import fast_gradients
from betanas.models.latency import device_title

OPERATORS_FILE = "operators.json"  # in the cache folder
_SECONDS = 0.004  # of one measurement, at least
_MOST_MACS = 2**27  # of the images that are timed at once: fewer images where each has more
_MOST_VALUES = 2**22  # likewise
_SQUEEZE_RATIO = 8  # about what networks have; its cost is that of the wide tensor
_CLASSES = 10
_CACHE_BYTES = 2**20  # about a core's own cache
_LEAST = 0.01  # share of what was timed with something else, where that took no less time


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
Timing = Callable[[Operator, tuple[int, ...], Conditions], float]


def remembered_operators(
    networks: LayerTable, conditions: Conditions, cache: Path
) -> OperatorTable | None:
    """The table of ``measure_operators`` if all of it was measured on this machine before.

    Args:
        networks: Some of those that the table will be asked about.
        conditions: How they will run; on a CPU.
        cache: The folder that remembers measurements.
    """

    def unknown(*_: object) -> float:
        raise LookupError

    try:
        return measure_operators(networks, conditions, _remembered(cache, conditions), unknown)
    except LookupError:
        return None


def measure_operators(
    networks: LayerTable,
    conditions: Conditions,
    known: Known | None = None,
    timing: Timing | None = None,
) -> OperatorTable:
    """Times what networks like these are made of; ten seconds or so on one core.

    Args:
        networks: Some of those that the table will be asked about.
        conditions: How they will run.
        known: Seconds that were measured before under these conditions; new ones are added.
        timing: Takes the time of one operator; None really does.
    """
    known = {} if known is None else known
    timing = timing or _seconds
    points: dict[Operator, list[IntArray]] = {}
    for use in operators(networks):
        points.setdefault(use.operator, []).append(use.found()[1])
    threads = torch.get_num_threads()
    torch.set_num_threads(conditions.threads)
    try:
        grids = {
            operator: _grid(operator, np.concatenate(p), conditions, known, timing)
            for operator, p in points.items()
        }
        title = device_title(conditions.device)
    finally:
        torch.set_num_threads(threads)
    return OperatorTable(title, grids)


def _grid(
    operator: Operator, points: IntArray, conditions: Conditions, known: Known, timing: Timing
) -> Grid:
    """One operator at the corners of the cells in which points, ``u x a``, lie."""
    # One image takes microseconds, in which operators differ by more than their work.
    axes = grid_axes(points, doublings=2 if conditions.trains else 1)
    seconds = {}
    for corner in corners(axes, points):
        name = " ".join(map(str, (operator, *corner)))
        if name not in known:
            known[name] = timing(operator, corner, conditions)
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
    module, scale = _module(operator, channels, outputs)
    read = IMAGE_CHANNELS if operator.reads_images else channels
    work = sum(p.numel() for p in module.parameters() if p.ndim == 4) * side**2
    values = max(read, outputs) * (side * scale) ** 2
    most = min(_MOST_MACS // max(work, 1), _MOST_VALUES // values)
    number = min(max(most, 1), conditions.batch_size)
    device = conditions.device
    module = module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    module.train(conditions.trains)
    dtype = torch.bfloat16 if conditions.bf16 and not operator.reads_images else torch.float32
    shape = (number, read, side * scale, side * scale)
    images = torch.ones(shape, device=device, dtype=dtype)
    images = images.contiguous(memory_format=torch.channels_last)
    if conditions.trains:
        images.requires_grad_(not operator.reads_images)
        return _timed(_training(module, images, conditions), conditions) / number
    between, alone = _forgetting(conditions)

    def once() -> None:
        between()
        module(images)

    with torch.inference_mode():
        both = _timed(once, conditions)
    return max(both - alone, _LEAST * both) / number


def _timed(once: Callable[[], object], conditions: Conditions) -> float:
    """Least seconds of one call: a disturbance only ever adds some."""
    # Here, since it brings in what compiles extensions, which may warn that it finds no GPU.
    from torch.utils.benchmark import Timer  # noqa: PLC0415

    # On one thread a CPU's own seconds, which other processes do not disturb.
    own = conditions.device == "cpu" and conditions.threads == 1
    timer = Timer(
        "once()",
        globals={"once": once},
        timer=time.process_time if own else time.perf_counter,
        num_threads=conditions.threads,
    )
    return min(timer.blocked_autorange(min_run_time=_SECONDS).times)


@cache
def _forgetting(conditions: Conditions) -> tuple[Callable[[], object], float]:
    """What makes a CPU's nearest caches forget an operator between two calls, and its seconds.

    A network has others in between: a batch norm of 64 channels took 14 microseconds again and
    again, but 21 to 26 in the midst of others. With the images of a training step between them,
    operators are timed as they are.
    """
    if conditions.device != "cpu":
        return lambda: None, 0.0
    other = torch.ones(_CACHE_BYTES // 4)

    def touch() -> None:
        other.mul_(1.0)

    return touch, _timed(touch, conditions)


def _training(module: nn.Module, images: Tensor, conditions: Conditions) -> Callable[[], object]:
    """Forward and backward pass, with the gradient of what is read, as inside a network."""
    module = fast_gradients(module)
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


def _module(operator: Operator, channels: int, outputs: int) -> tuple[nn.Module, int]:
    """An operator as networks have it, and how much larger the side is that it reads.

    Args:
        operator: Which.
        channels: Of the table.
        outputs: Likewise; of a grouped convolution those of a group.
    """
    kind, *details = str(operator).split("-")
    stride = 2 if "2" in details or operator is Operator.POOL else 1
    conv = partial(nn.Conv2d, stride=stride, padding=1, bias=False)
    match kind:
        case "stem" | "conv":
            ends = (IMAGE_CHANNELS, channels) if kind == "stem" else (channels, outputs)
            return conv(*ends, 3), stride
        case "grouped":
            return conv(channels, channels, 3, groups=max(1, channels // outputs)), stride
        case "pointwise":
            return nn.Conv2d(channels, outputs, 1, bias=False), 1
        case "depthwise":
            size = int(details[0])
            return conv(channels, channels, size, padding=size // 2, groups=channels), stride
        case "norm" if details:
            return nn.Sequential(nn.BatchNorm2d(channels), _ACTIVATIONS[details[0]]()), 1
    return _PLAIN[operator](channels), stride


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "silu": partial(nn.SiLU, inplace=True),
    "relu": partial(nn.ReLU, inplace=True),
    "gelu": nn.GELU,
    "relu6": partial(nn.ReLU6, inplace=True),
}
_PLAIN: dict[Operator, Callable[[int], nn.Module]] = {
    Operator.NORM: nn.BatchNorm2d,
    Operator.SILU: lambda _: nn.SiLU(),
    Operator.RELU: lambda _: nn.ReLU(),
    Operator.GELU: lambda _: nn.GELU(),
    Operator.RELU6: lambda _: nn.ReLU6(),
    Operator.POOL: lambda _: nn.MaxPool2d(2, ceil_mode=True),
    Operator.ADD: lambda _: _Sum(),
    Operator.SQUEEZE: lambda c: SqueezeExcitation(c, max(1, c // _SQUEEZE_RATIO), nn.SiLU),
    Operator.HEAD: lambda c: nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(c, _CLASSES)
    ),
}


def _key(conditions: Conditions) -> str:
    """Of measurements that are comparable: one machine, device, number of threads, torch."""
    device = conditions.device
    title = f"cpu, {conditions.threads} threads" if device == "cpu" else device_title(device)
    return f"{socket.gethostname()}, {title}, torch {torch.__version__}, {conditions}"


def _remembered(cache: Path, conditions: Conditions) -> Known:
    found: Known = (read_json(cache / OPERATORS_FILE) or {}).get(_key(conditions), {})
    return found


def main() -> None:
    """Reads a request from stdin, answers with a table on stdout: see ``jobs/timing.py``."""
    request = json.load(sys.stdin)
    conditions = Conditions(**request["how"])
    networks = LayerTable.of(*map(Architecture.from_json, request["networks"]))
    cache = Path(request["cache"])
    known, file = _remembered(cache, conditions), cache / OPERATORS_FILE
    table = measure_operators(networks, conditions, known)
    cache.mkdir(parents=True, exist_ok=True)
    write_json(file, (read_json(file) or {}) | {_key(conditions): known})
    json.dump(table.to_json(), sys.stdout)


if __name__ == "__main__":
    main()
