"""What a network may cost, and the exact check that rejects the rest before training."""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from betanas.architecture.complexity import BF16_BYTES, Complexities, step_bytes
from betanas.architecture.family import Family, Survey
from betanas.architecture.operators import OperatorTable, network_seconds
from betanas.arrays import BoolArray, FloatArray, IntArray


class Rejection(StrEnum):
    """Why a kernel is not worth training; the value is what the database and commands show."""

    NO_CONTRACTION = "no_contraction"
    NUM_PARAMS = "num_params"
    MEMORY = "memory"
    SCALED_NO_CONTRACTION = "scaled_no_contraction"
    SCALED_NUM_PARAMS = "scaled_num_params"
    SCALED_MEMORY = "scaled_memory"
    MACS = "macs"
    LATENCY = "latency"
    FAMILY_RULE = "family_rule"
    SCALED_GROWTH = "scaled_growth"


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds at one resolution, inclusive; None does not limit.

    Attributes:
        resolution: Input side in pixels at which they hold.
        num_params: Trainable weights.
        memory_bytes: Activations, gradients, weights and optimiser state of a training step.
        macs: Multiply-adds of one image.
        latency_ms: Of an answer; what an operator table predicts may be ``LATENCY_MARGIN`` times
            that, since it is the measured latency that counts.
        growth: Weights for each weight that the same kernel has at the study's resolution: the
            scaling ratio.
    """

    resolution: int
    num_params: int | None = None
    memory_bytes: int | None = None
    macs: int | None = None
    latency_ms: float | None = None
    growth: float | None = None


LATENCY_MARGIN = 1.5


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The outcome for n kernels.

    Attributes:
        code: 0 for a feasible kernel, else 1 + the index of its ``Rejection``, shape ``n``.
        complexities: The costs at the study's own resolution, shape ``n``.
        features: Of the networks at that resolution, ``n x f``; see ``Survey``.
        step_bytes: Memory of a training step there, ``n``.
        step_seconds: Predicted seconds an image of a training step, ``n``; None without a table.
        latency_ms: Predicted milliseconds of an answer, ``n``; None without a table.
    """

    code: IntArray
    complexities: Complexities
    features: FloatArray
    step_bytes: FloatArray
    step_seconds: FloatArray | None = None
    latency_ms: FloatArray | None = None

    @property
    def feasible(self) -> BoolArray:
        """Which kernels may be trained, shape ``n``."""
        return np.asarray(self.code == 0)

    def reason(self, i: int) -> Rejection | None:
        """Why the i-th kernel is rejected; None if it is not."""
        return None if self.code[i] == 0 else _REJECTIONS[self.code[i] - 1]

    def counts(self) -> dict[Rejection, int]:
        """How many kernels each reason rejects; reasons that reject none are left out."""
        found, numbers = np.unique(self.code[self.code > 0], return_counts=True)
        return {_REJECTIONS[c - 1]: int(m) for c, m in zip(found, numbers, strict=True)}


_REJECTIONS = tuple(Rejection)
_ORDINARY = (Rejection.NO_CONTRACTION, Rejection.NUM_PARAMS, Rejection.MEMORY)
_SCALED = (Rejection.SCALED_NO_CONTRACTION, Rejection.SCALED_NUM_PARAMS, Rejection.SCALED_MEMORY)
_CHUNK = 1024  # kernels at a time: the tables of one chunk stay in the processor's cache


