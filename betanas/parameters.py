"""The dimensions of a search space: a real number, a whole number, or one of several options.

In a vector, all float64, a whole number stands for itself and an option for its place in the
domain.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Self

from betanas.errors import InputError, KernelError

Value = float | int | str


class Parameter(ABC):
    """One dimension.

    Attributes:
        name: Its symbol.
        meaning: What it shapes, for people.
    """

    name: str
    meaning: str

    @property
    @abstractmethod
    def range(self) -> tuple[Any, ...]:
        """What is searched: ``(low, high)``, or the options."""

    @property
    @abstractmethod
    def widest(self) -> tuple[Any, ...]:
        """What a study may search at most, in the form of ``range``."""

    @abstractmethod
    def number(self, value: Value) -> float:
        """What stands for a value in a vector."""

    @abstractmethod
    def value(self, number: float) -> Value:
        """The value that a number of a vector stands for."""

    @abstractmethod
    def check(self, value: object, allowed: tuple[Any, ...]) -> None:
        """Raises KernelError for what is no value of ``allowed``, in the form of ``range``."""

    @abstractmethod
    def narrowed(self, entry: object) -> Self:
        """The parameter as a study file restricts it: to a range, to options, or to one value.

        Raises:
            ValueError: With the rule in words, for an entry that breaks one.
        """

    def holds(self, value: object) -> bool:
        """Whether it is a value of ``range``."""
        try:
            self.check(value, self.range)
        except KernelError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Real(Parameter):
    """A real number.

        >>> Real("width", 8, 64, log=True).holds(100)
        False

    Attributes:
        name: Its symbol.
        low: Lower end of the range that is searched.
        high: Upper end of that range.
        domain: The widest range that makes sense, which no study may leave; ``(low, high)`` if it
            is left out.
        meaning: What it shapes, for people.
        log: Whether its logarithm is searched evenly.
        prior: Mean and standard deviation of a normal distribution, cut off at the range's ends, by
            which a search's first phase draws; None for evenly. On a log scale it is the logarithm
            that is normal: the mean is its exponential, the deviation one of natural logarithms.
    """

    name: str
    low: float
    high: float
    domain: tuple[float, float] | None = None
    meaning: str = ""
    _: KW_ONLY
    log: bool = False
    prior: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        least, most = self.widest
        if not least <= self.low <= self.high <= most:  # NaN fails this too
            raise InputError(
                f"parameter {self.name}: low <= high must hold inside the domain "
                f"[{least:g}, {most:g}], but got (low={self.low:g}, high={self.high:g})"
            )
        if self.log and self.low <= 0:
            raise InputError(
                f"parameter {self.name}: low must be > 0 on a log scale, but got {self.low:g}"
            )
        mean, std = self.prior or (self.low, 1.0)
        if not (self.low <= mean <= self.high and 0 < std < math.inf):
            raise InputError(
                f"parameter {self.name}: a prior's mean must lie in [{self.low:g}, "
                f"{self.high:g}] and its std be > 0, but got (mean={mean:g}, std={std:g})"
            )

    @property
    def range(self) -> tuple[float, float]:
        """``(low, high)``, inclusive."""
        return self.low, self.high

    @property
    def widest(self) -> tuple[float, float]:
        """The domain."""
        return (self.low, self.high) if self.domain is None else self.domain

    def number(self, value: Value) -> float:
        """The number itself."""
        return float(value)

    def value(self, number: float) -> float:
        """The number itself."""
        return float(number)

    def check(self, value: object, allowed: tuple[Any, ...]) -> None:
        """Raises KernelError for what is no number, or outside of ``allowed``."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise KernelError(f"kernel.{self.name} must be a number, but got {value!r}")
        low, high = allowed
        if not low <= value <= high:  # NaN fails this too
            raise KernelError(
                f"kernel.{self.name} must be in [{low:g}, {high:g}], but got {value:g}"
            )

    def narrowed(self, entry: object) -> Self:
        """From ``[low, high]``, or one number."""
        place = f"parameters.{self.name}"
        ends = (entry, entry) if isinstance(entry, int | float) else entry
        if not isinstance(ends, list | tuple) or len(ends) != 2:
            raise ValueError(f"{place} must be [low, high], but got {entry!r}")
        low, high = (self._end(end, f"{place}.{i}") for i, end in enumerate(ends))
        if not low <= high:
            raise ValueError(
                f"{place}: low <= high must hold, but got (low={low:g}, high={high:g})"
            )
        least, most = self.widest
        if low < least or high > most:
            raise ValueError(
                f"{place} must stay inside [{least:g}, {most:g}], but got [{low:g}, {high:g}]"
            )
        if self.log and low <= 0:
            raise ValueError(f"{place} must be > 0 on a log scale, but got {low:g}")
        held = self.prior is not None and low <= self.prior[0] <= high
        prior = self.prior if held else None
        return replace(self, low=low, high=high, domain=self.widest, prior=prior)

    def _end(self, end: object, place: str) -> float:
        if isinstance(end, bool) or not isinstance(end, int | float):
            shown = str(end).lower() if isinstance(end, bool) else repr(end)
            raise ValueError(f"{place} must be a number, but got {shown}")  # noqa: TRY004
        if not math.isfinite(end):
            raise ValueError(f"{place} must be a finite number, but got {end!r}")
        return float(end)


