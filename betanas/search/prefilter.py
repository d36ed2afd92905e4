"""``search.prefilter``: of several kernels that a strategy proposes the best scored is trained.

Abdelfattah et al., 2021, "Zero-Cost Proxies for Lightweight NAS", call it move proposal.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from betanas.arrays import FloatArray
from betanas.search.situation import Situation

if TYPE_CHECKING:
    from betanas.search.strategies import Strategy

# From a kernel and the number of its trial to a score, more is better.
Score = Callable[[Mapping[str, Any], int], float]


@dataclass(frozen=True)
class Prefilter:
    """Chooses among a strategy's proposals.

    Attributes:
        candidates: How many to score for each trial.
        score: Of one of them.
    """

    candidates: int
    score: Score

    def propose(
        self, strategy: "Strategy", situation: Situation, rng: np.random.Generator
    ) -> tuple[FloatArray | None, str]:
        """The best scored of as many proposals, each made as if those before it were in training.

        Args:
            strategy: Proposes.
            situation: What is known.
            rng: Source of the strategy's randomness.

        Returns:
            The kernel, ``d``, or None; and why there would be none, as of any strategy.
        """
        found: list[FloatArray] = []
        trouble = ""
        for _ in range(self.candidates):
            pending = np.concatenate([situation.pending, *(kernel[None, :] for kernel in found)])
            kernel, trouble = strategy.propose(replace(situation, pending=pending), rng)
            if kernel is None:
                break
            found.append(kernel)
        if not found:
            return None, trouble
        named = map(situation.space.kernel, found)
        scores = [self.score(kernel, situation.trial.number) for kernel in named]
        return found[int(np.argmax(scores))], ""
