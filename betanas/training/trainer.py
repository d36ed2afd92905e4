"""One rank's training of one architecture, read from top to bottom.

The budget is spent on training steps alone: the clock runs while a batch is made and learnt from,
and stands still for everything else.
"""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from betanas.data import ImageSet, split_indices
from betanas.training.augment import EvalTransform, TrainAugment
from betanas.training.budget import TrainingClock
from betanas.training.model import build_model
from betanas.training.ranks import Ranks
from betanas.training.recipe import LearningRate, build_optimizer, parallel
from betanas.trial import PROGRESS_FILE, Evaluation, TrainingResult, TrialTask

_BEAT_SECONDS = 0.5


class Diverged(ArithmeticError):  # noqa: N818 - named after the reason it becomes
    """The training loss is no longer a finite number."""


class Progress:
    """What a rank tells of itself while it works: a heartbeat of its own, and rank 0's news."""

    def __init__(self, folder: Path, ranks: Ranks) -> None:
        self._beat_file = folder / f"rank-{ranks.rank}.beat"
        self._news = (folder / PROGRESS_FILE).open("a") if ranks.rank == 0 else None
        self._last = 0.0

    def beat(self, clock: TrainingClock, progress: float) -> None:
        """Says that this rank is alive, at most twice a second."""
        now = time.monotonic()
        if now - self._last < _BEAT_SECONDS:
            return
        self._last = now
        self._beat_file.write_text(str(clock.steps))
        self.tell(spent=min(progress, 1.0), epoch=clock.epochs, steps=clock.steps)

    def tell(self, **news: float) -> None:
        """Adds a line to rank 0's progress file."""
        if self._news is not None:
            self._news.write(json.dumps(news) + "\n")
            self._news.flush()


