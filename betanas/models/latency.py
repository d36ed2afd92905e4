"""How long a network takes to answer: the median of many eager runs, after a warm-up."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from betanas.architecture.layers import IMAGE_CHANNELS
from betanas.architecture.reference import Network
from betanas.models.network import build_network

_WARM_UP_RUNS, _WARM_UP_SECONDS = 3, 0.2
_LEAST_RUNS, _MOST_RUNS, _SECONDS = 15, 300, 1.0


@dataclass(frozen=True, slots=True)
class Latency:
    """The time of one forward pass.

    Attributes:
        seconds: Median over the runs.
        low: Lower quartile.
        high: Upper quartile.
        p95: What 95 of 100 runs stay below.
        runs: How many were measured.
    """

    seconds: float
    low: float
    high: float
    p95: float
    runs: int


def measure_latency(
    architecture: Network, batch: int, device: str, beat: Callable[[], None] = lambda: None
) -> Latency:
    """Times float32 inference of a network with fresh weights, channels last, without a compiler.

    Args:
        architecture: The network.
        batch: Images of one pass.
        device: ``cpu`` or ``cuda``; a CPU works with torch's number of threads.
        beat: Called before each pass.
    """
    side = architecture.resolution
    model = build_network(architecture).to(device).to(memory_format=torch.channels_last).eval()
    images = torch.randn(batch, IMAGE_CHANNELS, side, side, device=device)
    images = images.to(memory_format=torch.channels_last)

    def once() -> float:
        beat()
        began = time.perf_counter()
        model(images)
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    # As torch has it by default, whatever trains in this process beside it.
    cudnn = torch.backends.cudnn
    as_usual = cudnn.flags(cudnn.enabled, deterministic=cudnn.deterministic, allow_tf32=True)
    with torch.inference_mode(), as_usual:
        _repeat(once, _WARM_UP_RUNS, _WARM_UP_SECONDS)
        taken = torch.tensor(_repeat(once, _LEAST_RUNS, _SECONDS), dtype=torch.float64)
    shares = torch.tensor([0.25, 0.5, 0.75, 0.95]).double()
    low, middle, high, p95 = torch.quantile(taken, shares).tolist()
    return Latency(middle, low, high, p95, len(taken))


def _repeat(once: Callable[[], float], runs: int, seconds: float) -> list[float]:
    """Runs so often, and so long, whichever is more; never more often than ``_MOST_RUNS``."""
    began, taken = time.perf_counter(), [once()]
    while len(taken) < _MOST_RUNS and (len(taken) < runs or time.perf_counter() - began < seconds):
        taken.append(once())
    return taken


def device_title(device: str) -> str:
    """The device as it is noted beside a latency: its kind, and a CPU's threads."""
    if device == "cpu":
        return f"cpu, {torch.get_num_threads()} threads"
    return str(torch.cuda.get_device_name())
