"""Every random number of a training, from its seed and its place alone.

Nothing is carried from step to step: what chance decides for step 1,000 is known without the 999
before it. So a resumed training meets the very same batches, and so does any number of ranks.
"""

from enum import IntEnum

import numpy as np
import torch

from betanas.devices.ranks import Ranks


class Stream(IntEnum):
    """What randomness is for; streams of one seed are independent of each other."""

    ORDER = 0
    AUGMENT = 1
    DEPTH = 2
    MIX = 3
    GATES = 4
    DROPOUT = 5


def torch_generator(seed: int, stream: Stream, index: int) -> torch.Generator:
    """A CPU generator for one piece of work.

    Args:
        seed: The training's, in [0, 2**63).
        stream: What the numbers are for.
        index: Which epoch or group of steps, from 0.
    """
    state = np.random.SeedSequence([seed, stream, index]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def seed_dropout(seed: int, ranks: Ranks, steps: int) -> None:
    """Has each rank draw its own dropout; rank 0, or one alone, goes on as it would.

    Args:
        seed: The training's.
        ranks: This process among its peers.
        steps: Of training so far.
    """
    if ranks.rank:
        own = torch_generator(seed, Stream.DROPOUT, steps * ranks.size + ranks.rank)
        torch.manual_seed(own.initial_seed())


def numpy_generator(seed: int, stream: Stream, index: int) -> np.random.Generator:
    """As ``torch_generator``, for the distributions that torch draws without a generator."""
    return np.random.default_rng([seed, stream, index])
