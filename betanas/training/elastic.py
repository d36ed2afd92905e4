"""What the number of ranks means for a training whose ranks come and go (``recipe.elastic``).

Pure functions of the changes so far. Which images are learnt is in ``images/batches.py``, how
processes find each other again in ``launcher/``.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Change(NamedTuple):
    """From when on how many ranks train.

    Attributes:
        step: The first step that they make together.
        images: Images that were learnt before it.
        ranks: How many they are.
    """

    step: int
    images: int
    ranks: int


def with_change(changes: Sequence[Change], step: int, images: int, ranks: int) -> list[Change]:
    """The changes so far, and that there are so many ranks from now on, if that is one."""
    known = list(changes)
    return known if known[-1].ranks == ranks else [*known, Change(step, images, ranks)]


def rate_scale(changes: Sequence[Change], step: int, over: int) -> float:
    """What a dynamic batch multiplies the learning rate of one rank with.

    The number of ranks; after a change, the line from what it was to what it will be. Momentum
    still holds the noise of the smaller batches, so a rate that jumps does harm (Lin et al., 2019,
    "Dynamic Mini-batch SGD for Elastic Distributed Training").

    Args:
        changes: All so far, in order; the first is the training's beginning.
        step: Of this training, not before the last change.
        over: Steps from a change to the whole new rate; 0 jumps.
    """
    scale = float(changes[0].ranks)
    ends = [*(change.step for change in changes[1:]), step]
    for change, end in zip(changes[1:], ends[1:], strict=True):
        share = min(1.0, (end - change.step) / over) if over else 1.0
        scale += share * (change.ranks - scale)
    return scale
