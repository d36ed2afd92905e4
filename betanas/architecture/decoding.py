"""From one kernel of any family to its architecture, checked."""

from betanas.architecture.family import Family, Kernel, TrivialKernelError
from betanas.architecture.layers import Architecture
from betanas.errors import InputError

__all__ = ["TrivialKernelError", "check_resolution", "decode"]

MIN_RESOLUTION, MAX_RESOLUTION = 16, 4096
_MOST_CLASSES = 1_000_000_000  # beyond, weights are more than 64 bits count


def decode(family: Family, kernel: Kernel, resolution: int, num_classes: int) -> Architecture:
    """Decodes one kernel.

    Args:
        family: Whose rules to apply.
        kernel: ``name -> value``, inside the family's domain.
        resolution: Input side in pixels, 16 to 4,096.
        num_classes: 1 to 1,000,000,000.

    Raises:
        KernelError: For a kernel that does not fit the family.
        TrivialKernelError: For a kernel that leaves nothing to build at this resolution.
        InputError: For a resolution or a number of classes out of range.
    """
    if num_classes < 1:
        raise InputError(f"num_classes must be >= 1, but got {num_classes}")
    if num_classes > _MOST_CLASSES:
        raise InputError(f"num_classes must be <= {_MOST_CLASSES:,}, but got {num_classes}")
    family.vector(kernel)
    check_resolution(resolution)
    return family.decode(kernel, resolution, num_classes)


def check_resolution(resolution: int) -> None:
    """Raises InputError for a side that networks are not made for."""
    if not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
        raise InputError(
            f"resolution must be in [{MIN_RESOLUTION}, {MAX_RESOLUTION}], but got {resolution}"
        )