class Batches:
    """The training images on the device, in batches that do not depend on the number of ranks.

    Order and augmentation are drawn for the whole step and cut into the ranks' shares, so two ranks
    of 50 images see what one rank of 100 sees.
    """

    def __init__(self, images: ImageSet, train: np.ndarray, task: TrialTask, ranks: Ranks) -> None:
        recipe = task.recipe
        self._ranks = ranks
        self._images = torch.from_numpy(np.ascontiguousarray(images.images[train])).to(ranks.device)
        self._labels = torch.from_numpy(images.labels[train]).to(ranks.device)
        self.per_rank = min(recipe.batch_size, len(train) // ranks.size)
        self.per_step = self.per_rank * ranks.size
        self.steps_per_epoch = len(train) // self.per_step
        self._generator = torch.Generator().manual_seed(task.seed)
        self._augment = TrainAugment(
            resolution=task.architecture.resolution,
            mean=images.mean,
            std=images.std,
            autoaugment=recipe.autoaugment,
            flip=recipe.flip,
            crop_scale=recipe.crop_scale,
            crop_ratio=recipe.crop_ratio,
        )

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields images, ``b x 3 x R x R``, and labels, ``b``, without end."""
        height, width = self._images.shape[1:3]
        first = self._ranks.rank * self.per_rank
        mine = slice(first, first + self.per_rank)
        while True:
            order = torch.randperm(len(self._images), generator=self._generator)
            for step in range(self.steps_per_epoch):
                chosen = order[step * self.per_step :][: self.per_step][mine].to(self._ranks.device)
                draws = self._augment.draw(self.per_step, (height, width), self._generator)
                yield (
                    self._augment(self._images[chosen], draws[mine.start : mine.stop]),
                    self._labels[chosen],
                )


class Validation:
    """The validation images, each counted exactly once at any number of ranks."""

    def __init__(self, images: ImageSet, held_out: np.ndarray, task: TrialTask, ranks: Ranks):
        mine = held_out[ranks.rank :: ranks.size]
        self._images = torch.from_numpy(np.ascontiguousarray(images.images[mine])).to(ranks.device)
        self._labels = torch.from_numpy(images.labels[mine]).to(ranks.device)
        self._ranks = ranks
        self._batch = 2 * task.recipe.batch_size
        self._transform = EvalTransform(task.architecture.resolution, images.mean, images.std)

    @torch.inference_mode()
    def accuracy(self, model: nn.Module) -> float:
        """Top-1 in [0, 1] over all ranks' images."""
        self._ranks.average_buffers(model)
        model.eval()
        correct = torch.zeros((), dtype=torch.int64, device=self._ranks.device)
        for first in range(0, len(self._labels), self._batch):
            part = slice(first, first + self._batch)
            logits = model(self._transform(self._images[part]))
            correct += (logits.argmax(dim=1) == self._labels[part]).sum()
        model.train()
        right, seen = self._ranks.total(correct.item(), len(self._labels))
        return right / seen


class Training:
    """One rank's training of one task.

    Args:
        task: What to train, and how long.
        images: The training part of the data set; a validation part is split off here.
        ranks: This process among its peers.
    """

    def __init__(self, task: TrialTask, images: ImageSet, ranks: Ranks) -> None:
        self._task = task
        self._ranks = ranks
        torch.manual_seed(task.seed)
        self._model = build_model(task.architecture).to(ranks.device)
        self._model.to(memory_format=torch.channels_last)
        torch.manual_seed(task.seed + 1 + ranks.rank)  # each rank drops other residual branches
        self._wrapped = parallel(task.recipe, self._model, ranks)
        self._optimizer = build_optimizer(task.recipe, self._model)
        self._learning_rate = LearningRate(task.recipe, self._optimizer)

        dataset = task.dataset
        chosen, held_out = split_indices(images.labels, dataset.validation, dataset.split_seed)
        self._batches = Batches(images, chosen, task, ranks)
        self._supply = iter(self._batches)
        self._validation = Validation(images, held_out, task, ranks)
        self._clock = TrainingClock(
            task.budget, self._batches.steps_per_epoch, self._batches.per_step
        )
        self._progress = Progress(Path(task.folder), ranks)
        self._loss = torch.zeros((), device=ranks.device)
        self._loss_sum = torch.zeros((), device=ranks.device)
        self._history: list[Evaluation] = []
        self._data_wait = self._evaluation_seconds = 0.0

    def run(self, launched: float) -> TrainingResult:
        """Trains until the budget is spent; every rank returns the same value.

        Args:
            launched: When the trial was launched, ``time.time()`` seconds.

        Returns:
            Best validation top-1, and where the time went (``other_seconds`` excepted).

        Raises:
            Diverged: On all ranks, if the loss of any is no longer finite.
        """
        clock = self._clock
        per_evaluation = self._batches.steps_per_epoch * self._task.recipe.evaluate_every_epochs
        self._ranks.agree(0.0, failed=False)  # all ranks begin together
        self._ranks.synchronize()
        startup_seconds = time.time() - launched
        clock.resume()
        over = False
        while not over:
            # Reading the last step's loss keeps the device at most one step behind the clock.
            finite = math.isfinite(self._loss.item())
            progress, failed = self._ranks.agree(clock.progress, failed=not finite)
            if failed:
                raise Diverged(f"the training loss is not finite after {clock.steps} steps")
            over = progress >= 1 and clock.steps > 0
            if over or (clock.steps and clock.steps % per_evaluation == 0):
                self._evaluate(progress)
            if not over:
                self._step(progress)
        clock.pause()
        return TrainingResult(
            value=max(e.accuracy for e in self._history),
            epochs=clock.epochs,
            steps=clock.steps,
            images=clock.images,
            train_seconds=self._history[-1].train_seconds,
            data_wait_seconds=self._data_wait,
            evaluation_seconds=self._evaluation_seconds,
            startup_seconds=startup_seconds,
            device=_device_name(self._ranks.device),
            ranks=self._ranks.size,
            history=tuple(self._history),
        )

    def _step(self, progress: float) -> None:
        """Learns from one batch: the only thing the budget is spent on."""
        began = time.perf_counter()
        inputs, labels = next(self._supply)
        self._data_wait += time.perf_counter() - began
        self._learning_rate.before_step(progress)
        smoothing = self._task.recipe.label_smoothing
        loss = functional.cross_entropy(self._wrapped(inputs), labels, label_smoothing=smoothing)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._loss = loss.detach()
        self._loss_sum += self._loss
        self._clock.steps += 1
        self._progress.beat(self._clock, progress)

    def _evaluate(self, progress: float) -> None:
        """Looks at the validation images while the clock stands still."""
        clock, history = self._clock, self._history
        self._ranks.synchronize()
        clock.pause()
        began = time.perf_counter()
        steps = clock.steps - (history[-1].steps if history else 0)
        if steps:
            loss = self._loss_sum.item() / steps
            accuracy = self._validation.accuracy(self._model)
            self._loss_sum.zero_()
            self._learning_rate.after_evaluation(accuracy)
            history.append(Evaluation(clock.epochs, clock.steps, clock.seconds, accuracy, loss))
            best = max(e.accuracy for e in history)
            self._progress.tell(spent=min(progress, 1.0), best=best, **asdict(history[-1]))
        self._evaluation_seconds += time.perf_counter() - began
        clock.resume()


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
