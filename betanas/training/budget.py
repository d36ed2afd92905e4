"""The clock of a trial: what counts against its budget, and what does not."""

import time

from betanas.study.recipe import Budget


class TrainingClock:
    """Counts the seconds and steps of training alone; it stands still while paused.

    Args:
        budget: What may be spent.
        images_per_epoch: Images of one pass over the training images.

    Attributes:
        steps: Training steps so far.
        images: Training images seen so far, over all ranks.
    """

    def __init__(self, budget: Budget, images_per_epoch: int) -> None:
        self._budget = budget
        self._images_per_epoch = images_per_epoch
        self._since: float | None = None
        self._seconds = 0.0
        self.steps = self.images = 0

    def restore(self, steps: int, images: int, seconds: float) -> None:
        """Goes on from what an interrupted training had spent; the clock must be paused."""
        self.steps, self.images, self._seconds = steps, images, seconds

    def count(self, images: int) -> None:
        """Counts a step of so many images over all ranks."""
        self.steps += 1
        self.images += images

    def resume(self) -> None:
        """Starts counting; the device must be idle."""
        self._since = time.perf_counter()

    def pause(self) -> None:
        """Stops counting; the device must have finished the last step."""
        self._seconds = self.seconds
        self._since = None

    @property
    def seconds(self) -> float:
        """Training time so far."""
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return self._seconds + running

    @property
    def epochs(self) -> float:
        """Passes over the training images so far."""
        return self.images / self._images_per_epoch

    @property
    def progress(self) -> float:
        """Share of the budget that is spent; a step begins only below 1."""
        spent = {
            "seconds": self.seconds,
            "steps": self.steps,
            "epochs": self.epochs,
            "images": self.images,
        }
        return spent[self._budget.unit] / self._budget.amount

    @property
    def steps_left(self) -> float:
        """About how many steps the rest of the budget pays for."""
        progress = self.progress
        return self.steps * max(0.0, 1 - progress) / progress if progress else 0.0
