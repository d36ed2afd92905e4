"""A trained network from pixels to logits, and how two of the same are compared."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from betanas.data.images import Channels
from betanas.errors import RunError

# Batches of images, each N x 3 x R x R, to as many batches of logits, each N x classes.
Answer = Callable[[Sequence[Tensor]], list[Tensor]]

DESCRIPTION_KEY = "betanas"
"""The description's name among a file's metadata. Its JSON is ASCII, since class names are names of
folders, which need not be valid UTF-8."""

BATCH_SIZES = (1, 2, 5)

TOLERANCE = 1e-4
"""Of the largest logit. Runtimes add float32 numbers in other orders and fold batch norms into
convolutions, which came to 1e-7 to 1e-5 where we measured; a forgotten normalisation, another
padding or another epsilon shows as 1e-3 or more."""


class PixelClassifier(nn.Module):
    """A network with the normalisation of its input in front.

    Args:
        network: Normalised images to logits.
        mean: Of each channel, of pixel values in [0, 1].
        std: As ``mean``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Channels, std: Channels) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1))

    @property
    def num_params(self) -> int:
        """The network's weights that were trained; no statistics."""
        return sum(weight.numel() for weight in self.network.parameters())

    def forward(self, images: Tensor) -> Tensor:
        """Classifies ``N x 3 x R x R`` pixel values in [0, 1]; returns ``N x classes`` logits."""
        return self.network((images - self.mean) / self.std)  # type: ignore[no-any-return]


def answer(model: Callable[[Tensor], Tensor], batches: Sequence[Tensor]) -> list[Tensor]:
    """Logits of each batch, without gradients."""
    with torch.no_grad():
        return [model(batch) for batch in batches]


def probe_batches(resolution: int) -> list[Tensor]:
    """Random images in batches of ``BATCH_SIZES``, each ``N x 3 x R x R`` in [0, 1].

    From the finest noise to one colour all over: a network answers all fine noise alike.
    """
    generator = torch.Generator().manual_seed(0)
    sides = [max(1, resolution >> halvings) for halvings in range(sum(BATCH_SIZES))]
    drawn = [torch.rand(1, 3, side, side, generator=generator) for side in sides]
    images = torch.cat([interpolate(image, size=resolution) for image in drawn])
    return list(torch.split(images, list(BATCH_SIZES)))


def compare(expected: Sequence[Tensor], found: Sequence[Tensor], what: str) -> float:
    """The largest absolute difference between logits that should be the same.

    Args:
        expected: The eager model's, each ``N x classes``.
        found: The exported model's.
        what: Whose they are, for the error.

    Raises:
        RunError: If they differ by more than ``TOLERANCE`` of the largest expected logit, in their
            shape, or cannot be compared.
    """
    shapes = [[tuple(logits.shape) for logits in side] for side in (expected, found)]
    if shapes[0] != shapes[1]:
        raise RunError(f"{what}: logits must have the shapes {shapes[0]}, but have {shapes[1]}")
    scale = max(logits.abs().max().item() for logits in expected)
    if not math.isfinite(scale):
        raise RunError(
            f"{what}: the trained model's own logits are not finite; its training failed, train it "
            "again with a lower learning rate"
        )
    # NaN among the found makes max NaN, which is not <= anything.
    error = torch.stack([(a - b).abs().max() for a, b in zip(expected, found, strict=True)]).max()
    if not error.item() <= TOLERANCE * scale:
        raise RunError(
            f"{what}: its logits must equal the trained model's within {TOLERANCE:g} of the "
            f"largest ({scale:.3g}), but differ by {error.item():.3g}; nothing was written; try "
            "another --format"
        )
    return error.item()
