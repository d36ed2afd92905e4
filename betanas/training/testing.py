"""The accuracy of a trained model on images that no choice has ever looked at."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from betanas.data.images import ImageSet
from betanas.images.augment import EvalTransform
from betanas.images.batches import NO_LABEL


def part_batches(
    images: ImageSet, resolution: int, batch: int, device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields images, float32 ``b x 3 x R x R``, normalised, and labels, int64 ``b``."""
    transform = EvalTransform(resolution, images.mean, images.std)
    for start in range(0, len(images.labels), batch):
        part = slice(start, start + batch)
        # A copy: what is cached is mapped read-only.
        source = torch.from_numpy(images.images[part].copy()).to(device)
        yield transform(source), torch.from_numpy(images.labels[part]).to(device)


@torch.inference_mode()
def top_accuracies(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]
) -> tuple[float, float]:
    """Top-1 and top-5 accuracy in [0, 1], every image counted once.

    With five classes or fewer, top-5 is 1.

    Args:
        model: In evaluation mode, on the batches' device.
        batches: Normalised images and their labels; at least one image.
    """
    first, five, seen = 0, 0, 0
    for inputs, labels in batches:
        logits = model(inputs)
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
        first += int(best[:, 0].sum())
        five += int(best.any(dim=1).sum())
        seen += int((labels != NO_LABEL).sum())
    return first / seen, five / seen
