"""How a step's gradients are computed: by eager calls, or by replaying one CUDA graph.

Networks for small images are bound by launches: a GPU waits for Python to ask for the next of some
hundred small kernels. A graph asks for all kernels of forward and backward pass at once (CUDA's
graphs as PyTorch has them, ``torch.cuda.graphs``, "whole-network capture").
"""

import logging
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from betanas.devices.ranks import Ranks
from betanas.images.mixing import Targets
from betanas.study.recipe import Recipe
from betanas.training.recipe import Precision

Batch = Callable[[], tuple[Tensor, Targets]]

logger = logging.getLogger(__name__)

_WARM_UP_STEPS = 3  # torch asks for some before a capture: lazy initialisation cannot be captured


class Engine(Protocol):
    """Computes gradients; the optimiser's step is not its business.

    Attributes:
        name: ``eager``, ``compiled`` or ``graph``; the audit shows it.
    """

    name: str

    def prepare(self, batch: Batch) -> None:
        """Does all that costs time once, on a batch like those to come; learns nothing."""

    def learn(self, inputs: Tensor, targets: Targets) -> Tensor:
        """Leaves a batch's gradients in the weights' ``grad``; returns the loss, detached."""
        ...


class EagerEngine:
    """Asks for each operation in turn: the reference, and the only way on CPUs and several ranks.

    Args:
        model: The network, perhaps wrapped or compiled.
        recipe: For the label smoothing, and the weight of an auxiliary head's loss.
        precision: In which numbers the model computes.
        beat: Called between forward and backward pass, either of which may take long.
        weight: Of this rank's mean loss in the mean over the ranks (``Batches.weight``).
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        precision: Precision,
        beat: Callable[[], None],
        weight: float = 1.0,
    ) -> None:
        self.name = "compiled" if recipe.compile else "eager"
        self._model, self._smoothing = model, recipe.label_smoothing
        self._auxiliary = recipe.auxiliary_weight
        self._precision, self._beat, self._weight = precision, beat, weight
        self._weights = list(model.parameters())

    def prepare(self, batch: Batch) -> None:
        """Has a GPU choose its kernels, a compiler compile, and buckets be made."""
        if self._weights[0].device.type == "cpu" and self.name == "eager":
            return
        inputs, targets = batch()
        for _ in range(_WARM_UP_STEPS):
            self.learn(inputs, targets)
        self._forget()

    def learn(self, inputs: Tensor, targets: Targets) -> Tensor:
        """As ``Engine``."""
        with self._precision.applied():
            loss = self.loss(inputs, targets)
        if self._weight != 1:
            loss = loss * self._weight
        self._forget()
        self._beat()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def loss(self, inputs: Tensor, targets: Targets) -> Tensor:
        """What is learnt to be small, shape ``()``; an auxiliary head's loss counts less."""
        answer = self._model(inputs)
        if isinstance(answer, Tensor):
            return targets.loss(answer, self._smoothing)
        own, auxiliary = (targets.loss(logits, self._smoothing) for logits in answer)
        return own + self._auxiliary * auxiliary

    def _forget(self) -> None:
        for weight in self._weights:
            weight.grad = None


class GraphEngine:
    """Replays forward and backward pass as one CUDA graph, on one rank.

    Inputs, gradients and loss stay in the same memory from step to step. What a step writes into
    the model's buffers (a branch's noise, batch-norm statistics) is seen by the next replay, since
    it is written in place.

    Args:
        eager: What is captured.
    """

    name = "graph"

    def __init__(self, eager: EagerEngine) -> None:
        self._eager = eager
        self._graph = torch.cuda.CUDAGraph()

    def prepare(self, batch: Batch) -> None:
        """Captures the graph.

        Raises:
            RuntimeError: If the model does something that no graph can hold.
        """
        inputs, targets = batch()
        self._inputs, self._targets = inputs.clone(), targets.clone()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._eager.prepare(lambda: (self._inputs, self._targets))
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(self._graph):
            self._loss = self._eager.learn(self._inputs, self._targets)

    def learn(self, inputs: Tensor, targets: Targets) -> Tensor:
        """As ``Engine``; the returned loss is overwritten by the next step."""
        self._inputs.copy_(inputs)
        self._targets.copy_(targets)
        self._graph.replay()
        return self._loss


def prepare_engine(
    model: nn.Module,
    recipe: Recipe,
    precision: Precision,
    ranks: Ranks,
    beat: Callable[[], None],
    batch: Batch,
    weight: float = 1.0,
) -> Engine:
    """Chooses the engine, and makes it ready on a batch.

    ``recipe.engine``: ``auto`` is ``graph`` on one rank on a GPU unless the model is compiled, and
    ``eager`` elsewhere, or where the model cannot be captured.

    Args:
        model: The network, perhaps wrapped or compiled; its buffers are left as they were, and so
            is torch's generator.
        recipe: How to train.
        precision: In which numbers the model computes.
        ranks: This process among its peers.
        beat: Called where a step may take long.
        batch: Gives one like those to come.
        weight: Of this rank's mean loss in the mean over the ranks.
    """
    eager = EagerEngine(model, recipe, precision, beat, weight)
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    random_state = ranks.random_state()
    alone = ranks.device.type == "cuda" and ranks.size == 1 and not recipe.compile
    engine: Engine = GraphEngine(eager) if alone and recipe.engine != "eager" else eager
    try:
        engine.prepare(batch)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if engine is eager:
            raise
        logger.warning("the model is trained without a CUDA graph: %s", str(error).splitlines()[0])
        engine = eager
        engine.prepare(batch)
    for buffer, before in kept:
        buffer.copy_(before)
    ranks.set_random_state(random_state)
    return engine
