"""The accuracy of a model in training on the images that were held out."""

from collections.abc import Callable

import torch
from torch import nn

from betanas.devices.ranks import Ranks
from betanas.images.batches import Batches, HeldOut
from betanas.models.norms import measure_norms


class Validation:
    """Counts right answers, every image exactly once at any number of ranks.

    Args:
        held_out: This rank's validation images.
        batches: The training batches, of which the last give batch-norm statistics.
        norm_batches: How many of them; 0 takes the running averages as they are.
        ranks: This process among its peers.
        beat: Called after each batch.
    """

    def __init__(
        self,
        held_out: HeldOut,
        batches: Batches,
        norm_batches: int,
        ranks: Ranks,
        beat: Callable[[], None],
    ) -> None:
        self._held_out, self._batches, self._norm_batches = held_out, batches, norm_batches
        self._ranks, self._beat = ranks, beat

    @torch.no_grad()
    def accuracy(self, model: nn.Module, steps: int) -> float:
        """Top-1 in [0, 1] over all ranks' images.

        Args:
            model: Left in training mode; its batch-norm statistics become those of all ranks.
            steps: Training steps so far.
        """
        model.eval()
        if self._norm_batches:
            first = max(0, steps - self._norm_batches)
            measure_norms(model, (self._batches.plain(step) for step in range(first, steps)))
        self._ranks.average_buffers(model)
        correct = torch.zeros((), dtype=torch.int64, device=self._ranks.device)
        for inputs, labels in self._held_out:
            correct += (model(inputs).argmax(dim=1) == labels).sum()
            self._beat()
        model.train()
        right, seen = self._ranks.total(correct.item(), len(self._held_out))
        return right / seen
