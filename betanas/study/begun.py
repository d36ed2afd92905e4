"""A study as it has begun: what its database recorded goes before what its file says by now."""

from collections.abc import Iterable, Mapping
from typing import Any

from betanas.errors import StudyFileError
from betanas.study.definition import StudyDefinition
from betanas.study.loading import check_study
from betanas.study.meaning import default_meaning
from betanas.study.ranges import put_together

_TOLD = 3  # keys that a note names


def as_begun(
    definition: StudyDefinition, recorded: Mapping[str, Any], schema: int, given: Iterable[str]
) -> tuple[StudyDefinition, str]:
    """What a study's trials mean, whatever the file says that names it.

    Args:
        definition: What the file says, with what was given beside it.
        recorded: The meaning that it has begun with, ``Settings.meaning``.
        schema: Of its settings.
        given: Dotted keys that were given beside the file: they stay as they are.

    Returns:
        The definition, and a note on what the file says otherwise; "" if it says nothing else.
    """
    defaults = default_meaning(schema)
    begun, now = defaults | dict(recorded), defaults | definition.meaning()
    kept = tuple(given)
    changed = [
        key
        for key in sorted(begun.keys() | now.keys())
        if begun.get(key) != now.get(key) and not _is_given(key, kept)
    ]
    if not changed:
        return definition, ""
    tree = definition.model_dump(exclude_unset=True)
    for key in changed:
        _put(tree, key.split("."), begun.get(key))
    try:
        found = check_study(put_together(tree), definition.name, (), None, shown=definition.name)
    except StudyFileError:  # a rule of today's that it has broken since before there was one
        return definition, ""
    told = [f"{key} = {_shown(begun, key)} (its file: {_shown(now, key)})" for key in changed]
    more = f" and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
    return found, (
        f"study {definition.name} is taken as it has begun, with {', '.join(told[:_TOLD])}{more}; "
        "--set goes before"
    )


def given_keys(overrides: Iterable[str], *, data: bool) -> list[str]:
    """The dotted keys that stand in overrides.

    Args:
        overrides: ``key=value`` each.
        data: Whether a folder of images was given beside them.
    """
    return [line.partition("=")[0].strip() for line in overrides] + ["dataset"] * data


def _is_given(key: str, given: Iterable[str]) -> bool:
    """Whether a key was given, by itself or by one that decides it, too."""
    places = {place for name in given for place in (name, *_decided_by(name))}
    return any(key == place or key.startswith(f"{place}.") for place in places)


def _decided_by(name: str) -> list[str]:
    """What else is settled by a given key."""
    section, _, rest = name.partition(".")
    if name == "recipe.preset":
        return [section]
    if section == "budget":  # which has one key
        return [section]
    apart = {"recipe": "recipe_ranges", "parameters": "priors"}.get(section)
    return [] if apart is None else [f"{apart}.{rest}" if rest else apart]


def _put(tree: dict[str, Any], steps: list[str], value: Any) -> None:
    """Writes a value to its place in nested tables; None takes away what is there."""
    name, *others = steps
    if others:
        _put(tree.setdefault(name, {}), others, value)
        if not tree[name]:
            del tree[name]
    elif value is None:
        tree.pop(name, None)
    else:
        tree[name] = value


def _shown(meaning: Mapping[str, Any], key: str) -> Any:
    return "none" if meaning.get(key) is None else meaning[key]
