"""One rank's training of one architecture, read from top to bottom.

The budget is spent on training steps alone: the clock runs while a batch is made and learnt from,
and stands still for everything else.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from betanas.architecture.reference import ReferenceModel
from betanas.devices.ranks import Ranks, Wishes
from betanas.devices.seeds import seed_dropout
from betanas.devices.work import LossWatch, WorkTimer
from betanas.files import whole_file
from betanas.images.batches import Batches, HeldOut
from betanas.images.placement import TrainingImages
from betanas.models.depth import DepthNoise, set_stochastic_depth
from betanas.models.depthwise import fast_gradients
from betanas.models.heads import set_dropout, weights_in_use
from betanas.models.network import build_network
from betanas.models.norms import synchronize_norms
from betanas.models.references import load_pretrained
from betanas.training.average import WeightAverage
from betanas.training.budget import TrainingClock
from betanas.training.captured import captured_step, uncaptured
from betanas.training.checkpoint import BEST_FILE, Checkpoints
from betanas.training.elastic import Change, rate_scale, with_change
from betanas.training.engine import Engine, prepare_engine
from betanas.training.evaluation import Validation
from betanas.training.heartbeat import Heartbeat
from betanas.training.muon import Muon
from betanas.training.progress import NewsWriter
from betanas.training.recipe import Precision, build_optimizer, parallel
from betanas.training.schedule import LearningRate
from betanas.training.speed import trial_latency
from betanas.trial import STOP_FILE, Evaluation, TrainingResult, TrialLatency, TrialTask

# Steps that a GPU may have before it: enough to work on while the next batches are asked for.
_QUEUED_STEPS = 8
# Steps of a measurement that do not count: they allocate, and load what all others find loaded.
_FIRST_STEPS = 2
# A budget from which on it pays to try out a GPU's kernels.
_LONG_SECONDS = 120.0


class Diverged(ArithmeticError):  # noqa: N818 - named after the reason it becomes
    """The training loss is no longer a finite number."""


class Training:
    """One rank's training of one task.

    Args:
        task: What to train, and how long.
        images: The data set; this rank takes its share of each batch.
        ranks: This process among its peers.
        launched: When the trial was launched, ``time.time()`` seconds.
        model: Another network than the task's architecture, with as many classes.
    """

    def __init__(
        self,
        task: TrialTask,
        images: TrainingImages,
        ranks: Ranks,
        launched: float,
        model: nn.Module | None = None,
    ) -> None:
        recipe, self._task, self._ranks, self._launched = task.recipe, task, ranks, launched
        self._folder = Path(task.folder)
        # Where ranks come and go, each machine keeps all that another rank 0 needs.
        self._heart = Heartbeat(self._folder, ranks.local_rank if task.is_elastic else ranks.rank)
        self._writes = ranks.rank == 0 or (task.is_elastic and ranks.local_rank == 0)
        self._news = NewsWriter(self._folder) if self._writes else None

        placed = images.place(ranks.device, task.dataset.placement)
        self._placement = placed.placement
        long = task.budget.unit != "seconds" or task.budget.amount >= _LONG_SECONDS
        resolution = task.architecture.resolution
        self._precision = Precision(recipe, ranks.device, resolution, by_trial=long)
        self._batches = batches = Batches(placed, task, ranks, self._precision.dtype)
        torch.manual_seed(task.seed)
        auxiliary = recipe.auxiliary_weight > 0
        model = model or build_network(task.architecture, auxiliary=auxiliary)
        if task.pretrained and isinstance(task.architecture, ReferenceModel):
            load_pretrained(model, task.architecture)
        model.to(ranks.device)
        if recipe.dropout is not None:
            set_dropout(model, recipe.dropout)
        if recipe.stochastic_depth is not None:
            set_stochastic_depth(model, recipe.stochastic_depth, recipe.stochastic_depth_power)
        fast_gradients(model).to(memory_format=torch.channels_last)
        self._noise = DepthNoise(
            model, task.seed, batches.per_batch, batches.mine, batches.steps_drawn_at_once
        )
        self._model = synchronize_norms(model, ranks) if recipe.sync_batch_norm else model
        self._average = WeightAverage(self._model, recipe.weight_average)
        self._wrapped = parallel(recipe, self._model, ranks)
        if task.supernet is None:  # whose gates are the same on all ranks
            seed_dropout(task.seed, ranks, 0)
        self._optimizer = self._build_optimizer()
        self._apply_gradients: Callable[[], object] = self._optimizer.step
        self._learning_rate = LearningRate(recipe, self._optimizer)
        self._held_out = HeldOut(placed, task, ranks)
        self._validation = Validation(
            self._held_out, batches, recipe.norm_batches, ranks, self._beat
        )

        self._clock = TrainingClock(task.budget, batches.images_per_epoch)
        self._changes = [Change(0, 0, ranks.size)]
        self._losses = LossWatch()
        self._loss_sum = torch.zeros((), device=ranks.device)
        self._data_wait = WorkTimer(ranks.device)
        self._evaluation_seconds = 0.0
        self._history: list[Evaluation] = []
        self._share = 0  # of ``recipe.evaluations``, those that are behind
        self._stopped = False
        self._answered: TrialLatency | None = None
        self._checkpoints = Checkpoints(task, ranks, writes=self._writes)
        self._restored_steps, self._restored_seconds = 0, 0.0

    def run(self) -> TrainingResult:
        """Trains until the budget is spent; every rank returns the same value.

        Returns:
            Best validation top-1, if it was not stopped before the first, and where the time went.

        Raises:
            Diverged: On all ranks, if the loss of any is no longer finite.
        """
        if self._news is not None:
            self._news.tell(placement=self._placement)
        self._restore()
        if (limit := self._task.latency_limit_ms) is not None and not self._clock.steps:
            answered = TrainingResult(None, latency=self._latency())
            if answered.exceeds(limit):
                return replace(answered, device=self._ranks.device_name, ranks=self._ranks.size)
        self._prepare()
        self._ranks.agree(Wishes())  # all ranks begin together
        self._ranks.synchronize()
        startup_seconds = time.time() - self._launched
        self._checkpoints.begin()
        self._clock.resume()
        while True:
            agreed = self._agree()
            over = agreed.progress >= 1 and self._clock.steps > 0
            self._stopped = agreed.stop and self._clock.steps > 0
            if self._stopped:
                break
            if over or self._evaluation_is_due(agreed.progress):
                self._evaluate(agreed.progress)
                over = over or self._has_stopped_rising()
            if over:
                break
            if agreed.save:
                self._save()
            self.step(agreed.progress)
        if self._task.keep_checkpoint:
            self._save()
        self._ranks.synchronize()  # a step that is still queued belongs to the training time
        self._clock.pause()
        return self._result(startup_seconds)

    def step(self, progress: float) -> None:
        """Learns from one batch: the only thing the budget is spent on.

        Args:
            progress: Share of the budget that is spent, in [0, 1).
        """
        clock, recipe = self._clock, self._task.recipe
        with self._data_wait.running():
            inputs, targets = self._batches[clock.steps]
        self._noise.load(self._batches.number(clock.steps))
        self._learning_rate.before_step(progress, clock.epochs, self._rate_scale())
        self._beat()
        loss = self._engine.learn(inputs, targets)
        if recipe.clip_gradient_norm:
            nn.utils.clip_grad_norm_(self._model.parameters(), recipe.clip_gradient_norm)
        self._apply_gradients()
        clock.count(self._batches.per_step)
        self._average.after_step(clock.steps)
        self._losses.add(loss)
        self._loss_sum += loss
        self._beat()
        if self._news is not None:
            self._news.tell_sometimes(
                spent=min(progress, 1.0), epoch=clock.epochs, steps=clock.steps
            )

    def _rate_scale(self) -> float:
        """What the number of ranks multiplies the learning rate with: nothing at a fixed batch."""
        recipe = self._task.recipe
        if recipe.elastic != "dynamic":
            return 1.0
        return rate_scale(self._changes, self._clock.steps, recipe.elastic_steps)

    def pace(self, seconds: float, ready: Callable[[], object]) -> float:
        """Images a second of these training steps, measured in place of a training.

        Args:
            seconds: How long to look; at least one step is made.
            ready: Called before that, after first steps that take longer.
        """
        self._prepare()
        for _ in range(_FIRST_STEPS):
            self.step(0.5)
        ready()
        before, began, spent = self._clock.steps, time.perf_counter(), 0.0
        while spent < seconds:
            self.step(0.5)
            spent = time.perf_counter() - began
        return (self._clock.steps - before) * self._batches.per_step / spent

    def _agree(self) -> Wishes:
        """What all ranks do next."""
        clock = self._clock
        # Some steps stay in a GPU's queue, but none that might run over the budget unseen.
        finite = self._losses.all_finite(unfinished=int(min(_QUEUED_STEPS, clock.steps_left / 4)))
        due = self._checkpoints.are_due
        self._beat()
        stop = self._ranks.rank == 0 and (self._folder / STOP_FILE).exists()
        agreed = self._ranks.agree(Wishes(clock.progress, not finite, due, stop))
        self._beat()
        if agreed.failed:
            raise Diverged(f"the training loss is not finite after {clock.steps} steps")
        return agreed

    def _evaluation_is_due(self, progress: float) -> bool:
        """When the next share of the budget is spent, and at ends of epochs where asked for."""
        every, clock = self._task.recipe.evaluate_every_epochs, self._clock
        last = self._history[-1] if self._history else Evaluation(0.0, 0, 0.0, 0.0, 0.0)
        share = self._shares(progress)
        share_is_spent, self._share = share > self._share, share
        epoch_ends = every > 0 and int(clock.epochs / every) > int(last.epoch / every)
        return clock.steps != last.steps and (epoch_ends or share_is_spent)

    def _shares(self, progress: float) -> int:
        """How many of the recipe's equal shares of the budget are spent."""
        return int(progress * self._task.recipe.evaluations + 1e-9)

    def _evaluate(self, progress: float) -> None:
        """Looks at the validation images while the clock stands still."""
        clock, history = self._clock, self._history
        self._ranks.synchronize()
        clock.pause()
        began = time.perf_counter()
        steps = clock.steps - (history[-1].steps if history else 0)
        if steps:
            loss = self._ranks.total(self._loss_sum.item())[0] / steps / self._ranks.size
            with self._average.applied(), self._precision.applied():
                accuracy = self._validation.accuracy(self._model, clock.steps)
                self._keep_if_best(accuracy)
            self._loss_sum.zero_()
            self._learning_rate.after_evaluation(accuracy, clock.epochs)
            history.append(Evaluation(clock.epochs, clock.steps, clock.seconds, accuracy, loss))
            if self._news is not None:
                best = max(e.accuracy for e in history)
                self._news.tell(spent=min(progress, 1.0), best=best, **asdict(history[-1]))
        self._evaluation_seconds += time.perf_counter() - began
        clock.resume()

    def _keep_if_best(self, accuracy: float) -> None:
        """Writes the weights as they were evaluated: averaged, with their batch-norm statistics.

        Those of an auxiliary head are left out: nobody will ask it again.
        """
        best = all(accuracy > e.accuracy for e in self._history)
        if best and self._task.keep_best and self._writes:
            with whole_file(self._folder / BEST_FILE) as file:
                torch.save({"weights": weights_in_use(self._model)}, file)

    def _has_stopped_rising(self) -> bool:
        """Whether the best accuracy is older than the recipe's patience."""
        patience = self._task.recipe.stop_patience_epochs
        best = max(self._history, key=lambda e: e.accuracy)
        return patience > 0 and self._clock.epochs - best.epoch >= patience

    def _build_optimizer(self) -> "torch.optim.Optimizer | Muon":
        return build_optimizer(self._task.recipe, self._model)

    def _prepare(self) -> None:
        """Makes ready what a step needs, before the clock runs."""
        self._engine = self._prepared_engine()
        if self._engine.name == "graph":
            self._apply_gradients = captured_step(self._optimizer)

    def _prepared_engine(self) -> Engine:
        """Has a GPU choose its kernels, and a compiler compile."""
        return prepare_engine(
            self._wrapped,
            self._task.recipe,
            self._precision,
            self._ranks,
            self._beat,
            lambda: self._batches[self._clock.steps],
            self._batches.weight,
        )

    def _beat(self) -> None:
        self._heart.beat(self._clock.steps - self._restored_steps)

    def _save(self) -> None:
        """Writes a checkpoint while the clock stands still; another process may go on from it."""
        self._ranks.synchronize()
        self._clock.pause()
        self._checkpoints.write(
            {
                "steps": self._clock.steps,
                "images": self._clock.images,
                "changes": [tuple(change) for change in self._changes],
                "seconds": self._clock.seconds,
                "data_wait_seconds": self._data_wait.seconds,
                "evaluation_seconds": self._evaluation_seconds,
                "history": [astuple(e) for e in self._history],
                "model": self._model.state_dict(),
                "average": self._average.average,
                "optimizer": self._optimizer.state_dict(),
                "plateau": self._learning_rate.plateau.state,
                **self._more_state(),
            },
            {"random_states": self._ranks.random_state(), "loss_sums": self._loss_sum.cpu()},
        )
        self._clock.resume()

    def _restore(self) -> None:
        """Goes on where an interrupted training of the very same task left its last checkpoint."""
        saved = self._checkpoints.read()
        if saved is not None:
            self._go_on_from(saved)
        if self._news is not None and self._task.is_elastic:
            self._news.tell(ranks=self._ranks.size, images=self._clock.images)

    def _go_on_from(self, saved: dict[str, Any]) -> None:
        self._clock.restore(saved["steps"], saved["images"], saved["seconds"])
        changes, ranks = [Change(*change) for change in saved["changes"]], self._ranks
        self._changes = with_change(changes, saved["steps"], saved["images"], ranks.size)
        self._batches.begin(self._changes[-1].step, self._changes[-1].images)
        self._share = self._shares(self._clock.progress)
        self._restored_steps = saved["steps"]
        self._restored_seconds = saved["seconds"] + saved["evaluation_seconds"]
        self._data_wait.seconds = saved["data_wait_seconds"]
        self._evaluation_seconds = saved["evaluation_seconds"]
        # Other ranks than those that saved share their sums, and draw as their first.
        same = len(saved["random_states"]) == ranks.size
        loss_sums = torch.stack(saved["loss_sums"])
        self._loss_sum.copy_(loss_sums[ranks.rank] if same else loss_sums.mean(0))
        self._history.extend(Evaluation(*e) for e in saved["history"])
        self._model.load_state_dict(saved["model"])
        self._average.restore(saved["average"])
        self._optimizer.load_state_dict(saved["optimizer"])
        uncaptured(self._optimizer)
        self._learning_rate.plateau.state = tuple(saved["plateau"])
        ranks.set_random_state(saved["random_states"][ranks.rank if same else 0])
        if not same and self._task.supernet is None:
            seed_dropout(self._task.seed, ranks, saved["steps"])
        self._restore_more(saved)

    def _more_state(self) -> dict[str, Any]:
        """What a checkpoint has of a training of another kind."""
        return {}

    def _restore_more(self, saved: dict[str, Any]) -> None:
        """Takes it back."""

    def _latency(self) -> TrialLatency | None:
        """Of the network, measured once; None if the task does not ask for it."""
        if self._answered is None and self._task.latency is not None:
            self._answered = trial_latency(self._task, self._task.latency, self._ranks, self._beat)
        return self._answered

    def _result(self, startup_seconds: float) -> TrainingResult:
        clock = self._clock
        latency = None if self._stopped else self._latency()
        named = startup_seconds + clock.seconds + self._evaluation_seconds - self._restored_seconds
        return TrainingResult(
            value=max((e.accuracy for e in self._history), default=None),
            epochs=clock.epochs,
            steps=clock.steps,
            images=clock.images,
            images_per_second=clock.images / clock.seconds,
            train_seconds=clock.seconds,
            data_wait_seconds=self._data_wait.seconds,
            evaluation_seconds=self._evaluation_seconds,
            startup_seconds=startup_seconds,
            other_seconds=max(0.0, time.time() - self._launched - named),
            device=self._ranks.device_name,
            ranks=self._ranks.size,
            changes=tuple(self._changes[1:]),
            placement=self._placement,
            engine=self._engine.name,
            precision=self._precision.name,
            history=tuple(self._history),
            stopped=self._stopped,
            latency=latency,
        )
