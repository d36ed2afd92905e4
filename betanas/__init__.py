"""BetaNAS searches for the convolutional network that fits your images, hardware and time.

``docs/api.md`` has every name below with an example. They are imported on first use: ``import
betanas`` itself stays free of everything heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from betanas.api import optimize
    from betanas.architecture.families import register_family
    from betanas.architecture.family import Family, Kernel, TrivialKernelError
    from betanas.architecture.layers import Architecture, Block, Layer
    from betanas.errors import BetaNASError, InputError
    from betanas.jobs.load import load_study
    from betanas.jobs.model import load_model
    from betanas.models.network import build_model
    from betanas.objectives import Objective, register_objective
    from betanas.parameters import Choice, Integer, Real
    from betanas.search.architecture_space import Sampler, candidates_func, space
    from betanas.trial import TrainingResult, TrialLatency, TrialTask

__all__ = [
    "Architecture",
    "BetaNASError",
    "Block",
    "Choice",
    "Family",
    "InputError",
    "Integer",
    "Kernel",
    "Layer",
    "Objective",
    "Real",
    "Sampler",
    "TrainingResult",
    "TrialLatency",
    "TrialTask",
    "TrivialKernelError",
    "__version__",
    "build_model",
    "candidates_func",
    "load_model",
    "load_study",
    "optimize",
    "register_family",
    "register_objective",
    "space",
]
__version__ = "0.1.0"

_MODULES = {
    "betanas.api": ("optimize",),
    "betanas.architecture.families": ("register_family",),
    "betanas.architecture.family": ("Family", "Kernel", "TrivialKernelError"),
    "betanas.architecture.layers": ("Architecture", "Block", "Layer"),
    "betanas.errors": ("BetaNASError", "InputError"),
    "betanas.jobs.load": ("load_study",),
    "betanas.jobs.model": ("load_model",),
    "betanas.models.network": ("build_model",),
    "betanas.objectives": ("Objective", "register_objective"),
    "betanas.parameters": ("Choice", "Integer", "Real"),
    "betanas.search.architecture_space": ("Sampler", "candidates_func", "space"),
    "betanas.trial": ("TrainingResult", "TrialLatency", "TrialTask"),
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is asked for, and keeps it."""
    if name not in _PLACES:
        raise AttributeError(f"module 'betanas' has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(_PLACES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
