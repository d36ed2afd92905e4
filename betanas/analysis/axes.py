"""A search parameter as the axis of a figure: where its values lie, and what it is marked with."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from betanas.parameters import Choice, Parameter, Real


def ends(parameter: Parameter) -> tuple[float, float]:
    """The numbers of what is searched at both ends of the axis; a choice's options have numbers."""
    numbers = [parameter.number(value) for value in parameter.range]
    return min(numbers), max(numbers)


def place(parameter: Parameter, value: Any) -> float:
    """Where a value lies between the ends, 0 to 1, on the scale that is searched evenly.

    Outside the range it is below 0 or above 1; where nothing is searched, 0.5.
    """
    low, high = ends(parameter)
    number = parameter.number(value)
    if high <= low:
        return 0.5
    if isinstance(parameter, Real) and parameter.log and number > 0:
        low, high, number = math.log(low), math.log(high), math.log(number)
    return (number - low) / (high - low)


def places(kernel: Mapping[str, Any], parameters: Sequence[Parameter]) -> list[float]:
    """The places of a kernel's values, in the parameters' order."""
    return [place(p, kernel[p.name]) for p in parameters]


def options(parameter: Parameter) -> dict[str, float]:
    """The options of a choice and their places; empty for numbers."""
    if not isinstance(parameter, Choice):
        return {}
    return {option: place(parameter, option) for option in parameter.options}
