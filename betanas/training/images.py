"""The training images as tensors: made once before the fork, shared by all ranks of all trials."""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from betanas.data import load_images, split_indices
from betanas.study.definition import DatasetConfig
from betanas.training.augment import Channels
from betanas.training.device_work import upload

# Share of a GPU's free memory that the images may take; the rest is the network's.
_GPU_SHARE = 0.4

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingImages:
    """A data set's training part, and which of its images are held out.

    Attributes:
        images: uint8, ``n x H x W x 3``; on the CPU, where it may be a read-only memory map, or
            whole on a GPU.
        labels: int64, ``n``, on the same device.
        train: int64, indices of the images to learn from, on the CPU.
        held_out: int64, indices of the validation images, on the CPU.
        mean: Of each channel, of pixel values in [0, 1].
        std: As ``mean``.
    """

    images: Tensor
    labels: Tensor
    train: Tensor
    held_out: Tensor
    mean: Channels
    std: Channels

    @classmethod
    def load(cls, dataset: DatasetConfig, resolution: int, cache: Path) -> Self:
        """Loads and splits; no pixel is copied, and no thread started.

        Args:
            dataset: Which images.
            resolution: Input side of the networks in pixels.
            cache: Where decoded pictures are kept.

        Raises:
            DataError: If the images cannot be loaded or split.
        """
        loaded = load_images(dataset, "train", resolution, cache)
        train, held_out = split_indices(loaded.labels, dataset.validation, dataset.split_seed)
        with warnings.catch_warnings():
            # Torch warns of writes to a read-only map; there are none.
            warnings.simplefilter("ignore", UserWarning)
            images = torch.from_numpy(loaded.images)
        return cls(
            images,
            torch.from_numpy(loaded.labels),
            torch.from_numpy(train),
            torch.from_numpy(held_out),
            loaded.mean,
            loaded.std,
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return self.images.shape[1], self.images.shape[2]

    def place(self, device: torch.device) -> "TrainingImages":
        """Puts the images where they are augmented.

        On a CPU they stay where they are. On a GPU they are copied there as they are (uint8); where
        they would take too much of its memory they stay in the host's, and each batch travels.
        """
        if device.type == "cpu":
            return self
        free, _ = torch.cuda.mem_get_info(device)
        fits = self.images.nbytes <= _GPU_SHARE * free
        where: Literal["device", "host"] = "device" if fits else "host"
        logger.info("%.0f MB of images stay on the %s", self.images.nbytes / 1e6, where)
        images = self.images.to(device) if fits else self.images
        labels = self.labels.to(device) if fits else self.labels
        return TrainingImages(images, labels, self.train, self.held_out, self.mean, self.std)

    def take(self, chosen: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Gathers some images and labels on a device.

        Args:
            chosen: int64, ``b`` indices on the CPU.
            device: Where to.

        Returns:
            uint8 ``b x H x W x 3`` and int64 ``b``.
        """
        if self.images.device == device:
            chosen = upload(chosen, device)
            return self.images.index_select(0, chosen), self.labels.index_select(0, chosen)
        images, labels = self.images.index_select(0, chosen), self.labels.index_select(0, chosen)
        return upload(images, device), upload(labels, device)
