"""From a batch of uint8 images to what a model reads, on the images' own device.

Training: AutoAugment at the source resolution (optional), then random resized crop, horizontal
flip and resize in one sampling step, then normalisation. Evaluation: the whole image resized.

Randomness is drawn apart from its use, on the CPU and for a whole global batch; a rank takes its
slice, so an image meets the same augmentation however many ranks share the batch::

    draws = augment.draw(global_batch_size, (32, 32), generator)
    inputs = augment(images[indices[start:stop]], draws[start:stop])
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from betanas.devices.work import upload
from betanas.images.autoaugment import IDENTITY, apply_operations, draw_operations
from betanas.images.resampling import (
    Channels,
    channel_scale,
    chunks,
    empty_output,
    resample,
    resize_matrix,
    whole_axis_matrix,
)

CROP_TRIES = 10


@dataclass(frozen=True)
class Draws:
    """What chance decided for each of ``n`` images; CPU tensors, sliced like a list.

    Attributes:
        operations: ``n x 2`` int64, AutoAugment's codes (see ``autoaugment.OPERATIONS``).
        boxes: ``n x 4`` int64, crop as top, left, height, width in source pixels.
        flips: ``n`` bool, whether the crop is mirrored left to right.
    """

    operations: Tensor
    boxes: Tensor
    flips: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, part: slice | Tensor) -> "Draws":
        return Draws(self.operations[part], self.boxes[part], self.flips[part])

    @classmethod
    def cat(cls, parts: "Sequence[Draws]") -> "Draws":
        """Those of several groups of images, one after the other."""
        columns = [(p.operations, p.boxes, p.flips) for p in parts]
        return cls(*(torch.cat(column) for column in zip(*columns, strict=True)))


@dataclass(frozen=True)
class TrainAugment:
    """Random augmentation of training images, each image by its own draws.

    Attributes:
        resolution: Edge ``R`` of the square result in pixels.
        mean: Mean of each channel on the scale [0, 1].
        std: Standard deviation of each channel on the same scale.
        autoaugment: Whether AutoAugment's CIFAR-10 policy comes first.
        flip: Whether half of the images are mirrored.
        crop_scale: Lowest and highest area of a crop as a share of the image's.
        crop_ratio: Lowest and highest width of a crop over its height.
        crop_padding: Share of the image's side by which a crop may reach beyond each edge; what is
            there is the image reflected.

    Raises:
        ValueError: A resolution, range or deviation that breaks its rule.
    """

    resolution: int
    mean: Channels
    std: Channels
    autoaugment: bool = True
    flip: bool = True
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    crop_padding: float = 0.0

    def __post_init__(self) -> None:
        _check_output(self.resolution, self.std)
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(
                f"crop_scale: 0 < low <= high <= 1 must hold, but got (low={low:g}, high={high:g})"
            )
        low, high = self.crop_ratio
        if not 0 < low <= high:
            raise ValueError(
                f"crop_ratio: 0 < low <= high must hold, but got (low={low:g}, high={high:g})"
            )
        if not 0 <= self.crop_padding < 0.5:
            raise ValueError(f"crop_padding must be in [0, 0.5), but got {self.crop_padding:g}")

    def draw(
        self, batch_size: int, image_size: tuple[int, int], generator: torch.Generator
    ) -> Draws:
        """Draws for a whole batch.

        The generator advances alike whatever is switched on: without flips, say, the crops and
        operations of a seed are still the same.

        Args:
            batch_size: Images ``n`` of the global batch.
            image_size: Height and width of the source images in pixels.
            generator: CPU generator.
        """
        operations = draw_operations(batch_size, generator)
        boxes = draw_boxes(
            batch_size,
            image_size,
            self.crop_scale,
            self.crop_ratio,
            generator,
            self._padding(image_size),
        )
        flips = torch.rand(batch_size, generator=generator) < 0.5
        if not self.autoaugment:
            operations.fill_(IDENTITY)
        if not self.flip:
            flips.zero_()
        return Draws(operations, boxes, flips)

    @torch.no_grad()
    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Augments and normalises.

        Args:
            images: ``n x H x W x 3`` uint8 on any device; left as they are.
            draws: ``n`` draws made for ``H x W`` images.

        Returns:
            ``n x 3 x R x R`` float32 on the same device, in ``channels_last`` memory format.

        Raises:
            ValueError: Images of another shape or type, or draws that were not made for them.
        """
        return self.resample(self.operate(images, draws), draws)

    @torch.no_grad()
    def operate(self, images: Tensor, draws: Draws) -> Tensor:
        """The first half, at the source's size: AutoAugment.

        Returns:
            ``n x 3 x H x W`` uint8.
        """
        _check_images(images)
        _check_draws(images, draws, self._padding(images.shape[1:3]))
        planes = images.permute(0, 3, 1, 2).contiguous()
        acts = bool((draws.operations != IDENTITY).any())
        return apply_operations(planes, draws.operations) if acts else planes

    @torch.no_grad()
    def resample(self, planes: Tensor, draws: Draws) -> Tensor:
        """The second half: crop, flip, resize and normalise what ``operate`` returned."""
        device = planes.device
        boxes, flips = upload(draws.boxes.float(), device), upload(draws.flips, device)
        side = self.resolution
        down, across = self._padding(planes.shape[2:])
        output = empty_output(planes, side)
        scale = channel_scale(self.mean, self.std, device)
        for part in chunks(planes, side):
            top, left, height, width = boxes[part].unbind(1)
            rows = resize_matrix(top, height, planes.shape[2], side, padding=down)
            columns = resize_matrix(left, width, planes.shape[3], side, flips[part], across)
            resample(planes[part], rows, columns, scale, output[part])
        return output.permute(0, 3, 1, 2)

    def _padding(self, image_size: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of pixels by which a crop may reach beyond the image."""
        rows, columns = (round(self.crop_padding * side) for side in image_size)
        return rows, columns


@dataclass(frozen=True)
class EvalTransform:
    """The whole image resized to a square and normalised, without chance.

    Attributes:
        resolution: Edge ``R`` of the square result in pixels.
        mean: Mean of each channel on the scale [0, 1].
        std: Standard deviation of each channel on the same scale.

    Raises:
        ValueError: A resolution or deviation that breaks its rule.
    """

    resolution: int
    mean: Channels
    std: Channels

    def __post_init__(self) -> None:
        _check_output(self.resolution, self.std)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Resizes (bilinear, antialiased where it shrinks) and normalises.

        Args:
            images: ``n x H x W x 3`` uint8 on any device. At ``H = W = R`` nothing is resampled.

        Returns:
            ``n x 3 x R x R`` float32 on the same device, in ``channels_last`` memory format.

        Raises:
            ValueError: Images of another shape or type.
        """
        _check_images(images)
        scale = channel_scale(self.mean, self.std, images.device)
        size = images.shape[1:3]
        if tuple(size) == (self.resolution, self.resolution):
            planes = images.permute(0, 3, 1, 2).contiguous().float()
            return scale.normalize_(planes).contiguous(memory_format=torch.channels_last)
        rows = whole_axis_matrix(size[0], self.resolution, images.device)
        columns = whole_axis_matrix(size[1], self.resolution, images.device)
        source = images.permute(0, 3, 1, 2)
        output = empty_output(source, self.resolution)
        for part in chunks(source, self.resolution):
            planes = source[part].contiguous()
            shared = (len(planes), -1, -1)
            resample(planes, rows.expand(shared), columns.expand(shared), scale, output[part])
        return output.permute(0, 3, 1, 2)


def draw_boxes(
    batch_size: int,
    image_size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
    padding: tuple[int, int] = (0, 0),
) -> Tensor:
    """Draws crops as torchvision's ``RandomResizedCrop`` does.

    Area uniform, ratio uniform on the log scale, the first of 10 tries that fits into the image;
    if none does, the largest central crop whose ratio is within range.

    Args:
        batch_size: Number of crops ``n``.
        image_size: Height ``H`` and width ``W`` in pixels.
        scale: Lowest and highest area as a share of the image's.
        ratio: Lowest and highest width over height.
        generator: CPU generator; it advances by the same amount whatever is drawn.
        padding: Rows and columns by which a crop may lie beyond each edge.

    Returns:
        ``n x 4`` int64 on the CPU: top, left, height, width, within the padded image; 0 is where
        the image itself begins.
    """
    height, width = image_size
    tries = torch.rand(batch_size, CROP_TRIES, 2, generator=generator, dtype=torch.float64)
    place = torch.rand(batch_size, 2, generator=generator, dtype=torch.float64)
    areas = height * width * (scale[0] + (scale[1] - scale[0]) * tries[..., 0])
    log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
    ratios = (log_low + (log_high - log_low) * tries[..., 1]).exp()
    # n x tries x (height, width)
    sizes = torch.stack([(areas / ratios).sqrt(), (areas * ratios).sqrt()], dim=2).round().long()

    bounds = torch.tensor(image_size)
    fits = ((sizes > 0) & (sizes <= bounds)).all(dim=2)
    first = fits.long().argmax(dim=1)
    size = sizes[torch.arange(batch_size), first]
    beyond = torch.tensor(padding)
    corner = (place * (bounds + 2 * beyond - size + 1)).long() - beyond

    central = torch.tensor(_central_size(image_size, ratio))
    found = fits.any(dim=1, keepdim=True)
    size = torch.where(found, size, central)
    corner = torch.where(found, corner, (bounds - central) // 2)
    return torch.cat([corner, size], dim=1)


def _central_size(image_size: tuple[int, int], ratio: tuple[float, float]) -> tuple[int, int]:
    height, width = image_size
    if width / height < ratio[0]:
        return round(width / ratio[0]), width
    if width / height > ratio[1]:
        return height, round(height * ratio[1])
    return height, width


def _check_output(resolution: int, std: Channels) -> None:
    if resolution < 1:
        raise ValueError(f"resolution must be >= 1, but got {resolution}")
    if min(std) <= 0:
        raise ValueError(f"std must be > 0 in every channel, but got {std}")


def _check_images(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            f"images must be uint8 of n x height x width x 3, "
            f"but got {images.dtype} of {' x '.join(map(str, images.shape))}"
        )


def _check_draws(images: Tensor, draws: Draws, padding: tuple[int, int]) -> None:
    if len(images) != len(draws):
        raise ValueError(
            f"as many draws as images must be given, but got {len(draws)} and {len(images)}"
        )
    height, width = images.shape[1:3]
    ends = draws.boxes[:, :2] + draws.boxes[:, 2:]
    if (ends > torch.tensor([height, width]) + torch.tensor(padding)).any():
        raise ValueError(
            f"crops must lie within the images ({height} x {width}), "
            f"but these draws were made for larger ones"
        )
