"""studies/README.md documents every key, with its true default, and no other."""

import re
import tomllib
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from betanas.architecture.families import FAMILIES
from betanas.study.definition import StudyDefinition
from betanas.study.loading import built_in_studies, load_definition

README = (Path(__file__).parents[2] / "studies" / "README.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| ([^|]*) \| ([^|]*)\| ([^|]+) \|$", re.MULTILINE)


def section_of(annotation: object) -> type[BaseModel] | None:
    """The section class of a field, also where it is optional."""
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def sections(
    model: type[BaseModel] = StudyDefinition, place: str = ""
) -> dict[str, dict[str, FieldInfo]]:
    """Heading -> the fields that belong in its table; walks all of them."""
    rows: dict[str, FieldInfo] = {}
    found = {f"[{place}]" if place else "Top level": rows}
    for name, field in model.model_fields.items():
        if name in ("recipe_ranges", "priors"):  # written as values of [recipe] and [parameters]
            continue
        inner = section_of(field.annotation)
        if inner is not None:
            found |= sections(inner, f"{place}.{name}" if place else name)
        # At the top, sections have headings of their own and ``name`` is the file's.
        if place or (inner is None and name not in ("name", "parameters")):
            rows[name] = field
    return found


SECTIONS = sections()


def text_of(heading: str) -> str:
    parts = re.split(r"^## (.+)$", README, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[heading]


def documented(heading: str) -> dict[str, tuple[str, ...]]:
    return {key: rest for key, *rest in ROW.findall(text_of(heading))}


def as_toml(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def test_walk_finds_all_sections() -> None:
    assert set(SECTIONS) == {
        "Top level", "[dataset]", "[recipe]", "[budget]", "[limits]", "[limits.scaled]",
        "[search]", "[oneshot]", "[oneshot.budget]", "[objective]", "[latency]", "[storage]",
        "[track]",
    }  # fmt: skip


def test_no_heading_of_a_section_that_does_not_exist() -> None:
    headings = set(re.findall(r"^## (\[.+\])$", README, flags=re.MULTILINE))
    assert headings == {*SECTIONS, "[parameters]"} - {"Top level"}


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_has_a_row_and_every_row_a_key(heading: str) -> None:
    assert list(documented(heading)) == list(SECTIONS[heading])


@pytest.mark.parametrize("heading", SECTIONS)
def test_stated_defaults(heading: str) -> None:
    rows = documented(heading)
    for key, field in SECTIONS[heading].items():
        stated = rows[key][0].strip()
        if field.is_required():
            assert stated == "required", key
            continue
        default = field.get_default(call_default_factory=True)
        if default is None:
            assert stated == "-", key
            continue
        value = tomllib.loads(f"value = {stated.strip('`')}")["value"]
        assert value == as_toml(default), key
        assert type(value) is type(as_toml(default)), key


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_choice_is_named(heading: str) -> None:
    rows = documented(heading)
    for key, field in SECTIONS[heading].items():
        if "as above" in rows[key][-1]:
            continue
        annotations = [field.annotation, *get_args(field.annotation)]
        choices = [c for a in annotations if get_origin(a) is Literal for c in get_args(a)]
        for choice in choices:
            assert re.search(rf'`"?{choice}"?`', " ".join(rows[key])), (key, choice)


def test_ranges_of_the_parameters() -> None:
    stated: dict[str, tuple[list[float], list[float]]] = {}
    for line in text_of("[parameters]").splitlines():
        if not line.startswith("| `"):
            continue
        name_cell, range_cell, widest_cell, *_ = (c.strip() for c in line.strip("|").split("|"))
        names = re.findall(r"`(\w+)`", name_cell)
        ranges = tomllib.loads(f"value = [{range_cell}]")["value"]
        widest = tomllib.loads(f"value = {widest_cell}")["value"]
        if len(ranges) == 1:
            ranges *= len(names)
        for name, one in zip(names, ranges, strict=True):
            stated[name] = (one, widest)
    betanets = [FAMILIES[name] for name in ("betanet2", "betanet3")]
    for family in betanets:
        for name in family.names:
            assert stated[name] == (list(family.ranges[name]), list(family.domain[name])), name
    assert set(stated) == {name for family in betanets for name in family.names}


@pytest.mark.parametrize("family", ["betamix", "mbconv", "nasbench201", "efficientnet", "nasnet"])
def test_parameters_of_other_families(family: str) -> None:
    pattern = rf"^\| {family} `(\w+)` \| (.+?) \| (.+?) \|"
    rows = re.findall(pattern, text_of("[parameters]"), re.MULTILINE)
    stated = {name: (shown, meaning) for name, shown, meaning in rows}
    assert list(stated) == list(FAMILIES[family].names)
    for p in FAMILIES[family].parameters:
        assert stated[p.name] == (_shown(p.range), p.meaning)


def _shown(ends: tuple) -> str:
    if isinstance(ends[0], str):
        return ", ".join(f"`{option}`" for option in ends)
    return f"[{ends[0]:g}, {ends[1]:g}]"


def test_built_in_studies_are_listed_as_they_are() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.+) \|$", README.split("\n## ")[0], re.MULTILINE))
    assert set(rows) == {path.stem for path in built_in_studies()}
    for name, row in rows.items():
        d = load_definition(name)
        cells = [cell.strip() for cell in row.split("|")]
        assert cells[0].lower() == f"{d.family}, r={d.resolution}"
        unit = "s" if d.budget.unit == "seconds" else d.budget.unit
        budget = f"{d.budget.amount:g} {unit}"
        if d.objective.name == "table":
            budget += ", recorded"
        elif d.objective.name != "train":
            budget = "nothing is trained"
        assert cells[2] == budget
        assert cells[3] == str(d.search.trials)


def test_keys_that_may_change_are_the_free_ones() -> None:
    d = load_definition("digits")
    sentence = re.search(r"changing any key but (.+?) is refused", README, re.DOTALL)
    assert sentence is not None
    free = set(re.findall(r"`([\w.]+)`", sentence[1]))
    assert not free & d.meaning().keys()
    for key in free:
        section, name = key.split(".")
        assert name in type(getattr(d, section)).model_fields
