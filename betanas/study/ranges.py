"""Ranges and priors of a study file, which stand there in place of values and of ranges."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from betanas.architecture.family import Family
from betanas.parameters import Parameter, Real
from betanas.study.recipe import PriorConfig, check_prior

_TABLES = ({"low", "high", "prior"}, {"prior"})  # the keys that a parameter's table may have


def take_apart(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a study file says, with ranges apart from the recipe and priors from the parameters.

    Args:
        given: The file's tables. ``recipe`` may have a table in place of a value, which goes to
            ``recipe_ranges``; ``parameters`` one in place of a range, whose ``prior`` goes to
            ``priors``.

    Raises:
        ValueError: For a parameter's table with other keys, or for a file that has those sections.
    """
    found = dict(given)
    for section, apart in (("recipe", "recipe_ranges"), ("parameters", "priors")):
        entries = found.get(section)
        if not isinstance(entries, dict):
            continue
        if apart in given:
            raise ValueError(f"{apart} is no key; give {apart.split('_')[-1]} in {section}")
        tables = {name: entry for name, entry in entries.items() if isinstance(entry, dict)}
        plain = {name: entry for name, entry in entries.items() if name not in tables}
        if section == "parameters":
            for name, table in tables.items():
                if table.keys() not in _TABLES:
                    raise ValueError(
                        f"parameters.{name} must be [low, high], or a table of low, high and "
                        f"prior, or of prior alone, but got {', '.join(table) or 'an empty one'}"
                    )
            plain |= {
                n: [table["low"], table["high"]] for n, table in tables.items() if "low" in table
            }
            tables = {name: table["prior"] for name, table in tables.items()}
        if tables:
            found |= {section: plain, apart: tables}
    return found


def put_together(tree: dict[str, Any]) -> dict[str, Any]:
    """The way back: what a definition's keys are, as a study file says them."""
    found = dict(tree)
    if ranges := found.pop("recipe_ranges", {}):
        found["recipe"] = found.get("recipe", {}) | ranges
    if priors := found.pop("priors", {}):
        ends = found["parameters"]
        tables = {
            name: {"low": ends[name][0], "high": ends[name][1], "prior": prior}
            for name, prior in priors.items()
        }
        found["parameters"] = ends | tables
    return found


def check_priors(
    priors: Mapping[str, PriorConfig], family: Family, ranges: Mapping[str, tuple[Any, ...]]
) -> None:
    """Raises ValueError for a prior of what is no number, or whose mean lies outside its range.

    Args:
        priors: By their parameters' names.
        family: Whose parameters.
        ranges: What is searched of each.
    """
    numbers = [p.name for p in family.parameters if isinstance(p, Real)]
    for name, prior in priors.items():
        if name not in numbers:
            raise ValueError(
                f"parameters.{name} has a prior, but is no number of family {family.name}: these "
                f"are {', '.join(numbers) or 'none'}"
            )
        try:
            check_prior(prior, *ranges[name])
        except ValueError as error:
            raise ValueError(f"parameters.{name}.{error}") from None


def with_prior(parameter: Parameter, prior: PriorConfig | None) -> Parameter:
    """A real or whole number with its prior, if it has one."""
    if prior is None or not isinstance(parameter, Real):
        return parameter
    return replace(parameter, prior=(prior.mean, prior.std))
