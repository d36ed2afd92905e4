"""Decoded pictures on disk: a memory-mapped array that later processes open in milliseconds.

``NAME.npy`` holds the images, ``NAME.npz`` everything else. Both are written beside their place
and moved there when complete, the images first: whoever finds the second finds the first.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from betanas.data.folder import Pictures
from betanas.data.images import Channels, ImageSet, channel_statistics
from betanas.errors import DataError
from betanas.files import TEMPORARY, whole_file

_LAYOUT_VERSION = 1


def open_cached(cache: Path, name: str, stamp: str) -> ImageSet | None:
    """Opens what ``store`` wrote, or returns None where it is missing, stale or damaged.

    Args:
        cache: The cache folder.
        name: The name it was stored under.
        stamp: What it was stored with.
    """
    try:
        with np.load(cache / f"{name}.npz") as stored:
            if int(stored["version"]) != _LAYOUT_VERSION or str(stored["stamp"]) != stamp:
                return None
            labels = stored["labels"].astype(np.int64)
            classes = tuple(str(item) for item in stored["classes"])
            mean, std = _three(stored["mean"]), _three(stored["std"])
            shape = tuple(int(extent) for extent in stored["shape"])
        path = cache / f"{name}.npy"
        images = np.load(path, mmap_mode="r")
        sound = images.dtype == np.uint8 and images.flags.c_contiguous and images.shape == shape
        if not sound or len(labels) != len(images):
            return None
        if path.stat().st_size != images.offset + images.nbytes:
            return None
    except Exception:  # whatever a damaged file makes its reader raise, the cure is to rebuild it
        return None
    return ImageSet(images, labels, classes, mean, std)


def store(
    cache: Path,
    name: str,
    stamp: str,
    pictures: Pictures,
    side: int,
    chunks: Iterable[npt.NDArray[np.uint8]],
    statistics: tuple[Channels, Channels] | None,
) -> ImageSet:
    """Writes decoded pictures to the cache and opens them.

    Args:
        cache: The cache folder; it exists.
        name: What to store them under.
        stamp: See ``open_cached``.
        pictures: What the ``n`` images are of.
        side: Width and height of each image in pixels.
        chunks: uint8, ``m x side x side x 3`` each, ``n`` images in all, in order.
        statistics: Mean and standard deviation, or None to take them from these images.

    Raises:
        DataError: If the folder cannot be written, or is full.
    """
    shape = (len(pictures.files), side, side, 3)
    try:
        with whole_file(cache / f"{name}.npy") as file:
            _write_images(file, shape, chunks)
        images = np.load(cache / f"{name}.npy", mmap_mode="r")
        mean, std = statistics or channel_statistics(images)
        with whole_file(cache / f"{name}.npz") as file:
            np.savez(
                file,
                version=np.int64(_LAYOUT_VERSION),
                stamp=np.str_(stamp),
                labels=pictures.labels,
                classes=np.array(pictures.classes),
                mean=np.array(mean),
                std=np.array(std),
                shape=np.array(shape),
            )
    except OSError as error:
        raise DataError(
            f"{cache}: the cache of decoded pictures must be writable and have "
            f"{np.prod(shape) / 1e6:,.0f} MB free, but writing failed ({error.strerror or error}); "
            "make room, or choose another folder"
        ) from None
    return ImageSet(images, pictures.labels, pictures.classes, mean, std)


def remove_unusable(cache: Path, names: Iterable[str]) -> None:
    """Removes stale entries and what killed processes left; only for the holder of their lock."""
    for name in names:
        (cache / f"{name}.npz").unlink(missing_ok=True)
        for path in cache.glob(f"{name}.np?.*{TEMPORARY}"):
            path.unlink(missing_ok=True)


def _write_images(
    file: IO[bytes], shape: tuple[int, ...], chunks: Iterable[npt.NDArray[np.uint8]]
) -> None:
    # Plain writes and not a writable map: on a full disk those raise, where a map kills the
    # process.
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for chunk in chunks:
        file.write(chunk.data)


def _three(values: npt.NDArray[np.float64]) -> Channels:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
