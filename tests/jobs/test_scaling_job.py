"""A kernel scaled up: what is measured, and the files."""

import csv

import pytest

from betanas.analysis.scaling import Ceiling, Rule, Scaling
from betanas.architecture.families import FAMILIES
from betanas.jobs.scaling import ScaleOptions, scale_up, write_scaling

FAMILY = FAMILIES["betanet2"]
SIDES = (96, 16, 32, 48, 64)
PARAMS_AT_64 = Scaling(FAMILY, FAMILY.published, 10).cost(64, 1).num_params


def scaled(ceiling: Ceiling, *, measures: bool = False, rule: Rule = Rule.PLAIN):
    told = []
    scaling = Scaling(FAMILY, FAMILY.published, 10, rule, 64)
    options = ScaleOptions(SIDES, 1, ceiling, measures, "cpu")
    return scale_up(scaling, options, told.append), told


def test_nothing_is_measured_unless_it_is_asked_for() -> None:
    found, told = scaled(Ceiling(macs=10_000_000))
    assert found.largest is not None
    assert found.largest.macs <= 10_000_000
    assert not told
    assert all(row.latency_ms is None for row in found.rows)
    assert scaled(Ceiling())[0].largest is None


@pytest.mark.slow
def test_a_limit_of_the_latency_is_found_by_few_measurements() -> None:
    found, told = scaled(Ceiling(latency_ms=1e9, num_params=PARAMS_AT_64))
    assert found.largest.resolution == 64
    assert 1 <= len(told) <= 3  # of four sides that fit
    assert found.largest.latency_ms > 0
    assert {r.resolution for r in told} == {r.resolution for r in found.rows if r.latency_ms}
    assert [row.resolution for row in found.rows] == list(SIDES)
    assert scaled(Ceiling(latency_ms=1e-9))[0].largest is None


def test_the_files_hold_every_curve(tmp_path) -> None:
    curves = [scaled(Ceiling(), rule=rule)[0] for rule in Rule]
    files = write_scaling(curves, "<b>betanet2</b>", 64, tmp_path)
    page = files[0].read_text(encoding="utf-8")
    assert "&lt;b&gt;betanet2&lt;/b&gt;" in page
    assert "<script" not in page
    with files[1].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(SIDES) * len(Rule)
    assert {row["rule"] for row in rows} == set(Rule)
    svg = (tmp_path / "figures" / "scaling.svg").read_text(encoding="utf-8")
    assert all(word in svg for word in ("plain", "tamed", "compound", "multiply-adds"))
