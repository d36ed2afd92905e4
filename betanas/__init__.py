"""BetaNAS searches for the convolutional network that fits your images, hardware and time."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from betanas.jobs.load import load_study

__all__ = ["__version__", "load_study"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports on first use: ``import betanas`` itself stays free of everything heavy."""
    if name == "load_study":
        from betanas.jobs.load import load_study  # noqa: PLC0415

        return load_study
    raise AttributeError(f"module 'betanas' has no attribute {name!r}")
