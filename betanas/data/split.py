"""The validation part: held out once, stratified, from the split seed alone."""

import math

import numpy as np
import numpy.typing as npt

from betanas.errors import DataError

Indices = npt.NDArray[np.int64]


def split_indices(labels: npt.ArrayLike, validation: float, seed: int) -> tuple[Indices, Indices]:
    """Splits images into a training and a validation part with every class in both.

    Args:
        labels: ``n`` class labels.
        validation: Below 1 the fraction held out, else the number of images held out.
        seed: In ``[0, 2**32)``; the same labels and seed give the same split on any machine.

    Returns:
        Sorted int64 indices (training, validation); each image is in exactly one.

    Raises:
        DataError: If a class would be missing from one of the parts, or the seed is out of range.
    """
    from sklearn.model_selection import train_test_split  # noqa: PLC0415 - heavy

    labels = np.asarray(labels, dtype=np.int64)
    size: float | int = validation if validation < 1 else int(validation)
    _check(labels, size, seed)
    try:
        train, held_out = train_test_split(
            np.arange(len(labels), dtype=np.int64),
            test_size=size,
            stratify=labels,
            random_state=seed,
        )
    except ValueError:
        # Scikit-learn refuses a part that is smaller than the number of classes.
        raise _too_few(labels, size) from None
    classes = len(np.unique(labels))
    if any(len(np.unique(labels[part])) < classes for part in (train, held_out)):
        raise _too_few(labels, size)
    return np.sort(train), np.sort(held_out)


def _check(labels: Indices, size: float, seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise DataError(f"dataset.split_seed must be in [0, 2**32), but got {seed}; choose another")
    if size <= 0:
        raise DataError(
            f"dataset.validation must be > 0, but got {size}; "
            "give a fraction below 1 or a number of images"
        )
    if size >= len(labels):
        raise DataError(
            f"dataset.validation must leave images to train on, but got {size} "
            f"of {len(labels)} images; hold out fewer"
        )


def _too_few(labels: Indices, size: float) -> DataError:
    counts = np.bincount(labels)
    smallest = int(counts[counts > 0].min())
    rule = (
        f"dataset.validation: every class must be in the training and in the validation part, "
        f"but {size:g} of {len(labels)} images leave one out "
        f"(the smallest class, label {int(np.flatnonzero(counts == smallest)[0])}, "
        f"has {smallest})"
    )
    if smallest < 2:
        return DataError(f"{rule}; give each class at least 2 images")
    low = math.ceil(100 / smallest) / 100  # in whole per cent, and never less than one image
    cure = f"{low:g}" if smallest == 2 else f"a fraction from {low:g} to {1 - low:g}"
    return DataError(f"{rule}; hold out {cure}, or add images to that class")
