"""An optimiser's step as one CUDA graph.

A step of Muon is some thirty small kernels for each convolution, and Python asks for them one by
one: for networks of small images that takes longer than forward and backward pass (``engine.py``).
"""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from betanas.training.muon import Muon

logger = logging.getLogger(__name__)


def captured_step(optimizer: torch.optim.Optimizer | Muon) -> Callable[[], object]:
    """Captures the step on a GPU; weights and the optimiser's state are left as they were.

    Learning rates become tensors of the device, which ``LearningRate`` writes: a replay reads them.
    Gradients must stay where they are in memory, as those of ``GraphEngine`` do.

    Args:
        optimizer: Of weights that are on a GPU.

    Returns:
        What makes a step: the graph's replay, or the optimiser's own step where it cannot be
        captured.
    """
    kept = [(w, w.detach().clone()) for group in optimizer.param_groups for w in group["params"]]
    device = kept[0][0].device
    for part in _parts(optimizer):
        for state in part.state.values():
            state.update({k: v.to(device) for k, v in state.items() if isinstance(v, Tensor)})
    states = [(t, t.clone()) for t in _state_of(optimizer)]
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), device=device)
        if "capturable" in group:
            group["capturable"] = True
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    step: Callable[[], object] = graph.replay
    try:
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            optimizer.step()  # a first one makes the state
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(graph):
            optimizer.step()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        logger.warning("the optimiser makes its steps without a CUDA graph: %s", error)
        uncaptured(optimizer)
        step = optimizer.step
    with torch.no_grad():
        for weight, before in kept:
            weight.copy_(before)
        if not states:  # all that torch's optimisers remember begins at zero
            states = [(t, torch.zeros_like(t)) for t in _state_of(optimizer)]
        for tensor, was in states:
            tensor.copy_(was)
    return step


def uncaptured(optimizer: torch.optim.Optimizer | Muon) -> None:
    """Makes plain numbers of learning rates, as before a capture."""
    for group in optimizer.param_groups:
        group["lr"] = float(group["lr"])
        if "capturable" in group:
            group["capturable"] = False


def _parts(optimizer: torch.optim.Optimizer | Muon) -> tuple[torch.optim.Optimizer, ...]:
    return optimizer.parts if isinstance(optimizer, Muon) else (optimizer,)


def _state_of(optimizer: torch.optim.Optimizer | Muon) -> list[Tensor]:
    states = (state for part in _parts(optimizer) for state in part.state.values())
    return [value for state in states for value in state.values() if isinstance(value, Tensor)]
