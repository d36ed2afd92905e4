"""The families that exist, by name: ours, those registered from Python, those of packages."""

from collections.abc import Mapping

from betanas.architecture.betamix import BETAMIX
from betanas.architecture.betanet2 import BETANET2
from betanas.architecture.betanet3 import BETANET3
from betanas.architecture.efficientnet import EFFICIENTNET
from betanas.architecture.family import Family
from betanas.architecture.mbconv import MBCONV
from betanas.architecture.nasbench201 import NASBENCH201
from betanas.architecture.nasnet import NASNET
from betanas.errors import InputError
from betanas.plugins import Registry

GROUP = "betanas.families"


def _made(family: Family | type[Family]) -> Family:
    """The family itself; a class is called once, and must declare what a family needs."""
    made = family if isinstance(family, Family) else family()
    if not getattr(made, "name", "") or not getattr(made, "parameters", ()):
        raise InputError(f"family {type(made).__name__} must declare a name and parameters")
    return made


_REGISTRY: Registry[Family] = Registry(
    "family",
    GROUP,
    {f.name: f for f in (BETANET2, BETANET3, BETAMIX, MBCONV, NASBENCH201, EFFICIENTNET, NASNET)},
    _made,
)
FAMILIES: Mapping[str, Family] = _REGISTRY.known  # those known without asking installed packages


def register_family(family: Family | type[Family]) -> None:
    """Makes a family known by its name, for the rest of this process.

    Args:
        family: The family, or its class if that takes no arguments.

    Raises:
        InputError: If one of ours has the name, or it has no name or parameters.
    """
    made = _made(family)
    _REGISTRY.register(made.name, made)


def find_family(name: str) -> Family:
    """Returns the family of that name; raises InputError naming those that exist."""
    return _REGISTRY.find(name)


def family_names() -> list[str]:
    """The names of all families, those of installed packages last."""
    return _REGISTRY.names()


def published_members() -> dict[str, Family]:
    """The families of all published kernels, by the kernel's name."""
    families = [find_family(name) for name in family_names()]
    return {name: family for family in families for name in family.members}
