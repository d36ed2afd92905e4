"""Images as an array, and the statistics they are normalised with."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Channels = tuple[float, float, float]

STATISTICS_SAMPLE = 10_000
_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class ImageSet:
    """One part of a data set, decoded.

    Attributes:
        images: uint8, ``n x height x width x 3`` (RGB; grey repeated), C-contiguous; it may be a
            read-only memory map.
        labels: int64, ``n``, each in ``[0, len(classes))``.
        classes: Class names in label order.
        mean: Per channel, of the training part's pixel values in [0, 1].
        std: As ``mean``; always > 0.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    mean: Channels
    std: Channels


def channel_statistics(images: npt.NDArray[np.uint8]) -> tuple[Channels, Channels]:
    """Returns mean and standard deviation of each channel, of pixel values in [0, 1].

    More than ``STATISTICS_SAMPLE`` images are represented by as many, evenly spaced.

    Args:
        images: uint8, ``n x height x width x 3``.
    """
    count = min(len(images), STATISTICS_SAMPLE)
    sample = np.linspace(0, len(images) - 1, count).astype(np.int64)
    step = max(1, _CHUNK_BYTES // images[0].size)
    # Counting each of the 256 values is exact, whatever the number of pixels.
    counts = np.zeros((3, 256), dtype=np.int64)
    for start in range(0, count, step):
        chunk = images[sample[start : start + step]]
        for channel in range(3):
            counts[channel] += np.bincount(chunk[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    weights = counts / counts.sum(axis=1, keepdims=True)
    mean = weights @ values
    variance = (weights * (values - mean[:, None]) ** 2).sum(axis=1)
    # A channel that never changes must not become a division by zero.
    std = np.maximum(np.sqrt(variance), 1 / 255)
    return _channels(mean), _channels(std)


def _channels(values: npt.NDArray[np.float64]) -> Channels:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
