"""A trained or exported model on images whose classes are known: how often it is right, and where.

The images go the way that those of a test part go at the end of a training, a batch at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import confusion_matrix
from torch import Tensor
from torch.nn.functional import cross_entropy

from betanas.arrays import IntArray
from betanas.data import load_images
from betanas.data.decode import choose_side, decode_pictures
from betanas.data.folder import Pictures, scan_test_pictures
from betanas.devices.find import find_devices
from betanas.errors import InputError
from betanas.formats.classifier import Answer, answer
from betanas.formats.graphs import ONNX_FILE, PROGRAM_FILE, open_onnx, open_program
from betanas.images.augment import EvalTransform
from betanas.jobs.export import load_classifier
from betanas.study.recipe import DatasetConfig

_BATCH = 200  # images that are answered at once
_NAMED = 3  # classes that an error names
_READERS = {Path(ONNX_FILE).suffix: open_onnx, Path(PROGRAM_FILE).suffix: open_program}

Pixels = npt.NDArray[np.uint8]
Labelled = tuple[tuple[str, ...], Iterator[tuple[Pixels, npt.NDArray[np.int64]]]]


@dataclass(frozen=True)
class Evaluated:
    """What a model has answered.

    Attributes:
        part: Which images: ``test``, or ``all`` of a folder without parts.
        top1: Share of images whose likeliest class is right.
        top5: Share of images whose class is among the five likeliest.
        loss: Mean cross-entropy in nats.
        classes: The model's, in the order of its outputs.
        confusion: ``n x n``: images of the class of the row that were taken for that of the column.
    """

    part: str
    top1: float
    top5: float
    loss: float
    classes: tuple[str, ...]
    confusion: IntArray = field(repr=False)

    @property
    def images(self) -> int:
        """How many were looked at."""
        return int(self.confusion.sum())

    def by_class(self) -> list[dict[str, Any]]:
        """``class``, ``accuracy`` (None of a class without images) and ``images`` of each class."""
        right, held = self.confusion.diagonal().tolist(), self.confusion.sum(axis=1).tolist()
        return [
            {"class": name, "accuracy": r / n if n else None, "images": n}
            for name, r, n in zip(self.classes, right, held, strict=True)
        ]

    def confused(self) -> list[tuple[str, str, int]]:
        """Class, the other one that it was taken for, and how often; the most frequent first."""
        wrong = self.confusion - np.diag(self.confusion.diagonal())
        order = np.argsort(-wrong, axis=None, kind="stable")[: np.count_nonzero(wrong)]
        rows, columns = np.unravel_index(order, wrong.shape)
        return [
            (self.classes[i], self.classes[j], int(wrong[i, j]))
            for i, j in zip(rows, columns, strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        """The JSON of ``betanas evaluate``."""
        return {
            "part": self.part,
            "images": self.images,
            "top1": self.top1,
            "top5": self.top5,
            "loss": self.loss,
            "classes": self.by_class(),
            "confusion": self.confusion.tolist(),
        }


def evaluate(checkpoint: Path, dataset: DatasetConfig, cache: Path, device: str) -> Evaluated:
    """Has a model answer a data set's test part.

    Args:
        checkpoint: ``model.pt`` of a training, or ``model.onnx`` or ``model.pt2`` of an export.
        dataset: Which images; of a folder without the folders ``train`` and ``test`` all of them.
            Its classes must be among the model's, by their names.
        cache: Where published images are kept decoded.
        device: ``auto``, ``cpu`` or ``cuda``, for a ``model.pt``; exported ones run on the CPU.

    Raises:
        InputError: For a file that is no such model, or a device that is not there.
        DataError: For images that are missing or unreadable, or that have other classes.
    """
    description, respond = _open(checkpoint.expanduser(), device)
    names, side = tuple(description["classes"]), int(description["resolution"])
    if dataset.name == "imagefolder":
        part, (found, batches) = _of_folder(Path(dataset.root).expanduser(), side)
    else:
        part, (found, batches) = "test", _published(dataset, side, cache)
    places = _places(found, names, checkpoint)
    # The model normalises by itself, and in the same way wherever it runs.
    plain = EvalTransform(side, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return _measured(
        part,
        names,
        respond,
        ((plain(torch.from_numpy(pixels.copy())), places[y]) for pixels, y in batches),
    )


def _open(checkpoint: Path, device: str) -> tuple[Mapping[str, Any], Answer]:
    """A model file's description, and what answers for it."""
    read = _READERS.get(checkpoint.suffix)
    if read is None:
        kind = find_devices(device, 1, claim=False).kind
        torch.backends.cudnn.allow_tf32 = False  # answers as float32 gives them
        trained, model = load_classifier(checkpoint)
        model = model.to(kind)
        return trained.describe(), lambda batches: answer(model, [b.to(kind) for b in batches])
    if not checkpoint.is_file():
        raise InputError(f"{checkpoint} cannot be read (no such file); betanas export writes it")
    if read is open_onnx and find_spec("onnxruntime") is None:
        raise InputError(f"{checkpoint} needs onnxruntime: pip install 'betanas[export]'")
    try:
        return read(checkpoint)
    except Exception as error:  # whatever a foreign or damaged file leads a runtime to
        told = next(iter(str(error).strip().splitlines()), "")
        raise InputError(
            f"{checkpoint} must be a model of betanas export, but cannot be opened "
            f"({type(error).__name__}: {told}); write it again"
        ) from None