@dataclass(frozen=True, slots=True)
class Integer(Real):
    """A whole number; attributes as in ``Real``.

    >>> Integer("depth", 2, 8).narrowed([3, 5]).range
    (3, 5)
    """

    def value(self, number: float) -> int:
        """The number as an ``int``."""
        return int(number)

    def check(self, value: object, allowed: tuple[Any, ...]) -> None:
        """Raises KernelError for what is no whole number, or outside of ``allowed``."""
        Real.check(self, value, allowed)
        if value != int(value):  # type: ignore[call-overload]
            raise KernelError(f"kernel.{self.name} must be a whole number, but got {value!r}")

    def _end(self, end: object, place: str) -> int:
        number = Real._end(self, end, place)  # noqa: SLF001 - slots and super() do not go together
        if number != int(number):
            raise ValueError(f"{place} must be a whole number, but got {end!r}")
        return int(number)


@dataclass(frozen=True, slots=True)
class Choice(Parameter):
    """One of several options, between which there is no order.

        >>> Choice("block", ("FMBC", "MBC")).value(1)
        'MBC'

    Attributes:
        name: Its symbol.
        options: What is searched.
        domain: All options, in the order of their numbers; ``options`` if they are left out.
        meaning: What it shapes, for people.
    """

    name: str
    options: tuple[str, ...]
    domain: tuple[str, ...] | None = None
    meaning: str = ""

    def __post_init__(self) -> None:
        if not all(isinstance(option, str) for option in self.options):
            raise InputError(
                f"parameter {self.name} must have options that are texts, but got {self.options!r}"
            )
        if not self.options or len(set(self.options)) < len(self.options):
            raise InputError(
                f"parameter {self.name} must have options, each once, but got {self.options!r}"
            )

    @property
    def codes(self) -> tuple[float, ...]:
        """The numbers of the options, rising."""
        return tuple(sorted(map(self.number, self.options)))

    @property
    def range(self) -> tuple[str, ...]:
        """The options."""
        return self.options

    @property
    def widest(self) -> tuple[str, ...]:
        """The domain."""
        return self.options if self.domain is None else self.domain

    def number(self, value: Value) -> float:
        """The option's place in the domain."""
        return float(self.widest.index(str(value)))

    def value(self, number: float) -> str:
        """The option of that place."""
        return self.widest[int(number)]

    def check(self, value: object, allowed: tuple[Any, ...]) -> None:
        """Raises KernelError for what is none of the options ``allowed``."""
        if value not in allowed:
            raise KernelError(
                f"kernel.{self.name} must be one of {', '.join(allowed)}, but got {value!r}"
            )

    def narrowed(self, entry: object) -> Self:
        """From a list of options, or one of them."""
        place = f"parameters.{self.name}"
        options = (entry,) if isinstance(entry, str) else entry
        if not isinstance(options, list | tuple) or not options:
            raise ValueError(f"{place} must be a list of options, but got {entry!r}")
        for option in options:
            if option not in self.widest:
                raise ValueError(
                    f"{place} must be among {', '.join(self.widest)}, but got {option!r}"
                )
        if len(set(options)) < len(options):
            raise ValueError(f"{place} must name each option once, but got {entry!r}")
        kept = tuple(option for option in self.widest if option in options)
        return replace(self, options=kept, domain=self.widest)


def is_whole(kernel: Mapping[str, object], parameters: Sequence[Parameter]) -> bool:
    """Whether a kernel has a value of every parameter, inside or outside the range searched."""
    try:
        for p in parameters:
            p.check(kernel[p.name], p.widest)
    except (KeyError, KernelError):
        return False
    return True
