"""A study file from a definition: the text that ``loading`` reads as an equal one."""

import json
import re
from collections.abc import Mapping
from typing import Any

from betanas.study.definition import StudyDefinition
from betanas.study.loading import toml_value
from betanas.study.ranges import put_together

_BARE_KEY = re.compile(r"[\w-]+", re.ASCII)


def study_file(definition: StudyDefinition, comment: str) -> str:
    """TOML with every key that was given, and all parameters' ranges.

    Args:
        definition: What the file is to say; its name is the file's, and stands in no key.
        comment: What the file begins with, a line or several.
    """
    given = definition.model_dump(exclude_unset=True, exclude_none=True, exclude={"name"})
    tree = put_together(given)
    lines = [f"# {line}" for line in comment.splitlines()]
    lines += _lines({k: v for k, v in tree.items() if not isinstance(v, Mapping)})
    for section, table in tree.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{section}]", *_lines(table)]
    return "\n".join(lines) + "\n"


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {toml_value(value, key)}" for key, value in table.items()]


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key)