@dataclass(frozen=True, slots=True)
class Feasibility:
    """All that decides whether a kernel may be trained: exact, and free of torch.

    Attributes:
        family: Whose rules decode the kernels.
        num_classes: Outputs of the last linear layer.
        batch_size: Images of one training step on one device, the most where they are searched.
        optimizer_slots: Values the optimiser keeps for each weight.
        limits: What holds at the study's resolution.
        scaled: What the same kernel must hold at another resolution, if anything.
        bf16_from: Pixels of a batch from which on activations are kept in bf16: 0 for always,
            infinity for never.
        smallest_batch: The fewest images of a step; as many as the most if it is left out.
        operators: Of training steps on the study's device, if they were measured.
        answering: Of the answers whose latency counts, likewise.
        answer_images: Images of one answer.
    """

    family: Family
    num_classes: int
    batch_size: int
    optimizer_slots: int
    limits: Limits
    scaled: Limits | None = None
    bf16_from: float = math.inf
    smallest_batch: int | None = None
    operators: OperatorTable | None = None
    answering: OperatorTable | None = None
    answer_images: int = 1

    def check(self, kernels: npt.ArrayLike) -> Verdicts:
        """Checks n kernels, ``n x d``; the first rule that a kernel breaks is its reason."""
        x = np.asarray(kernels, dtype=np.float64)
        parts = [self._check_chunk(x[i : i + _CHUNK]) for i in range(0, max(len(x), 1), _CHUNK)]
        costs = [part.complexities for part in parts]
        return Verdicts(
            np.concatenate([part.code for part in parts]),
            Complexities(
                np.concatenate([c.num_params for c in costs]),
                np.concatenate([c.macs for c in costs]),
                np.concatenate([c.activation_bytes for c in costs]),
            ),
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.step_bytes for part in parts]),
            _joined([part.step_seconds for part in parts]),
            _joined([part.latency_ms for part in parts]),
        )

    def feasible(self, kernels: npt.ArrayLike) -> BoolArray:
        """Which of n kernels, ``n x d``, may be trained."""
        return self.check(kernels).feasible

    def _check_chunk(self, x: FloatArray) -> Verdicts:
        survey, memory, code = self._survey(x, self.limits, _ORDINARY)
        broken = ~self.family.allowed(x) & ~survey.trivial
        code = np.where(broken, 1 + _REJECTIONS.index(Rejection.FAMILY_RULE), code)
        if self.scaled is not None:
            larger, _, scaled_code = self._survey(x, self.scaled, _SCALED)
            most = survey.complexities.num_params * (self.scaled.growth or np.inf)
            grows = 1 + _REJECTIONS.index(Rejection.SCALED_GROWTH)
            outgrown = larger.complexities.num_params > most
            scaled_code = np.where((scaled_code == 0) & outgrown, grows, scaled_code)
            code = np.where(code == 0, scaled_code, code)
        steps, answers = self._seconds(survey)
        latency = None if answers is None else 1000 * self.answer_images * answers
        if latency is not None and self.limits.latency_ms is not None:
            slow = latency > LATENCY_MARGIN * self.limits.latency_ms
            code = np.where((code == 0) & slow, 1 + _REJECTIONS.index(Rejection.LATENCY), code)
        return Verdicts(code, survey.complexities, survey.features, memory, steps, latency)

    def _seconds(self, survey: Survey) -> tuple[FloatArray | None, ...]:
        """Predicted seconds an image of training steps and answers, as far as there are tables."""
        tables = self.operators, self.answering
        if survey.layers is None or tables == (None, None):
            return None, None
        return network_seconds(survey.layers, *tables)

    def _survey(
        self, x: FloatArray, limits: Limits, reasons: tuple[Rejection, ...]
    ) -> tuple[Survey, FloatArray, IntArray]:
        survey = self.family.survey(x, limits.resolution, self.num_classes, self.batch_size)
        costs = survey.complexities
        over_params = costs.num_params > (limits.num_params or np.inf)
        memory = self._step_bytes(survey, limits.resolution)
        over_memory = memory > (limits.memory_bytes or np.inf)
        over_macs = costs.macs > (limits.macs or np.inf)
        broken = [survey.trivial, over_params, over_memory, over_macs]
        places = [1 + _REJECTIONS.index(r) for r in (*reasons, Rejection.MACS)]
        code = np.select(broken, places, 0)
        return survey, memory, code.astype(np.int64)

    def _step_bytes(self, survey: Survey, resolution: int) -> FloatArray:
        """Memory of a training step, ``n``: the most that any batch size needs.

        That is the largest, but where it is one in bf16 of which fewer images, just not in it, may
        need more.
        """
        costs, slots = survey.complexities, self.optimizer_slots
        if self.bf16_from == np.inf:
            return step_bytes(costs, slots)
        sides = np.full_like(costs.macs, resolution) if survey.sides is None else survey.sides
        pixels = np.maximum(sides, 1).astype(np.float64) ** 2
        most = np.minimum(np.ceil(self.bf16_from / pixels) - 1, self.batch_size)  # not in bf16
        images = np.where(most >= (self.smallest_batch or self.batch_size), most, 0)
        kept = costs.activation_bytes * (images / self.batch_size)
        plain = step_bytes(replace(costs, activation_bytes=kept.astype(np.int64)), slots)
        plain = np.where(images > 0, plain, 0.0)
        rounded = step_bytes(costs, slots, BF16_BYTES)
        return np.where(most < self.batch_size, np.maximum(plain, rounded), plain)


def _joined(parts: list[FloatArray | None]) -> FloatArray | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if len(known) == len(parts) else None
