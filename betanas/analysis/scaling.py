"""One kernel at many resolutions: what the scaled-up model would cost. Free of torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from betanas.architecture.complexity import count
from betanas.architecture.decoding import decode
from betanas.architecture.family import Family, Kernel, TrivialKernelError
from betanas.errors import InputError

RESOLUTIONS = tuple(range(64, 1025, 32))


@dataclass(frozen=True, slots=True)
class ScaledCost:
    """The cost of a kernel at one resolution; None where it has no contraction there.

    Attributes:
        resolution: Input side in pixels.
        num_params: Trainable weights.
        macs: Multiply-adds of one image.
        activation_bytes: Kept activations of a training step.
        layers: Depth; 0 where the kernel is trivial.
    """

    resolution: int
    num_params: int | None
    macs: int | None
    activation_bytes: int | None
    layers: int


def scale(
    family: Family, kernel: Kernel, resolutions: Sequence[int], num_classes: int, batch_size: int
) -> list[ScaledCost]:
    """Counts one kernel at many resolutions.

    Args:
        family: Whose rules decode it.
        kernel: ``name -> value``.
        resolutions: Input sides in pixels, 16 to 4,096 each.
        num_classes: Outputs of the last layer.
        batch_size: Images of a training step; scales ``activation_bytes`` only.

    Raises:
        InputError: For a resolution out of range, or a kernel that does not fit the family.
    """
    if num_classes < 1 or batch_size < 1:
        raise InputError(
            f"classes and batch size must be >= 1, but got {num_classes} and {batch_size}"
        )
    rows = []
    for resolution in resolutions:
        try:
            architecture = decode(family, kernel, resolution, num_classes)
        except TrivialKernelError:
            rows.append(ScaledCost(resolution, None, None, None, 0))
            continue
        cost, layers = count(architecture, batch_size), len(architecture.layers)
        rows.append(
            ScaledCost(resolution, cost.num_params, cost.macs, cost.activation_bytes, layers)
        )
    return rows


def parse_resolutions(text: str) -> tuple[int, ...]:
    """Reads ``64,96,...,1024``: numbers, or two numbers and a last one with dots between.

    Raises:
        InputError: For anything else.
    """
    parts = [part.strip() for part in text.split(",")]
    wrong = InputError(
        f"--resolutions takes numbers such as 64,128,256 or 64,96,...,1024, but got {text!r}"
    )
    numbers = [part for part in parts if part != "..."]
    if not numbers or not all(part.isdecimal() for part in numbers):
        raise wrong
    if "..." not in parts:
        return tuple(int(part) for part in parts)
    if len(parts) != 4 or parts[2] != "...":
        raise wrong
    first, second, last = (int(part) for part in numbers)
    if second <= first or last < second or (last - first) // (second - first) > 4096:
        raise wrong
    return tuple(range(first, last + 1, second - first))
