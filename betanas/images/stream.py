"""Pictures that are decoded at the moment a batch wants them: for folders that no cache can hold.

Training batches are known from their number alone, so that worker processes decode those to come
while the network learns from the last ones.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from betanas.data.decode import decode_pictures, resized_side
from betanas.data.folder import Pictures, scan_folder
from betanas.data.images import STATISTICS_SAMPLE, Channels, channel_statistics
from betanas.devices.processes import die_with_parent
from betanas.errors import DataError
from betanas.study.recipe import DatasetConfig

_BATCHES_AHEAD = 2  # of each worker


class PictureStream:
    """Stands where an array of images would: gathers by index, but decodes to do so.

    Args:
        files: Paths of ``n`` pictures.
        side: Width and height of each decoded image in pixels.
    """

    device = torch.device("cpu")

    def __init__(self, files: tuple[str, ...], side: int) -> None:
        self._files = files
        self.shape = (len(files), side, side, 3)

    @property
    def nbytes(self) -> int:
        """What all of them would take, decoded."""
        return int(np.prod(self.shape))

    def index_select(self, dim: int, chosen: Tensor) -> Tensor:
        """Decodes some images on all cores, uint8 ``b x side x side x 3``.

        Args:
            dim: 0, as a tensor of images would be asked.
            chosen: int64, ``b``.

        Raises:
            DataError: If a picture cannot be read.
        """
        return self.decode(chosen.tolist())

    def decode(self, chosen: list[int], threads: int | None = None) -> Tensor:
        """Decodes some images on so many threads; see ``index_select``."""
        files = [self._files[i] for i in chosen]
        decoded = list(decode_pictures(files, self.shape[1], threads))
        return torch.from_numpy(np.concatenate(decoded))


def open_stream(
    dataset: DatasetConfig, resolution: int
) -> tuple[PictureStream, Pictures, Channels, Channels]:
    """The training part of a folder, unread but for a sample that gives mean and deviation.

    All pictures are resized to one side, also those that are smaller.

    Args:
        dataset: An ``imagefolder``.
        resolution: Input side of the networks in pixels.

    Raises:
        DataError: If the folder is not one, or a picture of the sample cannot be read.
    """
    if dataset.name != "imagefolder":
        raise DataError(
            f"dataset.placement = stream reads pictures of a folder, but {dataset.name} comes as "
            "one array; use auto"
        )
    pictures = scan_folder(Path(dataset.root).expanduser()).train
    stream = PictureStream(pictures.files, resized_side(resolution))
    count = min(len(pictures.files), STATISTICS_SAMPLE)
    sample = torch.linspace(0, len(pictures.files) - 1, count).long()
    mean, std = channel_statistics(stream.index_select(0, sample).numpy())
    return stream, pictures, mean, std


class ReadAhead:
    """Decodes the images of coming batches in worker processes.

    Args:
        stream: The pictures.
        indices: Which images a batch of this number holds, int64 ``b``.
        workers: Processes; they end with this one.
    """

    def __init__(
        self, stream: PictureStream, indices: Callable[[int], Tensor], workers: int
    ) -> None:
        self._stream, self._indices, self._workers = stream, indices, max(1, workers)
        self._next = -1
        self._batches: Iterator[Tensor] = iter(())

    def __getitem__(self, number: int) -> Tensor:
        """The images of a batch, uint8 ``b x side x side x 3``: quick if they come in order."""
        if number != self._next:
            self._batches = self._begin(number)
        self._next = number + 1
        try:
            return next(self._batches)
        except DataError as error:  # with the worker's traceback around it
            told = str(error).strip().splitlines()[-1]
            raise DataError(told.removeprefix(f"{DataError.__module__}.DataError: ")) from None

    def close(self) -> None:
        """Ends the worker processes; the next batch begins anew."""
        self._next, self._batches = -1, iter(())

    def _begin(self, first: int) -> Iterator[Tensor]:
        parent = os.getpid()
        loader = DataLoader(
            _Decoded(self._stream),
            batch_sampler=_Order(self._indices, first),
            num_workers=self._workers,
            prefetch_factor=_BATCHES_AHEAD,
            collate_fn=_as_it_is,
            multiprocessing_context="fork",
            worker_init_fn=lambda _: die_with_parent(parent),
        )
        return iter(loader)


class _Decoded(Dataset[Tensor]):
    """A data set whose batches are decoded as a whole."""

    def __init__(self, stream: PictureStream) -> None:
        self._stream = stream

    def __getitem__(self, index: int) -> Tensor:
        return self._stream.decode([index], threads=1)

    def __getitems__(self, indices: list[int]) -> Tensor:
        return self._stream.decode(indices, threads=1)


class _Order(Sampler[list[int]]):
    """All batches from one on, without end."""

    def __init__(self, indices: Callable[[int], Tensor], first: int) -> None:
        self._indices, self._first = indices, first

    def __iter__(self) -> Iterator[list[int]]:
        number = self._first
        while True:
            yield self._indices(number).tolist()
            number += 1


def _as_it_is(batch: Any) -> Any:
    return batch
