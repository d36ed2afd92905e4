"""The training images as tensors: made once before the fork, shared by all ranks of all trials."""

import shutil
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from betanas.data import load_images, split_indices
from betanas.data.decode import resized_side
from betanas.data.folder import PictureFolder, scan_folder
from betanas.devices.work import upload
from betanas.images.resampling import Channels
from betanas.images.stream import PictureStream, open_stream
from betanas.study.recipe import DatasetConfig

# Share of a GPU's memory that the images may take: of the tenth that a training step may not plan
# with (``devices/find.py``), so that no network runs out of memory for their sake.
_GPU_SHARE = 0.06
# Share of a disk's free space that decoded pictures may take.
_DISK_SHARE = 0.5
_SMALL_BYTES = 2**30  # what nobody needs to ask about


@dataclass(frozen=True)
class TrainingImages:
    """A data set's training part, and which of its images are held out.

    Attributes:
        images: uint8, ``n x H x W x 3``; on the CPU, where it may be a read-only memory map, or
            whole on a GPU; or files that are decoded when they are wanted.
        labels: int64, ``n``, on the same device.
        train: int64, indices of the images to learn from, on the CPU.
        held_out: int64, indices of the validation images, on the CPU.
        mean: Of each channel, of pixel values in [0, 1].
        std: As ``mean``.
    """

    images: Tensor | PictureStream
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
        decodes = dataset.name == "imagefolder" and dataset.placement != "stream"
        folder = scan_folder(Path(dataset.root).expanduser()) if decodes else None
        if _is_streamed(dataset, folder, resolution, cache):
            stream, pictures, mean, std = open_stream(dataset, resolution)
            return cls._split(dataset, stream, pictures.labels, mean, std)
        loaded = load_images(dataset, "train", resolution, cache, scanned=folder)
        with warnings.catch_warnings():
            # Torch warns of writes to a read-only map; there are none.
            warnings.simplefilter("ignore", UserWarning)
            images = torch.from_numpy(loaded.images)
        return cls._split(dataset, images, loaded.labels, loaded.mean, loaded.std)

    @classmethod
    def _split(
        cls,
        dataset: DatasetConfig,
        images: Tensor | PictureStream,
        labels: npt.NDArray[np.int64],
        mean: Channels,
        std: Channels,
    ) -> Self:
        train, held_out = split_indices(labels, dataset.validation, dataset.split_seed)
        indices = torch.from_numpy(train), torch.from_numpy(held_out)
        return cls(images, torch.from_numpy(labels), *indices, mean, std)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return self.images.shape[1], self.images.shape[2]

    def place(self, device: torch.device, placement: str = "auto") -> "TrainingImages":
        """Puts the images where they are augmented.

        On a CPU they stay where they are. On a GPU they are copied there as they are (uint8); where
        they would take too much of its memory they stay in the host's, and each batch travels.

        Args:
            device: Where the network learns.
            placement: ``dataset.placement``.
        """
        if device.type == "cpu" or isinstance(self.images, PictureStream) or placement == "host":
            return self
        _, total = torch.cuda.mem_get_info(device)
        if placement == "auto" and self.images.nbytes > _GPU_SHARE * total:
            return self
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    @property
    def placement(self) -> str:
        """Where they are, in words."""
        size = f"{self.images.nbytes / 1e6:,.0f} MB"
        if isinstance(self.images, PictureStream):
            return f"streamed from the files, {size} if decoded"
        where = "the host's" if self.images.device.type == "cpu" else "the device's"
        return f"decoded, {size} in {where} memory"

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


def _is_streamed(
    dataset: DatasetConfig, folder: PictureFolder | None, resolution: int, cache: Path
) -> bool:
    """Whether a folder's pictures are too many to be decoded beforehand, or shall not be."""
    if dataset.placement != "auto" or folder is None:
        return dataset.placement == "stream"
    decoded = len(folder.train.files) * 3 * resized_side(resolution) ** 2
    if decoded <= _SMALL_BYTES:
        return False
    cache.mkdir(parents=True, exist_ok=True)
    held = sum(path.stat().st_size for path in cache.glob("*.npy"))
    return decoded > _DISK_SHARE * (shutil.disk_usage(cache).free + held)
