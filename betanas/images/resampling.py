"""Crop, flip and resize as two small matrices an image.

A crop, a flip and a resize are linear and separable: each image has a small matrix for its rows
and one for its columns, and ``rows @ image @ columns.T`` is the result. With torchvision's
triangle filter in the matrices this is its bilinear resize, antialiased where the crop shrinks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

# Values resampled at once. On a CPU a few images at a time stay in the cache (measured on a core
# with 1 MiB: 2^18 and 2^19 were best at R = 32, 64 and 224); a GPU wants many, within a memory
# that does not matter beside the model's.
_CHUNK_VALUES_CPU = 2**18
_CHUNK_VALUES_GPU = 2**26

Channels = tuple[float, float, float]


def resize_matrix(
    start: Tensor,
    size: Tensor,
    length: int,
    resolution: int,
    mirrored: Tensor | None = None,
    padding: int = 0,
) -> Tensor:
    """Weights that resize part of an axis: bilinear, antialiased where it shrinks.

    The triangle filter of ``torch.nn.functional.interpolate(antialias=True)``: half a width of
    one source pixel, or of one result pixel where that is larger, cut off and rescaled at the
    ends of the part. Where nothing shrinks, antialiasing changes nothing.

    Args:
        start: ``n`` float32, first source pixel of each part.
        size: ``n`` float32 >= 1, its pixels.
        length: Pixels ``L`` of the source axis.
        resolution: Pixels ``R`` of the result.
        mirrored: ``n`` bool, whether the result is reversed; None for never.
        padding: Pixels beyond each end that a part may take in: those inside, reflected at the
            last one.

    Returns:
        ``n x R x L`` float32, rows that sum to 1; exact 0 and 1 where ``size = R``.
    """
    target = torch.arange(resolution, dtype=torch.float32, device=start.device)
    target = target.expand(len(start), -1)
    if mirrored is not None:
        target = torch.where(mirrored[:, None], resolution - 1 - target, target)
    start, size = start[:, None], size[:, None]
    scale = size / resolution
    centres = (target + 0.5) * scale + (start - 0.5)
    pixels = torch.arange(-padding, length + padding, dtype=torch.float32, device=start.device)
    weights = (pixels - centres[:, :, None]).abs_().div_(scale.clamp(min=1)[:, :, None])
    weights.neg_().add_(1).clamp_(min=0)
    inside = (pixels >= start) & (pixels < start + size)
    weights.mul_(inside[:, None])
    weights.div_(weights.sum(dim=2, keepdim=True))
    if not padding:
        return weights
    inner = weights[:, :, padding : padding + length]
    inner[:, :, 1 : padding + 1] += weights[:, :, :padding].flip(2)
    inner[:, :, length - 1 - padding : length - 1] += weights[:, :, padding + length :].flip(2)
    return inner.contiguous()


@dataclass(frozen=True)
class ChannelScale:
    """Mean and standard deviation of each channel as ``3 x 1 x 1`` tensors on one device."""

    mean: Tensor
    std: Tensor

    def normalize_(self, planes: Tensor) -> Tensor:
        """``(planes / 255 - mean) / std`` in place, ``n x 3 x H x W`` float32."""
        return planes.div_(255).sub_(self.mean).div_(self.std)


@lru_cache(maxsize=16)
def channel_scale(mean: Channels, std: Channels, device: torch.device) -> ChannelScale:
    """The same tensors for all batches: making them would make a GPU's queue wait."""
    return ChannelScale(*(torch.tensor(v, device=device).view(3, 1, 1) for v in (mean, std)))


@lru_cache(maxsize=16)
def whole_axis_matrix(length: int, resolution: int, device: torch.device) -> Tensor:
    """Resizes a whole axis, ``1 x R x L``; likewise the same for all batches."""
    start, size = torch.tensor([[0.0], [float(length)]], device=device)
    return resize_matrix(start, size, length, resolution)


def resample(
    planes: Tensor, rows: Tensor, columns: Tensor, scale: ChannelScale, output: Tensor
) -> None:
    """Normalises ``rows @ planes @ columns.T`` of each image and channel.

    Columns go first, so that the second product, the larger one where the image grows, leaves
    its values in the order of ``channels_last``. Rows of weights sum to 1, so that normalising
    may go wherever the image is smaller.

    Args:
        planes: ``n x 3 x H x W`` uint8, contiguous.
        rows: ``n x R x H``.
        columns: ``n x R x W``.
        scale: Mean and standard deviation of the channels.
        output: ``n x R x R x 3`` float32, contiguous; overwritten.
    """
    count, channels, height, width = planes.shape
    resolution = rows.shape[1]
    source = planes.float()
    if width <= resolution:
        scale.normalize_(source)
    # An enclosing autocast would sample in 8 bits of precision.
    with torch.autocast(planes.device.type, enabled=False):
        narrow = source.view(count, channels * height, width).bmm(columns.mT)
        narrow = narrow.view(count, channels, height, resolution)
        if width > resolution:
            scale.normalize_(narrow)
        lines = narrow.permute(0, 2, 3, 1).reshape(count, height, resolution * channels)
        torch.bmm(rows, lines, out=output.view(count, resolution, resolution * channels))


def empty_output(planes: Tensor, resolution: int) -> Tensor:
    """Room for the result of ``n x 3 x H x W`` images, ``n x R x R x 3`` float32."""
    shape = (len(planes), resolution, resolution, 3)
    return torch.empty(shape, dtype=torch.float32, device=planes.device)


def chunks(planes: Tensor, resolution: int) -> Iterator[slice]:
    """Slices of ``n x 3 x H x W`` images, as many of them as are worked on at once."""
    values = _CHUNK_VALUES_CPU if planes.device.type == "cpu" else _CHUNK_VALUES_GPU
    channels, height, width = planes.shape[1:]
    size = max(1, values // (channels * height * (width + resolution)))
    return (slice(start, start + size) for start in range(0, len(planes), size))