def _of_folder(root: Path, resolution: int) -> tuple[str, Labelled]:
    """A folder's pictures, decoded as they are asked for."""
    part, pictures = scan_test_pictures(root)
    side = choose_side(pictures.files, resolution).side
    return part, (pictures.classes, _decoded(pictures, side))


def _decoded(pictures: Pictures, side: int) -> Iterator[tuple[Pixels, npt.NDArray[np.int64]]]:
    start = 0
    for pixels in decode_pictures(pictures.files, side):
        yield pixels, pictures.labels[start : start + len(pixels)]
        start += len(pixels)


def _published(dataset: DatasetConfig, resolution: int, cache: Path) -> Labelled:
    """A published data set's test part."""
    held = load_images(dataset, "test", resolution, cache)
    edges = [*range(0, len(held.labels), _BATCH), len(held.labels)]
    return held.classes, ((held.images[a:b], held.labels[a:b]) for a, b in pairwise(edges))


def _places(found: Sequence[str], names: Sequence[str], checkpoint: Path) -> IntArray:
    """The model's outputs of a data set's classes, in their order."""
    unknown = [name for name in found if name not in names]
    if unknown:
        raise InputError(
            f"{checkpoint} must know the classes of the images, but does not know "
            f"{', '.join(unknown[:_NAMED])}{' ...' if len(unknown) > _NAMED else ''}; it knows "
            f"{', '.join(names[:_NAMED])}{' ...' if len(names) > _NAMED else ''}"
        )
    return np.array([names.index(name) for name in found])


def _measured(
    part: str,
    names: tuple[str, ...],
    respond: Answer,
    batches: Iterator[tuple[Tensor, npt.NDArray[np.int64]]],
) -> Evaluated:
    """Gathers what a model answers to batches of pixels in [0, 1] and their labels."""
    labels: list[IntArray] = []
    first: list[IntArray] = []
    among, loss = 0, 0.0
    for pixels, right in batches:
        logits, wanted = respond([pixels])[0].cpu(), torch.from_numpy(right)
        likeliest = logits.topk(min(5, len(names)), dim=1).indices
        among += int((likeliest == wanted[:, None]).sum())
        loss += cross_entropy(logits.double(), wanted, reduction="sum").item()
        labels.append(right)
        first.append(likeliest[:, 0].numpy())
    wanted_all, found_all = np.concatenate(labels), np.concatenate(first)
    seen = len(wanted_all)
    return Evaluated(
        part=part,
        top1=float((wanted_all == found_all).mean()),
        top5=among / seen,
        loss=loss / seen,
        classes=names,
        confusion=confusion_matrix(wanted_all, found_all, labels=range(len(names))),
    )
