"""A search space as a unit cube: real numbers, whole numbers and choices."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from scipy.special import ndtr, ndtri

from betanas.arrays import BoolArray, FloatArray
from betanas.parameters import Choice, Integer, Parameter, Real, Value

_ONE_HOT = np.sqrt(0.5)  # of an option's input: two options are a distance of 1 apart


@dataclass(frozen=True)
class Space:
    """The ranges of all that is searched; ``kernels`` below are vectors in their order.

    In the unit cube every value of a whole number or a choice has a cell of equal width, its centre
    on the way back.

    Attributes:
        parameters: The d dimensions.
    """

    parameters: tuple[Parameter, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The parameters' names."""
        return tuple(p.name for p in self.parameters)

    @cached_property
    def low(self) -> FloatArray:
        """Lower ends, ``d``."""
        return np.asarray(self._ends[0])

    @cached_property
    def high(self) -> FloatArray:
        """Upper ends, ``d``; equal to ``low`` where a parameter is fixed."""
        return np.asarray(self._ends[1])

    @cached_property
    def free(self) -> list[int]:
        """Indices of the parameters that are searched, not fixed."""
        return [i for i in range(len(self.names)) if self.low[i] < self.high[i]]

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's view of all parameters."""
        return {p.name: _distribution(p) for p in self.parameters}

    @property
    def searched(self) -> dict[str, BaseDistribution]:
        """Optuna's view of the free parameters."""
        return {self.names[i]: self.distributions[self.names[i]] for i in self.free}

    def kernels(self, unit: FloatArray) -> FloatArray:
        """Maps the unit cube, ``n x d``, to kernels, ``n x d``."""
        low, high = self._even
        scaled = low + (high - low) * unit
        values = np.where(self._log, np.exp(scaled), scaled) if self._log.any() else scaled
        if self._discrete.any():
            values = np.where(self._discrete, np.floor(values + 0.5), values)
        # Optuna's samplers cut off a range's last float; a limit might lie exactly there.
        last = np.where(self._discrete, self._top, np.nextafter(self._top, self._bottom))
        return self._coded(np.clip(values, self._bottom, last))

    def by_prior(self, unit: FloatArray) -> FloatArray:
        """Moves points spread evenly in the unit cube, ``n x d``, to where the priors expect more.

        Each value becomes that quantile of its prior, a normal distribution between the ends.
        """
        moved, (low, high) = unit.copy(), self._even
        for i, p in enumerate(self.parameters):
            if isinstance(p, Real) and p.prior is not None and i in self.free:
                mean, std = (math.log(p.prior[0]) if p.log else p.prior[0]), p.prior[1]
                first, last = ndtr((low[i] - mean) / std), ndtr((high[i] - mean) / std)
                values = mean + std * ndtri(first + (last - first) * unit[:, i])
                moved[:, i] = np.clip((values - low[i]) / (high[i] - low[i]), 0.0, 1.0)
        return moved

    def unit(self, kernels: FloatArray) -> FloatArray:
        """Maps kernels, ``n x d``, to the unit cube; fixed parameters become 0."""
        low, high = self._even
        width = high - low
        return (self._scaled(self._places(kernels)) - low) / np.where(width > 0, width, 1.0)

    def nearest(self, kernels: FloatArray) -> FloatArray:
        """Moves the whole numbers of ``n x d`` vectors to whole numbers, and choices to options."""
        if not self._discrete.any():
            return kernels
        return np.where(self._discrete, self.kernels(self.unit(kernels)), kernels)

    def moved(self, kernels: FloatArray, steps: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Kernels moved by steps in the unit cube.

        Where its step is not 0, a whole number moves by at least one, and a choice becomes one of
        its other options, each as likely.

        Args:
            kernels: ``n x d``.
            steps: ``n x d``; 0 for what stays.
            rng: Source of randomness; asked for choices only.
        """
        moved = self.kernels(np.clip(self.unit(kernels) + steps, 0.0, 1.0))
        if not self.discrete:
            return moved
        before, after = self._places(kernels), self._places(moved)
        for i in self.discrete:
            goes, most = steps[:, i] != 0, self._top[i]
            if isinstance(self.parameters[i], Choice):
                by = rng.integers(1, int(most) + 1, len(kernels))
                after[goes, i] = ((before[:, i] + by) % (most + 1))[goes]
                continue
            stays = goes & (after[:, i] == before[:, i])
            to = before[:, i] + np.where(steps[:, i] > 0, 1, -1)
            inside = (to >= self._bottom[i]) & (to <= most)
            after[stays, i] = np.where(inside, to, 2 * before[:, i] - to)[stays]
        return self._coded(after)

    def encode(self, kernels: FloatArray) -> FloatArray:
        """What a model sees of kernels, ``n x d`` to ``n x e``.

        The free parameters on the unit cube; of a choice, one input an option.
        """
        unit, places = self.unit(kernels), self._places(kernels)
        inputs = [
            _ONE_HOT * (places[:, [i]] == np.arange(self._top[i] + 1))
            if isinstance(self.parameters[i], Choice)
            else unit[:, [i]]
            for i in self.free
        ]
        return np.concatenate(inputs, axis=1) if inputs else np.zeros((len(unit), 0))

    @cached_property
    def encoded_width(self) -> int:
        """e, how many inputs ``encode`` makes."""
        return int(self.encode(self.low[None, :]).shape[1])

    @cached_property
    def encoded_high(self) -> FloatArray:
        """Upper ends of ``encode``'s inputs, ``e``; the lower ones are 0."""
        ends = [
            np.full(int(self._top[i]) + 1, _ONE_HOT)
            if isinstance(self.parameters[i], Choice)
            else np.ones(1)
            for i in self.free
        ]
        return np.concatenate([np.zeros(0), *ends])

    def decode(self, encoded: FloatArray) -> FloatArray:
        """The kernels, ``n x d``, that ``encode`` would make nearly such inputs of, ``n x e``.

        Of a choice the option of the largest input.
        """
        unit = np.zeros((len(encoded), len(self.names)))
        column = 0
        for i in self.free:
            width = int(self._top[i]) + 1 if isinstance(self.parameters[i], Choice) else 1
            inputs = encoded[:, column : column + width]
            # An option's cell is as wide as another's, its centre on the way back.
            unit[:, i] = inputs[:, 0] if width == 1 else (inputs.argmax(axis=1) + 0.5) / width
            column += width
        return self.kernels(np.clip(unit, 0.0, 1.0))

    def decode_gradient(self, gradient: FloatArray) -> FloatArray:
        """From a gradient in ``encode``'s inputs, ``n x e``, to the unit cube, ``n x d``.

        It is 0 for whole numbers and choices, as for fixed parameters: none of them has one.
        """
        unit = np.zeros((len(gradient), len(self.names)))
        column = 0
        for i in self.free:
            if isinstance(self.parameters[i], Choice):
                column += int(self._top[i]) + 1
                continue
            if not self._discrete[i]:
                unit[:, i] = gradient[:, column]
            column += 1
        return unit

    @cached_property
    def discrete(self) -> list[int]:
        """Indices of the free whole numbers and choices."""
        return [i for i in self.free if self._discrete[i]]

    def kernel(self, vector: FloatArray) -> dict[str, Any]:
        """Names the values of one vector, ``d``."""
        return {p.name: p.value(v) for p, v in zip(self.parameters, vector, strict=True)}

    def vector(self, kernel: Mapping[str, Value]) -> FloatArray:
        """Orders the values of one kernel, ``d``; it may have others beside them."""
        return np.array([p.number(kernel[p.name]) for p in self.parameters], dtype=np.float64)

    def vectors(self, kernels: Sequence[Mapping[str, Value]]) -> FloatArray:
        """Orders the values of n kernels, ``n x d``; n may be 0."""
        rows = [self.vector(kernel) for kernel in kernels]
        return np.array(rows, dtype=np.float64).reshape(-1, len(self.names))

    def holds(self, kernel: Mapping[str, object]) -> bool:
        """Whether it has a value of every parameter; somebody else's trials may not."""
        return all(p.name in kernel and p.holds(kernel[p.name]) for p in self.parameters)

    # Choices are counted by the place of their option among those that are searched, from 0; in
    # kernels they are the option's place in the domain.

    @cached_property
    def _codes(self) -> dict[int, FloatArray]:
        """The kernels' numbers of each choice's options, by the choice's index."""
        return {
            i: np.array(p.codes) for i, p in enumerate(self.parameters) if isinstance(p, Choice)
        }

    @cached_property
    def _ends(self) -> FloatArray:
        """Lowest and highest numbers in kernels, ``2 x d``."""
        ends = [
            (p.codes[0], p.codes[-1]) if isinstance(p, Choice) else p.range for p in self.parameters
        ]
        return np.array(ends, dtype=np.float64).reshape(-1, 2).T

    def _places(self, kernels: FloatArray) -> FloatArray:
        if not self._codes:
            return kernels
        places = kernels.copy()
        for i, codes in self._codes.items():
            places[:, i] = np.searchsorted(codes, kernels[:, i])
        return places

    def _coded(self, places: FloatArray) -> FloatArray:
        for i, codes in self._codes.items():
            places[:, i] = codes[places[:, i].astype(np.int64)]
        return places

    @cached_property
    def _bottom(self) -> FloatArray:
        return np.array([0.0 if i in self._codes else low for i, low in enumerate(self.low)])

    @cached_property
    def _top(self) -> FloatArray:
        tops = [len(self._codes[i]) - 1 if i in self._codes else h for i, h in enumerate(self.high)]
        return np.array(tops, dtype=np.float64)

    @cached_property
    def _log(self) -> BoolArray:
        return np.array([isinstance(p, Real) and p.log for p in self.parameters])

    @cached_property
    def _discrete(self) -> BoolArray:
        return np.array([isinstance(p, Integer | Choice) for p in self.parameters])

    @cached_property
    def _even(self) -> tuple[FloatArray, FloatArray]:
        """Ends on the scale that is searched evenly; discrete values have cells around them."""
        half = np.where(self._discrete & (self._top > self._bottom), 0.5, 0.0)
        return self._scaled(self._bottom - half), self._scaled(self._top + half)

    def _scaled(self, values: FloatArray) -> FloatArray:
        """On the scale that is searched evenly."""
        if not self._log.any():
            return values
        return np.where(self._log, np.log(np.where(self._log, values, 1.0)), values)


def _distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.options)
    assert isinstance(parameter, Real)  # noqa: S101 - the only other kind
    kind = IntDistribution if isinstance(parameter, Integer) else FloatDistribution
    return kind(parameter.low, parameter.high, log=parameter.log)  # type: ignore[arg-type]
