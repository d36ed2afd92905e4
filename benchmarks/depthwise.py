"""Training steps on a CPU, with depthwise gradients in float32 (``models/depthwise.py``) or not.

    taskset -c 1 python benchmarks/depthwise.py             # all networks; a minute of a core
    taskset -c 1 python benchmarks/depthwise.py mbconv-5x5-6 betanet2

Forward and backward pass of 100 images at R=32 on one thread, channels last, without the optimiser:
images a second, and GFLOP/s by three times the forward pass's multiply-adds. The least of some
steps, in the process's own seconds, the three ways by turns: other work on the core counts little.
"""

import sys
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional
from torchvision import models

from betanas.architecture.families import find_family
from betanas.architecture.mbconv import MBCONV
from betanas.models.depthwise import fast_gradients
from betanas.models.network import build_model, count_macs
from betanas.study.loading import load_definition

BATCH, RESOLUTION, CLASSES = 100, 32, 10
TURNS, STEPS = 2, 2
WAYS = {"float32": (False, False), "bf16": (True, False), "bf16, float32 gradients": (True, True)}


def of_study(choice: str) -> nn.Module:
    """The network of study ``singlepath`` whose blocks are all the same."""
    ranges = load_definition("singlepath").parameters
    kernel = {name: found[0] for name, found in ranges.items()}
    kernel |= {name: choice for name in MBCONV.names if name not in {p.name for p in MBCONV.shape}}
    return build_model(MBCONV.decode(kernel, RESOLUTION, CLASSES))


def of_family(name: str, member: str) -> nn.Module:
    """A published network."""
    family = find_family(name)
    return build_model(family.decode(family.members[member], RESOLUTION, CLASSES))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mbconv-3x3-3": lambda: of_study("3x3-3"),
    "mbconv-5x5-6": lambda: of_study("5x5-6"),
    "betanet2": lambda: of_family("betanet2", next(iter(find_family("betanet2").members))),
    "plain": lambda: of_family("betamix", "plain"),
    "mobilenet_v2": lambda: models.mobilenet_v2(num_classes=CLASSES),
}


def seconds(model: nn.Module, bf16: bool) -> float:
    """The least of some steps, after a first one."""
    model = model.train().to(memory_format=torch.channels_last)
    images = torch.randn(BATCH, 3, RESOLUTION, RESOLUTION).to(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (BATCH,))
    taken = []
    for _ in range(1 + STEPS):
        model.zero_grad()
        began = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = functional.cross_entropy(model(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        taken.append(time.process_time() - began)
    return min(taken[1:])


def main() -> None:
    """See the module's head."""
    torch.set_num_threads(1)
    for name in sys.argv[1:] or NETWORKS:
        macs = count_macs(NETWORKS[name](), RESOLUTION)
        least = dict.fromkeys(WAYS, float("inf"))
        for _ in range(TURNS):
            for way, (bf16, fast) in WAYS.items():
                model = NETWORKS[name]()
                least[way] = min(
                    least[way], seconds(fast_gradients(model) if fast else model, bf16)
                )
        told = (
            f"{way} {BATCH / s:.0f} images/s, {6 * macs * BATCH / s / 1e9:.1f} GFLOP/s"
            for way, s in least.items()
        )
        print(f"{name}, {macs / 1e6:.2f}M multiply-adds: " + "; ".join(told), flush=True)


if __name__ == "__main__":
    main()
