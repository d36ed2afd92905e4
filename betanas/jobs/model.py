"""A trained model for use: pictures to classes, and on to other software."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from betanas.data.decode import choose_side, decode_pictures, side_for
from betanas.data.pictures import resize_pixels
from betanas.errors import InputError
from betanas.formats.classifier import PixelClassifier
from betanas.images.augment import EvalTransform
from betanas.jobs.export import Exported, export, load_classifier
from betanas.models.trained import TrainedModel

Picture = str | PathLike[str] | npt.NDArray[np.uint8]

_BATCH = 64  # pictures that are answered at once


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a picture shows.

    Attributes:
        image: Its file; None for pixels.
        top: ``(class, probability)`` of all classes, the likeliest first.
    """

    image: str | None
    top: tuple[tuple[str, float], ...] = field(repr=False)

    @property
    def label(self) -> str:
        """The likeliest class."""
        return self.top[0][0]

    @property
    def probability(self) -> float:
        """Of the likeliest class, in [0, 1], as far as the network can be believed."""
        return self.top[0][1]

    @property
    def probabilities(self) -> dict[str, float]:
        """Of each class, the likeliest first; they sum to 1."""
        return dict(self.top)

    def __str__(self) -> str:
        return f"{self.label} ({self.probability:.1%})"

    def to_json(self, top: int = 5) -> dict[str, Any]:
        """The JSON of ``betanas predict``, with so many of the classes."""
        named = [{"class": name, "probability": share} for name, share in self.top[:top]]
        return {"image": self.image, **named[0], "top": named}


@dataclass(frozen=True)
class Model:
    """A trained network, and what its input and output mean; made by ``betanas.load_model``.

    Attributes:
        path: Its file.
        module: The ``nn.Module``, in evaluation mode: float32 ``N x 3 x R x R`` pixel values in
            [0, 1] to ``N x classes`` logits. ``module.network`` is the network behind the
            normalisation; after ``module.to("cuda")`` predictions are made there.
        trained: What the file holds.
    """

    path: Path
    module: PixelClassifier = field(repr=False)
    trained: TrainedModel = field(repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names in the order of the outputs."""
        return self.trained.classes

    @property
    def resolution(self) -> int:
        """Input side in pixels, R."""
        return self.trained.network.resolution

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is known of it: ``top1``, ``part`` (which images that is of), ``epochs``, ..."""
        return self.trained.facts

    @overload
    def predict(  # type: ignore[overload-overlap]  # a str is a sequence of str, too
        self, images: Picture
    ) -> Prediction: ...

    @overload
    def predict(self, images: Sequence[Picture]) -> list[Prediction]: ...

    def predict(self, images: Picture | Sequence[Picture]) -> Prediction | list[Prediction]:
        """Tells what pictures show; they are prepared as the images of a test part are.

        Args:
            images: A picture's path, or its pixels (uint8, ``H x W x 3``, or ``H x W`` of grey); or
                a list of such.

        Returns:
            One prediction, or a list of them in the order of the pictures.

        Raises:
            InputError: For a file that is no picture, or an array of another shape or type.
        """
        if isinstance(images, str | PathLike | np.ndarray):
            return self._answer([images])[0]
        return [found for part in _parts(images) for found in self._answer(part)]

    def export(self, format: str = "onnx", folder: str | Path | None = None) -> Exported:  # noqa: A002
        """Writes it in another format, and proves that it answers the same there.

        Args:
            format: ``onnx``, ``torch-export``, ``safetensors`` or ``python``.
            folder: Where to; beside ``path`` if left out.

        Returns:
            ``files``, the one to open first, and ``max_abs_error``, the largest difference of
            logits from this model's.

        Raises:
            InputError: For an unknown format, a package that is missing, or a folder that cannot be
                written.
            RunError: If what was written answers otherwise; nothing is left of it then.
        """
        return export(self.path, format, None if folder is None else Path(folder))

    @torch.inference_mode()
    def _answer(self, pictures: Sequence[Picture]) -> list[Prediction]:
        inputs = torch.cat([self._pixels(picture) for picture in pictures])
        probabilities = self.module(inputs.to(self.module.mean.device)).softmax(dim=1)
        shares, order = probabilities.cpu().sort(dim=1, descending=True, stable=True)
        return [
            Prediction(
                None if isinstance(picture, np.ndarray) else fspath(picture),
                tuple((self.classes[i], float(p)) for i, p in zip(row, share, strict=True)),
            )
            for picture, row, share in zip(pictures, order.tolist(), shares.tolist(), strict=True)
        ]

    def _pixels(self, picture: Picture) -> Tensor:
        """One picture as ``module`` takes it, ``1 x 3 x R x R``."""
        if isinstance(picture, np.ndarray):
            _check_pixels(picture)
            height, width = picture.shape[:2]
            side = side_for([(width, height)], self.resolution).side
            square = resize_pixels(picture, side)[None]
        else:
            side = choose_side([fspath(picture)], self.resolution).side
            square = next(decode_pictures([fspath(picture)], side, threads=1))
        plain = EvalTransform(self.resolution, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        return plain(torch.from_numpy(square.copy()))


def load_model(path: str | Path) -> Model:
    """Opens a ``model.pt`` that a training has written; no code in it is run.

    Args:
        path: The file.

    Raises:
        InputError: If there is no such file, it is something else, or it is damaged.
    """
    file = Path(path).expanduser()
    trained, module = load_classifier(file)
    return Model(file.absolute(), module, trained)


def _parts(pictures: Sequence[Picture]) -> Iterator[Sequence[Picture]]:
    for start in range(0, len(pictures), _BATCH):
        yield pictures[start : start + _BATCH]


def _check_pixels(pixels: npt.NDArray[np.uint8]) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
        raise InputError(
            "a picture must be a path or uint8 pixels, H x W x 3 or H x W (several: a list of "
            "such), but got "
            f"{pixels.dtype} {' x '.join(map(str, pixels.shape))}"
        )
    if pixels.size == 0:
        raise InputError("a picture must have pixels, but got an empty array")
