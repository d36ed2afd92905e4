"""What the search asks of a space: what is feasible, what it costs, what is the same experiment.

The Gaussian process, its acquisition function and the other samplers know nothing of architectures:
they work on any space with such rules, which is how benchmarks/search.py holds them against
problems of other fields.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from scipy.special import ndtr

from betanas.architecture.decoding import decode
from betanas.architecture.family import TrivialKernelError
from betanas.architecture.layers import Architecture
from betanas.architecture.limits import Feasibility, Verdicts
from betanas.arrays import BoolArray, FloatArray
from betanas.search.space import Space

_PREDICTION_STD = 0.15  # of a latency's logarithm around its prediction, before any is measured
_PRIOR = 4  # measured latencies that this counts as much as
# A kernel that may keep the latency's limit with less is not proposed. One that does not keep it
# costs seconds, as it is measured before its training.
_LEAST_PROBABILITY = 0.5
_ROUNDED = 0.05  # what is known of latencies
_LEAST_TIME = 1e-12  # in place of a trivial network's none


@dataclass(frozen=True, slots=True)
class Assessment:
    """What is known of n kernels before any training.

    Attributes:
        feasible: Which may be trained, ``n``.
        features: What the objective is likely to depend on beside the kernel itself, ``n x c``;
            finite, of any scale, c >= 0.
    """

    feasible: BoolArray
    features: FloatArray


class Rules(ABC):
    """Exact knowledge about the kernels of one space."""

    @abstractmethod
    def assess(self, kernels: FloatArray) -> Assessment:
        """Assesses n kernels, ``n x d``; cheap, since it is asked about many thousands."""

    @abstractmethod
    def identity(self, kernel: FloatArray) -> Hashable:
        """Equal for two kernels, ``d``, of which only one is worth training."""

    def costs(self, kernels: FloatArray) -> Mapping[str, FloatArray]:
        """What is known of n kernels, ``n x d``, without a trial: ``name -> n`` values > 0."""
        return {}

    def tightened(self, out_of_memory: FloatArray, complete: FloatArray) -> Self:
        """Rules that have learnt from kernels, ``n x d``, that ran out of memory or did not."""
        return self

    def timed(self, kernels: FloatArray, latencies_ms: FloatArray) -> Self:
        """Rules that have learnt from n kernels, ``n x d``, whose latency was measured, ``n``."""
        return self

    def rejections(self, kernels: FloatArray) -> Mapping[str, int]:
        """How many of n kernels, ``n x d``, each rule rejects, as far as rules have names."""
        return {}


@dataclass(frozen=True)
class ArchitectureRules(Rules):
    """The rules of a study: its limits, and the networks' costs and profiles as features.

    The family's parameters are the first of the space's; what comes after them, such as a learning
    rate, leaves the architecture as it is.

    Attributes:
        space: Gives the kernels' parameters their names.
        feasibility: The declared limits.
        memory_below: Steps that need so many bytes or more have run out of memory on the device;
            None if none has.
        slower: Logarithm of measured over predicted latencies: mean and standard deviation.
    """

    space: Space
    feasibility: Feasibility
    memory_below: float | None = None
    slower: tuple[float, float] = (0.0, _PREDICTION_STD)
    _identities: dict[bytes, Hashable] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def check(self, kernels: FloatArray) -> Verdicts:
        """Holds n kernels, ``n x d``, against the declared limits."""
        return self.feasibility.check(kernels[:, : self._own])

    def architecture(self, kernel: Mapping[str, Any]) -> Architecture:
        """Decodes a kernel that is not trivial; what it holds beside the family's is ignored."""
        rules = self.feasibility
        own = {name: kernel[name] for name in rules.family.names}
        return decode(rules.family, own, rules.limits.resolution, rules.num_classes)

    def assess(self, kernels: FloatArray) -> Assessment:
        """Assesses n kernels, ``n x d``."""
        verdicts = self.check(kernels)
        costs = verdicts.complexities
        feasible = verdicts.feasible
        if self.memory_below is not None:
            feasible = feasible & (verdicts.step_bytes < self.memory_below)
        if self.feasibility.limits.latency_ms is not None and verdicts.latency_ms is not None:
            feasible = feasible & (self.fast_enough(verdicts.latency_ms) >= _LEAST_PROBABILITY)
        features = [np.log(np.maximum(c, 1)) for c in (costs.num_params, costs.macs)]
        predicted = [verdicts.step_seconds, verdicts.latency_ms]
        timed = [np.log(np.maximum(t, _LEAST_TIME)) for t in predicted if t is not None]
        return Assessment(feasible, np.column_stack([*features, verdicts.features, *timed]))

    def fast_enough(self, predicted_ms: FloatArray) -> FloatArray:
        """Probability that n networks keep the limit of the latency, ``n``.

        Measured latencies lie around those that the operator table predicts, log-normally.
        """
        limit = self.feasibility.limits.latency_ms or np.inf
        mean, std = self.slower
        margin = np.log(limit / np.maximum(predicted_ms, _LEAST_TIME))
        return np.asarray(ndtr((margin - mean) / std))

    def costs(self, kernels: FloatArray) -> Mapping[str, FloatArray]:
        """Parameters, multiply-adds and activations of n kernels, ``n x d``."""
        costs = self.check(kernels).complexities
        return {
            name: np.maximum(getattr(costs, name), 1).astype(np.float64)
            for name in ("num_params", "macs", "activation_bytes")
        }

    def identity(self, kernel: FloatArray) -> Hashable:
        """The architecture's fingerprint, and all else that is searched beside it."""
        key = kernel.tobytes()
        if key not in self._identities:
            try:
                network = self.architecture(self.space.kernel(kernel)).fingerprint
            except TrivialKernelError:  # somebody else has recorded it
                network = ""
            self._identities[key] = (network, tuple(kernel[self._own :].tolist()))
        return self._identities[key]

    def tightened(self, out_of_memory: FloatArray, complete: FloatArray) -> Self:
        """Rules that also exclude what needs as much memory as a step that ran out of it.

        A step that needed no more than one that fitted ran out for another reason (somebody
        else's process on the device, say), and tightens nothing.

        Args:
            out_of_memory: Kernels, ``n x d``, whose training ran out of memory.
            complete: Kernels, ``m x d``, whose training did not.
        """
        needed, fitted = self._step_bytes(out_of_memory), self._step_bytes(complete)
        surprises = needed[needed > fitted.max(initial=0.0)]
        return replace(self, memory_below=float(surprises.min())) if len(surprises) else self

    def timed(self, kernels: FloatArray, latencies_ms: FloatArray) -> Self:
        """Rules that know by how much the operator table errs, from n measured latencies.

        Mean and deviation of the logarithms' differences, as if ``_PRIOR`` networks had been
        measured before, just as predicted but for ``_PREDICTION_STD``.
        """
        if self.feasibility.limits.latency_ms is None or not len(kernels):
            return self
        predicted = self.check(kernels).latency_ms
        if predicted is None:
            return self
        gaps = np.log(latencies_ms / np.maximum(predicted, _LEAST_TIME))
        number = len(gaps) + _PRIOR
        mean = gaps.sum() / number
        squares = ((gaps - mean) ** 2).sum() + _PRIOR * (mean**2 + _PREDICTION_STD**2)
        # Rounded, as rules that change all the time make the search look for kernels anew.
        mean, std = (_ROUNDED * round(x / _ROUNDED) for x in (mean, np.sqrt(squares / number)))
        return replace(self, slower=(mean, max(std, _ROUNDED)))

    def rejections(self, kernels: FloatArray) -> Mapping[str, int]:
        """How many of n kernels, ``n x d``, each declared limit rejects."""
        return {str(rule): n for rule, n in self.check(kernels).counts().items()}

    @property
    def _own(self) -> int:
        """How many of the space's parameters are the family's."""
        return len(self.feasibility.family.parameters)

    def _step_bytes(self, kernels: FloatArray) -> FloatArray:
        if len(kernels) == 0:
            return np.zeros(0)
        return self.check(kernels).step_bytes
