"""Training a supernet: its weights, and the gates that say which network it is.

The ordinary training (``trainer.py``) with another loss and a second optimiser: cross entropy plus
``latency_weight * log(runtime in ms)`` (Stamoulis et al., 2019, equation 7), the runtime from the
table of the study's device. The weight is 0 for the first ``warm_up_steps``.

Single-Path learns weights and thresholds together, on training images. ProxylessNAS (Cai et al.,
2019) learns the weights of one drawn path on training images, then gates on validation images, by
turns, and no gates during the warm-up.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from betanas.architecture.supernet import network_text
from betanas.devices.ranks import Ranks
from betanas.devices.seeds import Stream, torch_generator
from betanas.errors import DataError
from betanas.images.mixing import Targets
from betanas.images.placement import TrainingImages
from betanas.models.proxyless import ProxylessNet
from betanas.models.single_path import SinglePathNet
from betanas.models.supernet import Supernet
from betanas.study.recipe import Recipe
from betanas.training.engine import EagerEngine, Engine
from betanas.training.muon import Muon
from betanas.training.recipe import Precision, build_optimizer
from betanas.training.trainer import Training
from betanas.trial import SupernetTask, TrainingResult, TrialTask

_TELL_SECONDS = 0.5


class RuntimeEngine(EagerEngine):
    """Adds the runtime to the loss.

    Args:
        wrapped: The supernet, perhaps wrapped.
        net: The supernet itself.
        recipe: For the label smoothing.
        precision: In which numbers it computes.
        beat: As for ``EagerEngine``.
        weight: As for ``EagerEngine``.

    Attributes:
        latency_weight: Of the logarithm of the runtime at present.
    """

    def __init__(
        self,
        wrapped: nn.Module,
        net: Supernet,
        recipe: Recipe,
        precision: Precision,
        beat: Callable[[], None],
        weight: float,
    ) -> None:
        super().__init__(wrapped, recipe, precision, beat, weight)
        self._net = net
        self.latency_weight = 0.0

    def loss(self, inputs: Tensor, targets: Targets) -> Tensor:
        """Cross entropy, and the weighted logarithm of the runtime."""
        found = super().loss(inputs, targets)
        if self.latency_weight:
            found = found + self.latency_weight * torch.log(self._net.runtime_ms())
        return found


def build_supernet(task: TrialTask, supernet: SupernetTask) -> Supernet:
    """The supernet of a task, with fresh weights from its seed."""
    torch.manual_seed(task.seed)
    architecture, config = task.architecture, supernet.config
    shape = supernet.plan, architecture.resolution, architecture.num_classes
    if config.method == "proxyless":
        return ProxylessNet(*shape)
    return SinglePathNet(*shape, config.dropout)


class SupernetTraining(Training):
    """One rank's training of a supernet; arguments as for ``Training``."""

    def __init__(
        self, task: TrialTask, images: TrainingImages, ranks: Ranks, launched: float
    ) -> None:
        assert task.supernet is not None  # noqa: S101 - who asks for it has one
        self._config = task.supernet.config
        self._net = build_supernet(task, task.supernet)
        if isinstance(self._net, ProxylessNet) and ranks.size > 1:
            raise DataError(
                "oneshot.method = proxyless trains other paths in each step, which ranks cannot "
                f"share: --nproc-per-node must be 1, but got {ranks.size}"
            )
        self._snapshots: list[dict[str, Any]] = []
        self._told = 0.0
        super().__init__(task, images, ranks, launched, self._net)
        self._gate_optimizer = torch.optim.Adam(
            self._net.gates(), self._config.gate_learning_rate, betas=self._net.gate_betas
        )

    def step(self, progress: float) -> None:
        """Learns weights from one batch, and gates as the method says."""
        steps, net = self._clock.steps, self._net
        generator = torch_generator(self._task.seed, Stream.GATES, steps)
        warm = steps < self._config.warm_up_steps
        if isinstance(net, ProxylessNet):
            net.before_step(generator)
            super().step(progress)
            if not warm:
                self._learn_gates(net, generator)
            net.settle()
        else:
            self._runtime_engine.latency_weight = 0.0 if warm else self._config.latency_weight
            super().step(progress)
            self._gate_optimizer.step()
        self._tell(steps)

    def _learn_gates(self, net: ProxylessNet, generator: torch.Generator) -> None:
        """One step of the gates on validation images, by the study's loss or by reward."""
        inputs, targets = self._held_out.drawn(self._batches.per_rank, generator)
        weight = self._config.latency_weight
        if self._config.gate_update == "reinforce":
            net.before_step(generator)
            with torch.no_grad(), self._precision.applied():
                right = net(inputs).argmax(dim=1) == targets.labels
            reward = float(right.float().mean()) - weight * float(net.runtime_ms().log())
            loss = net.reinforce_loss(reward)
        else:
            net.draw_pairs(generator)
            with self._precision.applied():
                loss = targets.loss(net(inputs), self._task.recipe.label_smoothing)
                loss = loss + weight * net.runtime_ms().log()
        gates = net.gates()
        # A block of one option learns nothing.
        gradients = torch.autograd.grad(loss, gates, allow_unused=True)
        for gate, gradient in zip(gates, gradients, strict=True):
            gate.grad = gradient
        self._gate_optimizer.step()
        net.after_gates()
        self._beat()

    def _build_optimizer(self) -> "torch.optim.Optimizer | Muon":
        return build_optimizer(self._task.recipe, self._model, without=self._net.gates())

    def _prepared_engine(self) -> Engine:
        """Always eager: which operations there are may change with the gates."""
        recipe, weight = self._task.recipe, self._batches.weight
        self._runtime_engine = RuntimeEngine(
            self._wrapped, self._net, recipe, self._precision, self._beat, weight
        )
        return self._runtime_engine

    def _evaluate(self, progress: float) -> None:
        """As any training; and notes what the network is by now."""
        before = len(self._history)
        super()._evaluate(progress)
        if len(self._history) == before:
            return
        last, choices = self._history[-1], self._net.choices()
        runtime = self._net.plan.runtime_ms(choices)
        self._snapshots.append(
            {
                "steps": last.steps,
                "accuracy": last.accuracy,
                "loss": last.train_loss,
                "runtime_ms": runtime,
                "choices": choices,
                "gates": self._net.probabilities(),
            }
        )
        if self._news is not None:
            self._news.tell(
                note=f"trial {self._task.number}, supernet at {100 * min(progress, 1.0):.0f} %: "
                f"loss {last.train_loss:.3f}, {runtime:.3f} ms, {network_text(choices)}"
            )

    def _tell(self, steps: int) -> None:
        """Loss, runtime and network for whoever watches, twice a second at most."""
        now = time.monotonic()
        if self._news is None or now - self._told < _TELL_SECONDS:
            return
        self._told = now
        choices = self._net.choices()
        done = self._history[-1].steps if self._history else 0
        self._news.tell(
            supernet=network_text(choices),
            runtime_ms=self._net.plan.runtime_ms(choices),
            loss=float(self._loss_sum) / max(1, steps + 1 - done),
        )

    def _more_state(self) -> dict[str, Any]:
        return {"gates": self._gate_optimizer.state_dict(), "snapshots": self._snapshots}

    def _restore_more(self, saved: dict[str, Any]) -> None:
        self._gate_optimizer.load_state_dict(saved["gates"])
        self._snapshots = list(saved["snapshots"])

    def _result(self, startup_seconds: float) -> TrainingResult:
        """The chosen network and how it came about; the value is the supernet's own accuracy."""
        choices = self._net.choices()
        chosen = {
            "choices": choices,
            "runtime_ms": self._net.plan.runtime_ms(choices),
            "history": self._snapshots,
        }
        return replace(super()._result(startup_seconds), supernet=chosen)
