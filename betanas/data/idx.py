"""Fashion-MNIST's files: where they may lie, and the reader of their idx format.

The format is described at http://yann.lecun.com/exdb/mnist/: two zero bytes, the type (8 is
uint8), the number of dimensions, each extent as a big-endian 32-bit integer, then the values.
torchvision's reader opens no compressed file, as Debian's are, and tells of damage by assertions.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from betanas.errors import DataError

# Where Debian's package dataset-fashion-mnist puts the files.
DEBIAN_FOLDER = "/usr/share/datasets/fashion-mnist"
_PREFIXES = {"train": "train", "test": "t10k"}


def find_idx_folder(root: Path) -> Path | None:
    """Returns the folder that holds all four files: torchvision's below ``root``, or ``root``."""
    for folder in (root / "FashionMNIST" / "raw", root):
        if all(_find(folder, name) for name in _names("train") + _names("test")):
            return folder
    return None


def read_part(
    folder: Path, part: Literal["train", "test"]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Reads one part.

    Args:
        folder: What ``find_idx_folder`` returned.
        part: Which part.

    Returns:
        Images (uint8, ``n x 28 x 28``, grey) and labels (int64, ``n``).

    Raises:
        DataError: If a file is damaged.
    """
    images_name, labels_name = _names(part)
    images = _read(folder, images_name, 3)
    labels = _read(folder, labels_name, 1)
    if len(images) != len(labels):
        raise DataError(
            f"{folder}: {images_name} and {labels_name} must have one length, but have "
            f"{len(images)} and {len(labels)}; replace both"
        )
    return images, labels.astype(np.int64)


def _names(part: Literal["train", "test"]) -> tuple[str, str]:
    prefix = _PREFIXES[part]
    return f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"


def _find(folder: Path, name: str) -> Path | None:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None


def _read(folder: Path, name: str, dimensions: int) -> npt.NDArray[np.uint8]:
    path = _find(folder, name) or folder / name
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        magic, *extents = struct.unpack_from(f">{dimensions + 1}I", content)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise _damaged(path, str(error)) from None
    if magic != 0x800 + dimensions:
        raise _damaged(path, f"it starts with {magic:#x}, not {0x800 + dimensions:#x}")
    header = 4 * (dimensions + 1)
    if len(content) != header + math.prod(extents):
        raise _damaged(path, f"{len(content)} bytes, not {header + math.prod(extents)}")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(extents)


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(
        f"{path}: must be a complete idx file, but is damaged ({reason}); "
        "remove it, and download it again with dataset.download = true"
    )
