"""Images mixed with others of their batch, and their labels alike."""

import numpy as np
import pytest
import torch
from torch import nn

from betanas.images.mixing import Mixing


def mix(first: int, count: int, *, mixup: float = 0.0, cutmix: float = 0.0) -> torch.Tensor:
    """Mixes images whose pixels all are their number in the batch; labels are numbers too."""
    numbers = torch.arange(first, first + count)
    inputs = numbers[:, None, None, None].expand(-1, 3, 16, 16).float().contiguous()
    mixed, targets = Mixing(mixup, cutmix, seed=3)(inputs, numbers, 7, first)
    assert targets.others is not None
    assert targets.shares is not None
    expected = targets.shares * numbers + (1 - targets.shares) * targets.others
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), expected)
    return mixed


@pytest.mark.parametrize("alphas", [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_labels_are_mixed_as_images_are(alphas: tuple[float, float]) -> None:
    mixed = mix(0, 41, mixup=alphas[0], cutmix=alphas[1])
    kinds = {len(image.unique()) > 1 for image in mixed}
    assert kinds >= ({True} if alphas[1] else {False})
    if all(alphas):
        assert kinds == {True, False}


def test_ranks_mix_their_share_of_the_whole() -> None:
    whole = mix(0, 40, mixup=0.4, cutmix=1.0)
    parts = torch.cat([mix(first, 20, mixup=0.4, cutmix=1.0) for first in (0, 20)])
    assert torch.equal(whole, parts)


def test_mixed_loss_is_the_mean_of_both() -> None:
    mixing = Mixing(0.4, 0.0, seed=3)
    labels = torch.arange(10)
    _, targets = mixing(torch.zeros(10, 3, 4, 4), labels, 0, 0)
    logits = torch.randn(10, 10)
    assert targets.shares is not None
    shares = targets.shares.numpy()
    other = labels.view(-1, 2).flip(1).flatten()
    losses = [
        nn.functional.cross_entropy(logits, y, reduction="none").numpy() for y in (labels, other)
    ]
    expected = np.mean(shares * losses[0] + (1 - shares) * losses[1])
    assert targets.loss(logits, 0.0).item() == pytest.approx(expected, rel=1e-5)
