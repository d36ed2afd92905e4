"""The families that exist, by name."""

from betanas.architecture.betanet2 import BETANET2
from betanas.architecture.betanet3 import BETANET3
from betanas.architecture.family import Family
from betanas.errors import InputError

FAMILIES: dict[str, Family] = {family.name: family for family in (BETANET2, BETANET3)}


def find_family(name: str) -> Family:
    """Returns the family of that name; raises InputError naming those that exist."""
    try:
        return FAMILIES[name]
    except KeyError:
        raise InputError(f"family must be one of {', '.join(FAMILIES)}, but got {name!r}") from None
