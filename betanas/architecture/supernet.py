"""What one network is to hold all networks of a study: its shape, its choices and their runtimes.

The runtime of a network is the sum over its blocks' rows, as in the tables of ProxylessNAS and
Single-Path NAS (Cai et al., 2019; Stamoulis et al., 2019); a row is the sum over the block's
operators as the device has run them (``operators.py``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from betanas.architecture.layers import Architecture, LayerTable
from betanas.architecture.mbconv import BLOCKS, MBCONV, SKIP, block_name
from betanas.architecture.operators import OperatorTable, layer_seconds
from betanas.errors import InputError

_FIXED_LAYERS = 2  # before the first block: the stem and the block without expansion
_LARGEST = BLOCKS[-1]


@dataclass(frozen=True, slots=True)
class SupernetPlan:
    """The networks of family ``mbconv`` that one supernet holds.

    Attributes:
        shape: The kernel's parameters that are no blocks; one value each.
        options: Of each block that is there, what it may be, in the order of the network.
        fixed_ms: Runtime of all that is not chosen: stem, fixed blocks, head.
        rows_ms: ``block -> choice -> ms`` for all choices; 0 for a skipped block.
    """

    shape: Mapping[str, Any]
    options: Mapping[str, tuple[str, ...]]
    fixed_ms: float
    rows_ms: Mapping[str, Mapping[str, float]]

    def kernel(self, choices: Mapping[str, str]) -> dict[str, Any]:
        """The kernel of one choice a block; blocks that are not there are ``3x3-3``."""
        absent = {n: BLOCKS[0] for n in MBCONV.names if n not in self.shape}
        return {**self.shape, **absent, **choices}

    def runtime_ms(self, choices: Mapping[str, str]) -> float:
        """Of one choice a block: the sum of its rows."""
        return self.fixed_ms + sum(self.rows_ms[name][choices[name]] for name in self.options)

    @property
    def fastest(self) -> dict[str, str]:
        """The choices of the least runtime: rows do not depend on each other."""
        return {
            name: min(options, key=lambda c, n=name: self.rows_ms[n][c])  # type: ignore[misc]
            for name, options in self.options.items()
        }

    def largest(self, resolution: int, num_classes: int) -> Architecture:
        """The network of which all others are parts: every block ``5x5-6``."""
        kernel = self.kernel(dict.fromkeys(self.options, _LARGEST))
        return MBCONV.decode(kernel, resolution, num_classes)

    def block_layers(self) -> dict[int, str]:
        """Which layers of ``largest`` are blocks to choose, by their place."""
        return {_FIXED_LAYERS + i: name for i, name in enumerate(self.options)}

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``from_json`` gives back an equal plan."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuilds what ``to_json`` wrote."""
        options = {name: tuple(found) for name, found in data["options"].items()}
        return cls(**{**data, "options": options})


def plan_supernet(
    ranges: Mapping[str, tuple[Any, ...]],
    resolution: int,
    num_classes: int,
    answering: OperatorTable,
    images: int = 1,
) -> SupernetPlan:
    """The supernet of a study of family ``mbconv``.

    Args:
        ranges: Of the family's parameters.
        resolution: Input side in pixels.
        num_classes: Outputs.
        answering: What operators take on the study's device.
        images: Of one answer.

    Raises:
        InputError: If a parameter that is no block has more than one value.
    """
    shape = fixed_shape(ranges)
    options = {
        name: ranges[name]
        for stage in range(shape["stages"])
        for name in (block_name(stage, block) for block in range(shape["blocks"]))
    }
    plan = SupernetPlan(shape, options, 0.0, {name: {SKIP: 0.0} for name in options})
    networks = [
        MBCONV.decode(plan.kernel(dict.fromkeys(options, choice)), resolution, num_classes)
        for choice in BLOCKS
    ]
    layers_ms = 1000 * images * layer_seconds(LayerTable.of(*networks), answering)
    last = _FIXED_LAYERS + len(options)
    rows = {
        name: dict(zip(BLOCKS, map(float, layers_ms[:, place]), strict=True)) | {SKIP: 0.0}
        for place, name in plan.block_layers().items()
    }
    fixed = float(layers_ms[0, :_FIXED_LAYERS].sum() + layers_ms[0, last:].sum())
    return SupernetPlan(shape, options, fixed, rows)


def fixed_shape(ranges: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    """The value of each parameter that is no block; raises InputError where there are several."""
    shape = {}
    for p in MBCONV.shape:
        low, high = ranges[p.name]
        if low != high:
            raise InputError(
                f"parameters.{p.name} must be one value for search.strategy = one-shot, since a "
                f"supernet has one shape, but got [{low:g}, {high:g}]"
            )
        shape[p.name] = p.value(low)
    return shape


def gate_states(options: Sequence[str]) -> dict[str, set[bool]]:
    """In which states each part of a superkernel may be, so that it can be each of the options.

    Args:
        options: What a block may be.

    Returns:
        Of ``kernel`` (5x5, not 3x3), ``expansion`` (6, not 3) and ``presence``.

    Raises:
        InputError: If the options are not all combinations of their kernel sizes and expansions.
    """
    there = [choice for choice in options if choice != SKIP]
    states = {
        "kernel": {choice[0] == "5" for choice in there},
        "expansion": {choice[-1] == "6" for choice in there},
        "presence": {True} | ({False} if SKIP in options else set()),
    }
    if not there or len(there) != len(states["kernel"]) * len(states["expansion"]):
        raise InputError(
            "must combine all its kernel sizes with all its expansions for oneshot.method = "
            f"single-path, but got {', '.join(options)}"
        )
    return states


def network_text(choices: Mapping[str, str]) -> str:
    """A network on one line, a stage between bars.

    >>> network_text({"s1b1": "3x3-3", "s1b2": "skip", "s2b1": "5x5-6"})
    '3x3-3 skip | 5x5-6'
    """
    stages: dict[str, list[str]] = {}
    for name, choice in choices.items():
        stages.setdefault(name.partition("b")[0], []).append(choice)
    return " | ".join(" ".join(blocks) for blocks in stages.values())
