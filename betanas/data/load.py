"""Any data set's images as one array; a folder's pictures are decoded once and cached."""

import logging
from pathlib import Path
from typing import Literal

import numpy as np

from betanas.data.cache import open_cached, remove_unusable, store
from betanas.data.decode import choose_side, decode_pictures, resized_side
from betanas.data.folder import PictureFolder, Pictures, no_test_part, scan_folder
from betanas.data.images import Channels, ImageSet, channel_statistics
from betanas.data.locking import exclusive
from betanas.data.published import load_digits_part, load_published
from betanas.errors import DataError
from betanas.study.recipe import DatasetConfig

Part = Literal["train", "test"]
Statistics = tuple[Channels, Channels]  # mean and standard deviation
logger = logging.getLogger(__name__)


def load_images(
    config: DatasetConfig,
    part: Part,
    resolution: int,
    cache: Path | None = None,
    scanned: PictureFolder | None = None,
    statistics: Statistics | None = None,
) -> ImageSet:
    """Loads one part of a data set, with the training part's mean and standard deviation.

    Published images keep their size. A folder's pictures keep theirs if all are squares of one
    side of at most 256 pixels; else they are centre-cropped square and resized to a side of
    ``resolution * 256 / 224``, or less where even the largest picture has less.

    Args:
        config: Which data set, and where.
        part: ``train`` (the validation part is still in it) or ``test``.
        resolution: The side in pixels that the network sees.
        cache: Folder for the decoded pictures of ``imagefolder``; without one they stay in memory.
        scanned: The folder, if it was walked a moment ago.
        statistics: Mean and standard deviation of the training part, if they are known; else a
            folder's training part is decoded, too, for those of its test part.

    Raises:
        DataError: If the data set is missing, incomplete or unreadable, or has no such part.
    """
    if config.name == "digits":
        return load_digits_part(part)
    if config.name != "imagefolder":
        return load_published(config, part)
    folder = scanned or scan_folder(Path(config.root).expanduser())
    if part == "test" and folder.test is None:
        raise no_test_part(folder.root)
    return _load_folder(folder, part, resolution, cache, statistics)


def _load_folder(
    folder: PictureFolder,
    part: Part,
    resolution: int,
    cache: Path | None,
    statistics: Statistics | None = None,
) -> ImageSet:
    if cache is None:
        return _decode_in_memory(folder, part, resolution, statistics)
    cached = _open_any(folder, part, resolution, cache)
    if cached is not None:
        return cached
    _make_folder(cache)
    with exclusive(cache / f"{folder.fingerprint}-{part}.lock") as alone:
        # Another process may have written it while this one waited.
        cached = _open_any(folder, part, resolution, cache)
        if cached is not None:
            return cached
        if alone:
            remove_unusable(cache, _names(folder.fingerprint, part, resolution))
        return _decode_to_cache(folder, part, resolution, cache, statistics)


def _decode_in_memory(
    folder: PictureFolder, part: Part, resolution: int, statistics: Statistics | None
) -> ImageSet:
    pictures = _pictures(folder, part)
    side = choose_side(pictures.files, resolution).side
    images = np.empty((len(pictures.files), side, side, 3), dtype=np.uint8)
    start = 0
    for chunk in decode_pictures(pictures.files, side):
        images[start : start + len(chunk)] = chunk
        start += len(chunk)
    known = statistics or _training_statistics(folder, part, resolution, None)
    mean, std = known or channel_statistics(images)
    return ImageSet(images, pictures.labels, pictures.classes, mean, std)


def _decode_to_cache(
    folder: PictureFolder,
    part: Part,
    resolution: int,
    cache: Path,
    statistics: Statistics | None,
) -> ImageSet:
    pictures = _pictures(folder, part)
    statistics = statistics or _training_statistics(folder, part, resolution, cache)
    stored = choose_side(pictures.files, resolution)
    own_name, resized_name = _names(folder.fingerprint, part, resolution)
    logger.info("decoding %d pictures of %s, once", len(pictures.files), folder.root)
    return store(
        cache,
        own_name if stored.own else resized_name,
        folder.stamp,
        pictures,
        stored.side,
        decode_pictures(pictures.files, stored.side),
        statistics,
    )


def _training_statistics(
    folder: PictureFolder, part: Part, resolution: int, cache: Path | None
) -> Statistics | None:
    """Returns the training part's statistics for the test part, None for the training part."""
    if part == "train":
        return None
    train = _load_folder(folder, "train", resolution, cache)
    return train.mean, train.std


def _pictures(folder: PictureFolder, part: Part) -> Pictures:
    pictures = folder.train if part == "train" else folder.test
    assert pictures is not None  # noqa: S101 - load_images has refused a missing test part
    return pictures


def _names(fingerprint: str, part: Part, resolution: int) -> tuple[str, str]:
    """Returns the cache's names of pictures with their own side, and of resized ones."""
    # Pictures that keep their side serve every resolution.
    return f"{fingerprint}-{part}-own", f"{fingerprint}-{part}-{resized_side(resolution)}"


def _open_any(folder: PictureFolder, part: Part, resolution: int, cache: Path) -> ImageSet | None:
    for name in _names(folder.fingerprint, part, resolution):
        cached = open_cached(cache, name, folder.stamp)
        if cached is not None:
            return cached
    return None


def _make_folder(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{cache}: the cache of decoded pictures must be a folder that can be written, but "
            f"is not ({error.strerror}); choose another"
        ) from None
