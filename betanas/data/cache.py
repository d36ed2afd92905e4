"""Decoded pictures on disk: a memory-mapped array that later processes open in milliseconds.

``NAME.npy`` holds the images, ``NAME.npz`` everything else. Both are written beside their place
and moved there when complete, the images first: whoever finds the second finds the first.
"""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from betanas.data.folder import Pictures
from betanas.data.images import Channels, ImageSet, channel_statistics
from betanas.errors import DataError

_LAYOUT_VERSION = 1
_TEMPORARY = ".partial"


def open_cached(cache: Path, name: str, stamp: str | None) -> ImageSet | None:
    """Opens what ``store`` wrote, or returns None where it is missing, stale or damaged.

    Args:
        cache: The cache folder.
        name: The name it was stored under.
        stamp: What it was stored with; None accepts any.
    """
    try:
        with np.load(cache / f"{name}.npz") as stored:
            if int(stored["version"]) != _LAYOUT_VERSION:
                return None
            if stamp is not None and str(stored["stamp"]) != stamp:
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
        images_file = _write_images(cache, name, shape, chunks)
        try:
            images = np.load(images_file, mmap_mode="r")
            mean, std = statistics or channel_statistics(images)
            images_file.replace(cache / f"{name}.npy")
        finally:
            images_file.unlink(missing_ok=True)
        _write_rest(
            cache,
            name,
            version=np.int64(_LAYOUT_VERSION),
            stamp=np.str_(stamp),
            labels=pictures.labels,
            classes=np.array(pictures.classes),
            mean=np.array(mean),
            std=np.array(std),
            shape=np.array(shape),
        )
        _sync_folder(cache)
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
        for path in cache.glob(f"{name}-*{_TEMPORARY}"):
            path.unlink(missing_ok=True)


def _write_images(
    cache: Path, name: str, shape: tuple[int, ...], chunks: Iterable[npt.NDArray[np.uint8]]
) -> Path:
    # Plain writes and not a writable map: on a full disk those raise, where a map kills the
    # process.
    handle, path = tempfile.mkstemp(_TEMPORARY, f"{name}-", cache)
    try:
        with os.fdopen(handle, "wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": shape}
            )
            for chunk in chunks:
                file.write(chunk.data)
            _sync(file.fileno())
    except BaseException:
        Path(path).unlink(missing_ok=True)
        raise
    return Path(path)


def _write_rest(cache: Path, name: str, **arrays: Any) -> None:
    handle, path = tempfile.mkstemp(_TEMPORARY, f"{name}-", cache)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)
            _sync(file.fileno())
        Path(path).replace(cache / f"{name}.npz")
    finally:
        Path(path).unlink(missing_ok=True)


def _sync(descriptor: int) -> None:
    # Temporary files are private by default; others who share the cache may read it.
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, 0o644)
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _three(values: npt.NDArray[np.float64]) -> Channels:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
