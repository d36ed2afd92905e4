"""The built-in data sets: what is known of each beforehand, and how its images are read."""

import socket
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from betanas.data import labels
from betanas.data.folder import check_root
from betanas.data.idx import DEBIAN_FOLDER, find_idx_folder, read_part
from betanas.data.images import Channels, ImageSet, channel_statistics
from betanas.data.locking import exclusive
from betanas.data.split import split_indices
from betanas.errors import DataError
from betanas.study.recipe import DatasetConfig

_DIGITS_TEST_SEED = 0
_STALLED_SECONDS = 30


@dataclass(frozen=True)
class Published:
    """A data set that comes in torchvision's files.

    Attributes:
        torchvision: Its class in ``torchvision.datasets``.
        mean: Per channel, of pixel values in [0, 1], as usually published.
        std: As ``mean``.
        files: What torchvision checks for below the root, for CIFAR; empty for idx files.
        archive: The name of what it downloads to the root, for CIFAR.
    """

    classes: tuple[str, ...]
    num_train: int
    num_test: int
    torchvision: str
    mean: Channels
    std: Channels
    files: tuple[str, ...] = ()
    archive: str = ""


PUBLISHED = {
    "cifar10": Published(
        labels.CIFAR10,
        50_000,
        10_000,
        "CIFAR10",
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
        tuple(
            f"cifar-10-batches-py/{name}"
            for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
        ),
        "cifar-10-python.tar.gz",
    ),
    "cifar100": Published(
        labels.CIFAR100,
        50_000,
        10_000,
        "CIFAR100",
        (0.5071, 0.4866, 0.4409),
        (0.2009, 0.1984, 0.2023),
        tuple(f"cifar-100-python/{name}" for name in ("train", "test", "meta")),
        "cifar-100-python.tar.gz",
    ),
    "fashion-mnist": Published(
        labels.FASHION_MNIST,
        60_000,
        10_000,
        "FashionMNIST",
        (0.2860, 0.2860, 0.2860),
        (0.3530, 0.3530, 0.3530),
    ),
}

# Scikit-learn's 1,797 digits; a fifth, rounded up, is held out as the test part.
DIGITS_TRAIN, DIGITS_TEST = 1_437, 360


def load_digits_part(part: Literal["train", "test"]) -> ImageSet:
    """Loads scikit-learn's 8x8 digits, 0..16 scaled to 0..255; the test part is always the same."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - heavy

    digits = load_digits()
    targets = digits.target.astype(np.int64)
    images = _grey_to_rgb(np.rint(digits.images * (255 / 16)).astype(np.uint8))
    train, test = split_indices(targets, 0.2, _DIGITS_TEST_SEED)
    mean, std = channel_statistics(images[train])
    chosen = train if part == "train" else test
    return ImageSet(images[chosen], targets[chosen], labels.DIGITS, mean, std)


def load_published(config: DatasetConfig, part: Literal["train", "test"]) -> ImageSet:
    """Loads CIFAR-10, CIFAR-100 or Fashion-MNIST, after downloading it where that is allowed.

    Raises:
        DataError: If the files are missing and may not or cannot be downloaded, or are damaged.
    """
    check_ready(config)
    published = PUBLISHED[config.name]
    root = Path(config.root).expanduser()
    if not is_ready(config):
        _download(root, published)
    if published.files:
        images, targets = _read_cifar(config, root, published, part)
    else:
        folder = find_idx_folder(root)
        if folder is None:
            raise _missing(config, root, published)
        grey, targets = read_part(folder, part)
        images = _grey_to_rgb(grey)
    return ImageSet(images, targets, published.classes, published.mean, published.std)


def is_ready(config: DatasetConfig) -> bool:
    """Tells whether a published data set's files are there, unread."""
    published = PUBLISHED[config.name]
    root = Path(config.root).expanduser()
    if published.files:
        return all((root / name).is_file() for name in published.files)
    return find_idx_folder(root) is not None


def check_ready(config: DatasetConfig) -> None:
    """Raises DataError if a published data set is not there and may not be downloaded."""
    if config.name not in PUBLISHED:
        raise DataError(
            f"dataset.name = {config.name} has recorded results only, which objective.name = table "
            f"reads; for images choose one of {', '.join(PUBLISHED)}, digits or imagefolder"
        )
    root = Path(config.root).expanduser()
    check_root(root, must_exist=False)
    if not config.download and not is_ready(config):
        raise _missing(config, root, PUBLISHED[config.name])


def _missing(config: DatasetConfig, root: Path, published: Published) -> DataError:
    if published.files:
        folder = root / Path(published.files[0]).parent
        cure = f"or unpack {published.archive} in {root}"
    else:
        folder = root / "FashionMNIST" / "raw"
        cure = (
            f"or put its four idx files there or in {root} "
            f"(Debian's package dataset-fashion-mnist has them in {DEBIAN_FOLDER})"
        )
    return DataError(
        f"{folder}: must hold the data set {config.name}, but does not; "
        f"set dataset.download = true, {cure}"
    )


def _download(root: Path, published: Published) -> None:
    import torchvision.datasets  # noqa: PLC0415 - heavy

    try:
        root.mkdir(parents=True, exist_ok=True)
        with exclusive(root / f".{published.torchvision}.lock"), downloading():
            getattr(torchvision.datasets, published.torchvision)(root, download=True)
    # Among them URLError, timeouts, tar and gzip errors, and torchvision's RuntimeError where
    # a checksum differs.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{root}: downloading {published.torchvision} must succeed, but failed ({reason}); "
            "check the network and the folder, or copy the files from another machine"
        ) from None


@contextmanager
def downloading() -> Iterator[None]:
    """Keeps stdout for data, gives up on a server that falls silent, and unpacks with care.

    torchvision leaves it to Python what an archive's members may do; before 3.14, that is anything.
    """
    before, unpack = socket.getdefaulttimeout(), tarfile.TarFile.extraction_filter
    socket.setdefaulttimeout(_STALLED_SECONDS)
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        socket.setdefaulttimeout(before)
        tarfile.TarFile.extraction_filter = unpack


def _read_cifar(
    config: DatasetConfig, root: Path, published: Published, part: Literal["train", "test"]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    import torchvision.datasets  # noqa: PLC0415 - heavy

    make: Any = getattr(torchvision.datasets, published.torchvision)
    try:
        read = make(root, train=part == "train")
    except RuntimeError:
        # Its checksum differs: half-written by a process that is still unpacking, or damaged.
        if not config.download:
            folder = root / Path(published.files[0]).parent
            raise DataError(
                f"{folder}: the files of {config.name} must have their published checksums, but "
                "do not; remove the folder, and set dataset.download = true or unpack "
                f"{published.archive} again"
            ) from None
        _download(root, published)
        read = make(root, train=part == "train")
    except OSError as error:
        raise DataError(
            f"{error.filename or root}: the files of {config.name} must be readable, but are not "
            f"({error.strerror or error}); allow reading them"
        ) from None
    return np.ascontiguousarray(read.data), np.array(read.targets, dtype=np.int64)


def _grey_to_rgb(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.repeat(grey[..., None], 3, axis=-1)
