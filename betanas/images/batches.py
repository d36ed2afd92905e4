"""Batches for training and for evaluation, the same whatever the number of ranks."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from betanas.cores import available_cores
from betanas.devices.ranks import Ranks
from betanas.devices.seeds import Stream, torch_generator
from betanas.devices.work import SideQueue, upload
from betanas.images.augment import Draws, EvalTransform, TrainAugment
from betanas.images.mixing import Mixing, Targets
from betanas.images.placement import TrainingImages
from betanas.images.stream import PictureStream, ReadAhead
from betanas.trial import TrialTask

# Images whose random numbers are drawn at once: a draw for one small batch is all overhead.
_DRAWN_AT_ONCE = 4096
# The same of augmentation, in values of the result: operations want groups of images, and memory
# is to stay a few per cent of a data set's. On a core, 100 images at R = 32 take 8.6 ms at 2**19,
# 4.0 at 2**21 and 3.7 at 2**22.
_MADE_VALUES_CPU = 2**21
_MADE_VALUES_GPU = 2**26
# Images of an evaluation's batch on a GPU, where many at once cost least.
_EVALUATED_IMAGES_GPU, _EVALUATED_PIXELS_GPU = 1024, 2**22
NO_LABEL = -1


class Batches:
    """Batches of augmented training images; which ones is known from the step's number alone.

    Order and augmentation are drawn for the whole step and cut into the ranks' shares, so two ranks
    of 50 images see what one rank of 100 sees.

    Attributes:
        per_rank: Images of one step on this rank.
        per_step: Images of one step on all ranks.
        steps_per_epoch: Whole steps in one pass over the training images.
        mine: This rank's images within a step.
        steps_drawn_at_once: Steps whose random numbers are drawn together.
    """

    def __init__(
        self,
        images: TrainingImages,
        task: TrialTask,
        ranks: Ranks,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        recipe, self._dtype = task.recipe, dtype
        self._images, self._seed, self._device = images, task.seed, ranks.device
        self.per_rank = min(recipe.batch_size, len(images.train) // ranks.size)
        self.per_step = self.per_rank * ranks.size
        self.steps_per_epoch = len(images.train) // self.per_step
        self.mine = slice(ranks.rank * self.per_rank, (ranks.rank + 1) * self.per_rank)
        self._augment = TrainAugment(
            resolution=task.architecture.resolution,
            mean=images.mean,
            std=images.std,
            autoaugment=recipe.autoaugment,
            flip=recipe.flip,
            crop_scale=recipe.crop_scale,
            crop_ratio=recipe.crop_ratio,
            crop_padding=recipe.crop_padding,
        )
        values = _MADE_VALUES_CPU if ranks.device.type == "cpu" else _MADE_VALUES_GPU
        made = values // (self.per_step * 3 * task.architecture.resolution**2)
        # Powers of two, so that no group of steps is made across the edge of one that is drawn.
        self.steps_drawn_at_once = _power_of_two(_DRAWN_AT_ONCE // self.per_step)
        self._steps_made_at_once = min(self.steps_drawn_at_once, _power_of_two(made))
        self._ahead = (
            ReadAhead(images.images, self._chosen, available_cores() // ranks.size)
            if isinstance(images.images, PictureStream)
            else None
        )
        self._mixing = Mixing(recipe.mixup, recipe.cutmix, task.seed)
        self._epoch, self._order = -1, torch.empty(0)
        self._draws: tuple[int, Draws] | None = None
        self._side = SideQueue(ranks.device)
        self._made: tuple[int, Tensor, Tensor] | None = None
        self._coming: tuple[int, Callable[[], tuple[Tensor, ...]]] | None = None

    def __getitem__(self, step: int) -> tuple[Tensor, Targets]:
        """This rank's share of a step.

        Returns:
            Images, ``b x 3 x R x R`` of the given type, normalised, and what they show.
        """
        group, place = divmod(step, self._steps_made_at_once)
        if self._made is None or self._made[0] != group:
            self._made = None  # its memory first
            inputs, labels = self._take(group)
            self._made = group, inputs, labels
        _, inputs, labels = self._made
        part = slice(place * self.per_rank, (place + 1) * self.per_rank)
        return self._mixing(inputs[part], labels[part], step, self.mine.start)

    def close(self) -> None:
        """Ends the processes that read ahead, if there are any."""
        if self._ahead is not None:
            self._ahead.close()

    def indices(self, step: int) -> Tensor:
        """Which images this rank's share of a step holds, int64 ``b``."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = torch_generator(self._seed, Stream.ORDER, epoch)
            order = torch.randperm(len(self._images.train), generator=generator)
            self._epoch, self._order = epoch, self._images.train[order]
        return self._order[place * self.per_step :][self.mine]

    def plain(self, step: int) -> Tensor:
        """The same images as ``self[step]`` without augmentation, as validation sees its own."""
        source, _ = self._images.take(self.indices(step), self._device)
        a = self._augment
        return EvalTransform(a.resolution, a.mean, a.std)(source)

    def _take(self, group: int) -> tuple[Tensor, Tensor]:
        """The batches of some steps; on a GPU, those after them are then asked for."""
        coming, self._coming = self._coming, None
        if coming is None or coming[0] != group:
            coming = group, self._side.ask(lambda: self._make(group))
        inputs, labels = coming[1]()
        if self._device.type == "cuda":
            self._coming = group + 1, self._side.ask(lambda: self._make(group + 1))
        return inputs, labels

    def _make(self, group: int) -> tuple[Tensor, Tensor]:
        """Augments this rank's images of some steps: small batches are cheaper together."""
        steps = self._steps_of(group)
        first, chosen = steps.start, self._chosen(group)
        if self._ahead is None:
            source, labels = self._images.take(chosen, self._device)
        else:
            source = upload(self._ahead[group], self._device)
            labels = upload(self._images.labels[chosen], self._device)
        offset = first % self.steps_drawn_at_once
        places = torch.arange(offset, offset + len(steps))[:, None] * self.per_step
        places = places + torch.arange(self.mine.start, self.mine.stop)
        draws = self._drawn(first // self.steps_drawn_at_once)
        inputs = self._augment(source, draws[places.flatten()])
        return inputs.to(self._dtype), labels

    def _steps_of(self, group: int) -> range:
        first = group * self._steps_made_at_once
        return range(first, first + self._steps_made_at_once)

    def _chosen(self, group: int) -> Tensor:
        """Which images this rank's share of some steps holds."""
        return torch.cat([self.indices(step) for step in self._steps_of(group)])

    def _drawn(self, group: int) -> Draws:
        if self._draws is None or self._draws[0] != group:
            generator = torch_generator(self._seed, Stream.AUGMENT, group)
            count = self.steps_drawn_at_once * self.per_step
            self._draws = group, self._augment.draw(count, self._images.image_size, generator)
        return self._draws[1]


def _power_of_two(limit: int) -> int:
    """The largest that is not above the limit, but at least 1."""
    return 1 << max(0, limit.bit_length() - 1)


class HeldOut:
    """The validation images of one rank; together the ranks hold each exactly once.

    On a GPU all batches are of one size, for it chooses its kernels anew for every other one: the
    last is filled up with images whose label, ``NO_LABEL``, no answer equals.
    """

    def __init__(self, images: TrainingImages, task: TrialTask, ranks: Ranks) -> None:
        self._images, self._device = images, ranks.device
        self._mine = images.held_out[ranks.rank :: ranks.size]
        resolution = task.architecture.resolution
        self._batch = 2 * task.recipe.batch_size
        if ranks.device.type == "cuda":
            fitting = min(_EVALUATED_IMAGES_GPU, _EVALUATED_PIXELS_GPU // resolution**2)
            self._batch = max(self._batch, fitting)
        self._batch = max(1, min(self._batch, len(self._mine)))
        self._transform = EvalTransform(resolution, images.mean, images.std)

    def __len__(self) -> int:
        return len(self._mine)

    def drawn(self, number: int, generator: torch.Generator) -> tuple[Tensor, Targets]:
        """So many of them at random, or all if there are fewer; each at most once.

        Returns:
            Images, float32 ``b x 3 x R x R``, and what they show.
        """
        chosen = self._mine[torch.randperm(len(self._mine), generator=generator)[:number]]
        source, labels = self._images.take(chosen, self._device)
        return self._transform(source), Targets(labels)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields images, float32 ``b x 3 x R x R``, and labels, int64 ``b``."""
        for chosen in torch.split(self._mine, self._batch):
            missing = self._batch - len(chosen) if self._device.type == "cuda" else 0
            filled = torch.cat([chosen, chosen[:1].expand(missing)])
            source, labels = self._images.take(filled, self._device)
            if missing:
                labels[-missing:] = NO_LABEL
            yield self._transform(source), labels
