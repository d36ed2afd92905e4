"""``search.sampler = "reinforce"``: a policy learnt from the trials, one distribution a parameter.

Williams, 1992, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement
Learning"; over a factorised softmax with a moving baseline as in Dong and Yang, 2020,
"NAS-Bench-201". The policy is replayed from the trials for each proposal, so that
nothing outlives it but the database.
"""

from itertools import pairwise

import numpy as np

from betanas.arrays import FloatArray, IntArray
from betanas.parameters import Choice, Integer
from betanas.search.acquisition import keep_feasible
from betanas.search.situation import Situation
from betanas.search.space import Space

_CELLS = 10  # of a number's range; within a cell all values are as likely
_RATE = 0.3  # of learning, for an advantage of one standard deviation
_DECAY = 0.9  # of the baseline, a trial
_DRAWS = 1024  # from the policy, for one proposal


class Reinforce:
    """``reinforce``: draws from a softmax over each parameter's options, likelier what paid off.

    A number's range is cut into at most ten cells of equal width. Trials that the policy has not
    drawn itself, such as the first phase's, teach it like its own.

    Args:
        space: The ranges.
        seed: The study's; unused, as all is drawn from the proposal's own generator.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._widths = [_cells(space, i) for i in space.free]
        self._ends = np.cumsum([0, *self._widths])

    def propose(
        self, situation: Situation, rng: np.random.Generator
    ) -> tuple[FloatArray | None, str]:
        """The first feasible and new draw."""
        if not situation.complete:
            return None, "no complete trial to learn from"
        policy = self.policy(situation.kernels, situation.merits)
        unit = rng.random((_DRAWS, len(self._space.names)))  # places within cells, to begin with
        for i, width, (first, end) in self._slices():
            chosen = rng.choice(width, size=_DRAWS, p=policy[first:end])
            unit[:, i] = (chosen + unit[:, i]) / width
        found = keep_feasible(situation.rules, self._space.kernels(unit))
        for kernel in found.kernels:
            if situation.rules.identity(kernel) not in situation.known:
                return np.asarray(kernel), ""
        return None, f"none of {_DRAWS:,} draws from the policy is feasible and new"

    def policy(self, kernels: FloatArray, merits: FloatArray) -> FloatArray:
        """The probabilities of all cells, one free parameter's after the other's.

        Args:
            kernels: Of the complete trials in their order, ``n x d``.
            merits: Their values, ``n``; of any scale.
        """
        taken, logits = self._taken(kernels), np.zeros(self._ends[-1])
        baseline, scale = float(merits[0]), float(np.std(merits)) or 1.0
        for cells, merit in zip(taken, merits, strict=True):
            gradient = -self._softmax(logits)  # of the draw's log probability
            gradient[cells] += 1.0
            logits += _RATE * (merit - baseline) / scale * gradient
            baseline = _DECAY * baseline + (1 - _DECAY) * float(merit)
        return self._softmax(logits)

    def _taken(self, kernels: FloatArray) -> IntArray:
        """Which cell of each free parameter n kernels are in, ``n x f``."""
        unit = self._space.unit(kernels)[:, self._space.free]
        inside = np.minimum((unit * self._widths).astype(np.int64), np.array(self._widths) - 1)
        return np.asarray(inside + self._ends[:-1])

    def _softmax(self, logits: FloatArray) -> FloatArray:
        parts = [np.exp(logits[a:b] - logits[a:b].max()) for a, b in pairwise(self._ends)]
        return np.concatenate([part / part.sum() for part in parts])

    def _slices(self) -> list[tuple[int, int, tuple[int, int]]]:
        """Each free parameter's index, its number of cells, and where they are in the policy."""
        return list(zip(self._space.free, self._widths, pairwise(self._ends), strict=True))


def _cells(space: Space, index: int) -> int:
    """An option or whole number each, as far as they are not too many."""
    parameter = space.parameters[index]
    if isinstance(parameter, Choice):
        return len(parameter.codes)
    if isinstance(parameter, Integer):
        return int(min(space.high[index] - space.low[index] + 1, _CELLS))
    return _CELLS
