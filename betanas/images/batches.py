"""Batches for training and for evaluation, the same whatever the number of ranks."""

from collections.abc import Callable, Iterator
from itertools import groupby

import torch
from torch import Tensor

from betanas.cores import available_cores
from betanas.devices.ranks import Ranks
from betanas.devices.seeds import Stream, torch_generator
from betanas.devices.work import SideQueue, upload
from betanas.errors import DataError, InputError
from betanas.images.augment import Draws, EvalTransform, TrainAugment
from betanas.images.autoaugment import IDENTITY
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


def share_of(batch: int, rank: int, ranks: int) -> slice:
    """A rank's share of a batch: all but equal, and of whole pairs of neighbours but for the last.

    Pairs are what ``Mixing`` mixes; that they stay together makes it the same at any number of
    ranks.

    Args:
        batch: Images of all ranks together.
        rank: Whose share.
        ranks: How many there are.

    Raises:
        InputError: If a rank had no pair.
    """
    if batch < 2 * ranks:
        raise InputError(
            'with recipe.elastic = "fixed-batch" recipe.batch_size is the batch of all ranks, and '
            f"must be >= 2 x ranks, but got batch_size {batch} for {ranks} ranks"
        )
    first, last = (2 * (batch // 2 * r // ranks) for r in (rank, rank + 1))
    return slice(first, batch if rank == ranks - 1 else last)


class Batches:
    """Batches of augmented training images; which ones is known from their number alone.

    The training images, in each epoch's order, are one long row, cut into batches of equal length;
    order and augmentation are drawn for a whole batch. A batch is learnt in one step and cut into
    the ranks' shares, so two ranks of 50 images see what one rank of 100 sees. What is left at the
    end of an epoch is no batch, and is left out.

    Where ``recipe.elastic`` is ``dynamic``, a batch is one rank's, and a step takes the next one
    for each rank: however many ranks there are and were, the row is learnt without a gap. Epochs
    are then whole, and a batch may hold the last images of one and the first of the next.

    Attributes:
        per_rank: Images of one step on this rank.
        per_step: Images of one step on all ranks.
        per_batch: Images of one batch.
        images_per_epoch: Images that are learnt in one pass over the training images.
        mine: This rank's images within a batch.
        weight: Of the mean loss of this rank's images in the mean over the ranks; not 1 where
            shares are unequal.
        steps_drawn_at_once: Batches whose random numbers are drawn together.
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
        most, self._dynamic = len(images.train), recipe.elastic == "dynamic"
        if most < ranks.size:
            raise DataError(
                f"every rank must have a training image, but {ranks.size} ranks share {most}; use "
                f"--nproc-per-node {most} or fewer, or add images"
            )
        self.per_batch = min(recipe.batch_size, most)
        match recipe.elastic:
            case "none":
                share = min(recipe.batch_size, most // ranks.size)
                self.per_batch = share * ranks.size
                self.mine = slice(ranks.rank * share, (ranks.rank + 1) * share)
            case "fixed-batch":
                self.mine = share_of(self.per_batch, ranks.rank, ranks.size)
            case "dynamic":
                self.mine = slice(0, self.per_batch)
        self.per_rank = self.mine.stop - self.mine.start
        self.per_step = self.per_batch * (ranks.size if self._dynamic else 1)
        self.images_per_epoch = most if self._dynamic else most // self.per_batch * self.per_batch
        self.weight = self.per_rank * ranks.size / self.per_step
        self._ranks, self._first_step, self._first_batch = ranks, 0, 0
        # The first image, in the row of all epochs, on which AutoAugment works.
        self._first_operated = round(recipe.autoaugment_after * self.images_per_epoch)
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
        made = values // (self.per_batch * 3 * task.architecture.resolution**2)
        # Powers of two, so that no group of steps is made across the edge of one that is drawn.
        self.steps_drawn_at_once = _power_of_two(_DRAWN_AT_ONCE // self.per_batch)
        self._steps_made_at_once = min(self.steps_drawn_at_once, _power_of_two(made))
        self._ahead = (
            ReadAhead(images.images, self._chosen, available_cores() // ranks.size)
            if isinstance(images.images, PictureStream)
            else None
        )
        self._mixing = Mixing(recipe.mixup, recipe.cutmix, task.seed)
        self._orders: dict[int, Tensor] = {}
        self._draws: tuple[int, Draws] | None = None
        self._side = SideQueue(ranks.device)
        self._made: tuple[int, Tensor, Tensor] | None = None
        self._coming: tuple[int, Callable[[], tuple[Tensor, ...]]] | None = None

    def __getitem__(self, step: int) -> tuple[Tensor, Targets]:
        """This rank's share of a step.

        Returns:
            Images, ``b x 3 x R x R`` of the given type, normalised, and what they show.
        """
        group, place = divmod(step - self._first_step, self._steps_made_at_once)
        if self._made is None or self._made[0] != group:
            self._made = None  # its memory first
            inputs, labels = self._take(group)
            self._made = group, inputs, labels
        _, inputs, labels = self._made
        part = slice(place * self.per_rank, (place + 1) * self.per_rank)
        return self._mixing(inputs[part], labels[part], self.number(step), self.mine.start)

    def begin(self, step: int, images: int) -> None:
        """Says since which step, and how many images, there are as many ranks; asked for first."""
        if self._dynamic:  # elsewhere a batch is a step, whoever learns it
            self._first_step, self._first_batch = step, images // self.per_batch

    def number(self, step: int) -> int:
        """Which batch this rank learns from in a step; before a change, one from about there."""
        if not self._dynamic:
            return step
        ahead = (step - self._first_step) * self._ranks.size + self._ranks.rank
        return max(0, self._first_batch + ahead)

    def close(self) -> None:
        """Ends the processes that read ahead, if there are any."""
        if self._ahead is not None:
            self._ahead.close()

    def indices(self, step: int) -> Tensor:
        """Which images this rank's share of a step holds, int64 ``b``."""
        first = self.number(step) * self.per_batch + self.mine.start
        last, found = first + self.per_rank, []
        while first < last:
            epoch, place = divmod(first, self.images_per_epoch)
            part = self._order(epoch)[place : self.images_per_epoch][: last - first]
            found.append(part)
            first += len(part)
        return torch.cat(found)

    def _order(self, epoch: int) -> Tensor:
        """All training images as an epoch has them, int64."""
        if epoch not in self._orders:
            generator = torch_generator(self._seed, Stream.ORDER, epoch)
            order = torch.randperm(len(self._images.train), generator=generator)
            kept = {e: o for e, o in self._orders.items() if e == epoch - 1}
            self._orders = kept | {epoch: self._images.train[order]}
        return self._orders[epoch]

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
        chosen = self._chosen(group)
        if self._ahead is None:
            source, labels = self._images.take(chosen, self._device)
        else:
            source = upload(self._ahead[group], self._device)
            labels = upload(self._images.labels[chosen], self._device)
        inputs = self._augment(source, self._draws_of(group))
        return inputs.to(self._dtype), labels

    def _steps_of(self, group: int) -> range:
        first = self._first_step + group * self._steps_made_at_once
        return range(first, first + self._steps_made_at_once)

    def _draws_of(self, group: int) -> Draws:
        """What chance decided for this rank's images of some steps."""
        at_once, parts = self.steps_drawn_at_once, []
        mine = torch.arange(self.mine.start, self.mine.stop)
        numbers = map(self.number, self._steps_of(group))
        for drawn, together in groupby(numbers, lambda number: number // at_once):
            offsets = torch.tensor([number % at_once for number in together])
            places = offsets[:, None] * self.per_batch + mine
            parts.append(self._drawn(drawn)[places.flatten()])
        return parts[0] if len(parts) == 1 else Draws.cat(parts)

    def _chosen(self, group: int) -> Tensor:
        """Which images this rank's share of some steps holds."""
        return torch.cat([self.indices(step) for step in self._steps_of(group)])

    def _drawn(self, group: int) -> Draws:
        if self._draws is None or self._draws[0] != group:
            generator = torch_generator(self._seed, Stream.AUGMENT, group)
            count = self.steps_drawn_at_once * self.per_batch
            draws = self._augment.draw(count, self._images.image_size, generator)
            draws.operations[: max(0, self._first_operated - group * count)] = IDENTITY
            self._draws = group, draws
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
        if not len(self._mine):
            return  # fewer images than ranks
        for chosen in torch.split(self._mine, self._batch):
            missing = self._batch - len(chosen) if self._device.type == "cuda" else 0
            filled = torch.cat([chosen, chosen[:1].expand(missing)])
            source, labels = self._images.take(filled, self._device)
            if missing:
                labels[-missing:] = NO_LABEL
            yield self._transform(source), labels
