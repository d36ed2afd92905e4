"""Mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019) between neighbours in a batch.

The order of a batch is random, so its neighbours are random partners; and they lie on the same
rank, so that what is mixed does not depend on the number of ranks (for even batches: the last image
of an odd one stays as it is).
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import betaincinv
from torch import Tensor
from torch.nn import functional

from betanas.devices.seeds import Stream, numpy_generator
from betanas.devices.work import upload

# Steps whose shares are computed at once: quantiles of a Beta distribution are dear one by one.
_STEPS_DRAWN = 64


@dataclass(frozen=True)
class Targets:
    """What the images of a batch show.

    Attributes:
        labels: int64, ``b``.
        others: The label that is mixed in, int64, ``b``; None where nothing is mixed.
        shares: Share of the image that is its own, float32 ``b`` in [0, 1]; None likewise.
    """

    labels: Tensor
    others: Tensor | None = None
    shares: Tensor | None = None

    def clone(self) -> "Targets":
        """The same in memory of its own."""
        copy = Targets(self.labels.clone())
        if self.others is None or self.shares is None:
            return copy
        return replace(copy, others=self.others.clone(), shares=self.shares.clone())

    def copy_(self, other: "Targets") -> None:
        """Takes over the values of targets of the same shape."""
        for name in ("labels", "others", "shares"):
            own = getattr(self, name)
            if own is not None:
                own.copy_(getattr(other, name))

    def loss(self, logits: Tensor, smoothing: float) -> Tensor:
        """Mean cross entropy of ``b x classes`` logits, with label smoothing in [0, 1)."""
        if self.others is None or self.shares is None:
            return functional.cross_entropy(logits, self.labels, label_smoothing=smoothing)
        own, other = (
            functional.cross_entropy(logits, which, label_smoothing=smoothing, reduction="none")
            for which in (self.labels, self.others)
        )
        return torch.lerp(other, own, self.shares).mean()


@dataclass(frozen=True)
class Mixing:
    """Mixes each pair of neighbours by its own draw.

    Attributes:
        mixup: Parameter of mixup's Beta distribution; 0 for none.
        cutmix: The same of CutMix. With both, each pair meets one of them, by even chance.
        seed: The training's.
    """

    mixup: float
    cutmix: float
    seed: int

    def __call__(
        self, inputs: Tensor, labels: Tensor, step: int, first: int
    ) -> tuple[Tensor, Targets]:
        """Mixes this rank's share of a step.

        Args:
            inputs: ``b x 3 x R x R``; left as they are.
            labels: ``b``.
            step: Which step.
            first: The first image's place in the whole step.
        """
        if self.mixup == self.cutmix == 0 or len(inputs) < 2:
            return inputs, Targets(labels)
        pairs = len(inputs) // 2
        weights = self._weights(step, first // 2, pairs, inputs.shape[-1], inputs.device)
        weights = weights.repeat_interleave(2, 0)
        own = inputs[: 2 * pairs]
        mixed = torch.lerp(_swapped(own), own, weights[:, None].to(own.dtype))
        if len(own) < len(inputs):
            mixed = torch.cat([mixed, inputs[2 * pairs :]])
        others, shares = labels.clone(), torch.ones(len(labels), device=labels.device)
        others[: 2 * pairs] = _swapped(labels[: 2 * pairs])
        shares[: 2 * pairs] = weights.mean(dim=(1, 2))
        return mixed, Targets(labels, others, shares)

    def _weights(
        self, step: int, first: int, pairs: int, resolution: int, device: torch.device
    ) -> Tensor:
        """How much of each pixel an image keeps, ``pairs x R x R`` in [0, 1].

        Mixup keeps the same share of every pixel, CutMix all of a pixel or nothing.
        """
        block, place = divmod(step, _STEPS_DRAWN)
        drawn = _draws(self.mixup, self.cutmix, self.seed, block, first + pairs)[place, first:]
        chance = upload(torch.from_numpy(drawn), device)
        cut, shares, centres = chance[:, :1], chance[:, 1:2], chance[:, 2:]
        # Edges of a rectangle with 1 - share of the area, its centre anywhere; some lies outside.
        half = (1 - shares).sqrt() / 2
        low, high = (((centres + s * half) * resolution).round() for s in (-1, 1))
        pixels = torch.arange(resolution, device=device)
        inside = (pixels >= low[..., None]) & (pixels < high[..., None])
        kept = ~(inside[:, 0, :, None] & inside[:, 1, None, :])
        return torch.where(cut[..., None] > 0, kept.double(), shares[..., None]).float()


@lru_cache(maxsize=2)
def _draws(
    mixup: float, cutmix: float, seed: int, block: int, pairs: int
) -> npt.NDArray[np.float64]:
    """What chance decides for the pairs of some steps, ``steps x pairs x 4``.

    Whether it is CutMix, the share that is kept, and the middle of what CutMix covers. Each pair
    has its own four numbers, so that ranks may draw from the first pair on.
    """
    steps = range(block * _STEPS_DRAWN, (block + 1) * _STEPS_DRAWN)
    uniform = np.stack([numpy_generator(seed, Stream.MIX, s).random((pairs, 4)) for s in steps])
    cut = uniform[..., 0] < (1.0 if mixup == 0 else 0.5 if cutmix else 0.0)
    alpha = np.where(cut, cutmix, mixup)
    uniform[..., 0], uniform[..., 1] = cut, betaincinv(alpha, alpha, uniform[..., 1])
    return uniform


def _swapped(pairs: Tensor) -> Tensor:
    """Each image, or label, of ``2 n`` in its neighbour's place."""
    return pairs.view(-1, 2, *pairs.shape[1:]).flip(1).flatten(0, 1)
