"""Finding, reading and checking study files: the only reader of ``studies/``."""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from numbers import Integral, Real
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from betanas.errors import InputError, StudyFileError
from betanas.study.definition import StudyDefinition
from betanas.study.ranges import put_together
from betanas.study.recipe import Budget, PriorConfig, Recipe, RecipeRange, without_preset

_BARE_WORD = re.compile(r"[\w~./][\w~./:@+-]*")


Overrides = Mapping[str, Any] | Iterable[str]


def load_definition(
    study: str | Path, overrides: Overrides = (), data: str | Path | None = None
) -> StudyDefinition:
    """Reads a study file, applies overrides, checks the whole.

    Args:
        study: A built-in study's name, or a path to a TOML file.
        overrides: ``key=value`` with a dotted key and a TOML value, a bare word being a string; or
            a mapping of dotted keys to values.
        data: A folder of images: short for ``dataset.name = "imagefolder"`` with that root.

    Raises:
        StudyFileError: If there is no such study, it is no TOML, or it breaks a rule.
        InputError: If an override is not of the form ``key=value``.
    """
    path = find_study(study)
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyFileError(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise StudyFileError(f"{path} cannot be read: {error.strerror}") from None
    if "name" in tree:
        raise StudyFileError(
            f"{_shown(path)}: name is not a key that studies have; a study is named by its file, "
            f"here {path.stem}"
        )
    return check_study(tree, path.stem, overrides, data, shown=_shown(path))


def check_study(
    tree: dict[str, Any], name: str, overrides: Overrides, data: str | Path | None, shown: str
) -> StudyDefinition:
    """Applies overrides to what a study file says, and checks the whole.

    Args:
        tree: The file's tables; overrides are written into them.
        name: The study's name.
        overrides: As for ``load_definition``.
        data: As for ``load_definition``.
        shown: What errors call the place.

    Raises:
        StudyFileError: If a rule is broken.
        InputError: If an override is not of the form ``key=value``.
    """
    for override in override_lines(overrides):
        _apply(tree, override)
    if data is not None:
        dataset = _table(tree, "dataset", "--data")
        dataset.update(name="imagefolder", root=str(Path(data).expanduser()))
    try:
        return StudyDefinition.model_validate({**tree, "name": name})
    except ValidationError as error:
        first, *others = (_sentence(e) for e in error.errors())
        more = f" (and {len(others)} more: {'; '.join(others)})" if others else ""
        raise StudyFileError(f"{shown}: {first}{more}") from None


def changed_definition(
    definition: StudyDefinition, overrides: Overrides, data: str | Path | None
) -> StudyDefinition:
    """Applies further overrides to what has been checked; arguments as for ``load_definition``."""
    tree = put_together(definition.model_dump(exclude_unset=True))
    if any(line.startswith("recipe.preset") for line in override_lines(overrides)):
        without_preset(tree.get("recipe", {}))
    return check_study(tree, definition.name, overrides, data, shown=definition.name)


def override_lines(overrides: Overrides) -> list[str]:
    """Overrides as the command line gives them, ``key=value`` each.

    Raises:
        InputError: For a value that TOML cannot say, or one string in place of several.
    """
    if isinstance(overrides, str):
        raise InputError(f"overrides must be a mapping or a list of key=value, but got {overrides}")
    if not isinstance(overrides, Mapping):
        return list(overrides)
    return [f"{key}={toml_value(value, key)}" for key, value in overrides.items()]


def finals_override(time: str | None) -> list[str]:
    """``--finals TIME`` as an override, if it is given."""
    return [] if time is None else [f"search.finals={toml_value(time, 'search.finals')}"]


def warm_start_override(study: str | Path | None) -> list[str]:
    """``--warm-start STUDY`` as an override, if it is given."""
    key = "search.warm_start"
    return [] if study is None else [f"{key}={toml_value(study, key)}"]


def toml_value(value: object, key: str) -> str:
    """A value as TOML says it, on one line.

    Args:
        value: A number, a text, true or false, or a list or mapping of such.
        key: Whose value, for errors.

    Raises:
        InputError: For a value that TOML cannot say.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | os.PathLike):
        return json.dumps(os.fspath(value), ensure_ascii=False)
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        return repr(float(value))
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(v, key) for v in value)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k} = {toml_value(v, key)}' for k, v in value.items())}}}"
    raise InputError(
        f"overrides: {key} must be a number, a text, true or false, or a list or mapping of such, "
        f"but got {value!r}"
    )


def find_study(study: str | Path) -> Path:
    """Returns the file of a built-in study's name, or the path itself.

    Raises:
        StudyFileError: If there is no such study; names those that exist.
    """
    built_in = {path.stem: path for path in built_in_studies()}
    if str(study) in built_in:
        return built_in[str(study)]
    path = Path(study).expanduser()
    if path.is_file():
        return path
    if path.is_dir() or path.suffix == ".toml" or len(path.parts) > 1:
        raise StudyFileError(f"there is no study file {study}; give a path to a TOML file")
    close = difflib.get_close_matches(str(study), built_in, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise StudyFileError(
        f"there is no study {str(study)!r}: built-in are {', '.join(built_in)}, "
        f"or give a path to a TOML file{hint}"
    )


def built_in_studies() -> list[Path]:
    """The study files that ship with the package, by name."""
    shipped = Path(str(files("betanas"))) / "studies"
    folder = shipped if shipped.is_dir() else shipped.parent.parent / "studies"
    return sorted(folder.glob("*.toml"), key=lambda path: path.stem)


def _shown(path: Path) -> str:
    return f"studies/{path.name}" if path in built_in_studies() else str(path)


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise InputError(f"--set takes key=value, such as search.trials=50, but got {override!r}")
    if parts[0] == "name":
        raise InputError(
            f"--set {key}: name is not a key that studies have; a study is named by its file: copy "
            "that under another name, or give another --storage to begin the same study anew"
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        if not _BARE_WORD.fullmatch(text.strip()):
            raise InputError(
                f'--set {key}: the value must be TOML, such as 3, 0.5, true, "text" or [2, 5], '
                f"but got {text!r}"
            ) from None
        value = text.strip()
    table = tree
    for part in parts[:-1]:
        table = _table(table, part, f"--set {key}")
    if parts[-2:-1] == ["budget"] and parts[-1] in Budget.model_fields:
        table.clear()  # a budget has exactly one unit: the override's replaces the file's
    table[parts[-1]] = value


def _table(tree: dict[str, Any], name: str, place: str) -> dict[str, Any]:
    table = tree.setdefault(name, {})
    if not isinstance(table, dict):
        raise InputError(f"{place}: {name} is a value, not a table")
    return table


_RULES = {
    "greater_than": "must be > {gt:g}",
    "greater_than_equal": "must be >= {ge:g}",
    "less_than": "must be < {lt:g}",
    "less_than_equal": "must be <= {le:g}",
    "literal_error": "must be {expected}",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be a string",
    "tuple_type": "must be [low, high]",
    "too_long": "must be [low, high]",
    "model_type": "must be a table",
    "dict_type": "must be a table",
}


def _sentence(error: ErrorDetails) -> str:
    """One rule broken: its place, the rule, the value."""
    steps = [str(step) for step in error["loc"] if not _is_union_branch(step)]
    steps = ["recipe" if step == "recipe_ranges" else step for step in steps]
    if steps[:1] == ["priors"]:
        steps = ["parameters", *steps[1:2], "prior", *steps[2:]]
    place, kind, value = ".".join(steps), error["type"], error["input"]
    if kind == "missing" and isinstance(error["loc"][-1], int):
        place, kind = ".".join(steps[:-1]), "tuple_type"  # a list too short
    if kind == "missing":
        return f"{place or 'the file'} is required, but is not given"
    if kind == "extra_forbidden":
        return f"{place} is not a key that studies have{_suggestion(steps)}"
    if kind == "value_error":
        text = str(error["ctx"]["error"])
        if place and text.startswith(f"{place}."):
            return text
        return f"{place} {text}" if text.startswith("must") else f"{place}: {text}".lstrip(": ")
    rule = _RULES.get(kind, error["msg"][:1].lower() + error["msg"][1:])
    return f"{place} {rule.format(**error.get('ctx', {}))}, but got {_toml(value)}"


def _is_union_branch(step: int | str) -> bool:
    return isinstance(step, str) and step.startswith(("literal[", "constrained"))


def _suggestion(steps: list[str]) -> str:
    model: type[BaseModel] = StudyDefinition
    for step in steps[:-1]:
        if "prior" in steps[:-1]:
            model = PriorConfig
            break
        if model is Recipe:  # only a range has keys of its own there
            model = RecipeRange
            break
        annotation = model.model_fields[step].annotation
        model = next(a for a in (annotation, *get_args(annotation)) if hasattr(a, "model_fields"))
    keys = [key for key in model.model_fields if key != "name" or len(steps) > 1]
    close = difflib.get_close_matches(steps[-1], keys, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(keys)}"


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "a table"
    return str(value).lower() if isinstance(value, bool) else repr(value)
