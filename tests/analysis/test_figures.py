"""Figures: the same bytes for the same data, whatever Matplotlib is set to, for any data."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import matplotlib as mpl
import pytest

from betanas.analysis.cells import short_count
from betanas.analysis.figures.architecture import draw_architecture
from betanas.analysis.figures.search import draw_history, draw_outcomes, draw_parallel_coordinates
from betanas.analysis.figures.style import inline_svg, to_png, to_svg
from betanas.analysis.figures.supernet import draw_gates, draw_supernets
from betanas.analysis.measure import ACCURACIES
from betanas.analysis.page import draw_all
from betanas.analysis.pareto import COSTS
from betanas.architecture.decoding import decode
from betanas.architecture.families import FAMILIES
from betanas.trial import TrialRecord

FIGURES = {
    "architecture_observed", "architecture_recommended", "history", "outcomes",
    "parallel_coordinates", "pareto", "scaling", "training", "importance", "partial_dependence",
    "dendrogram", "cluster_means", "model_quality",
}  # fmt: skip


def texts(svg: str) -> str:
    return " ".join(t.strip() for t in ET.fromstring(svg).itertext() if t.strip())  # noqa: S314


def test_a_study_has_every_figure_and_each_is_reproducible(findings) -> None:
    first = draw_all(findings)
    assert set(first) == FIGURES
    with mpl.rc_context({"font.size": 33, "svg.fonttype": "path", "figure.dpi": 37}):
        second = draw_all(findings)
    for name in ("history", "dendrogram", "architecture_observed"):
        svg = to_svg(first[name])
        assert svg == to_svg(second[name]), name
        assert "<dc:date>" not in svg
    assert to_png(first["history"]) == to_png(second["history"])
    assert to_png(first["history"]).startswith(b"\x89PNG")


def test_the_history_counts_what_was_rejected(records) -> None:
    said = texts(to_svg(draw_history(records, ACCURACIES)))
    rejected = sum(r.state == "pruned" for r in records)
    assert f"rejected ({rejected})" in said
    assert "failed (1)" in said
    assert "best so far" in said


def test_a_trial_that_was_ended_early_was_not_rejected(records) -> None:
    before = sum(r.rejected for r in records)
    first = next(r for r in records if r.rejected)
    ended = [replace(r, reason="stopped_early") if r is first else r for r in records]
    said = texts(to_svg(draw_history(ended, ACCURACIES)))
    assert f"rejected ({before - 1})" in said
    assert "ended early (1)" in said


def test_parallel_coordinates_mark_the_best_hundred(records, definition) -> None:
    said = texts(to_svg(draw_parallel_coordinates(records, definition.searched)))
    complete = sum(r.state == "complete" for r in records)
    assert complete > 100
    assert "best 50 (50)" in said
    assert "best 51 to 100 (50)" in said
    assert all(name in said for name in definition.parameters)


@pytest.mark.parametrize("name", ["betanet2", "betanet3"])
def test_an_architecture_shows_its_blocks_and_curves(name) -> None:
    family = FAMILIES[name]
    network = decode(family, family.published, 224, 100)
    said = texts(to_svg(draw_architecture(network, family.published)))
    for word in ("convolution", "Fused-MBConv", "MBConv", "stride 2", "contractions", "widths"):
        assert word in said
    assert ("adjustments" in said) == (name == "betanet3")
    assert {"224", "112", "56", "28", "14", "7"} <= set(said.split())


def test_blocks_of_other_families_are_named() -> None:
    family = FAMILIES["betamix"]
    kernel = {**family.published, "early": "residual", "late": "convnext", "B": 0.5}
    said = texts(to_svg(draw_architecture(decode(family, kernel, 32, 10), kernel)))
    for word in ("convolution", "residual", "ConvNeXt"):
        assert word in said


def test_a_network_of_one_layer_can_be_drawn() -> None:
    family = FAMILIES["betanet2"]
    kernel = {**family.published, "k": 4, "K": 1}
    network = decode(family, kernel, 16, 10)
    assert len(network.layers) == 1
    assert "convolution" in texts(to_svg(draw_architecture(network, kernel)))


def test_empty_and_strange_studies_can_be_drawn(definition) -> None:
    strange = TrialRecord(0, "fail", phase="_$\\frac{x}<b>&", reason="$_^{")
    for records in ([], [strange], [TrialRecord(0, "running")]):
        for figure in (
            draw_history(records, ACCURACIES),
            draw_outcomes({"_<i>": {"$x_": 1}} if records else {}),
            draw_parallel_coordinates(records, definition.searched),
        ):
            ET.fromstring(to_svg(figure))  # noqa: S314


def test_inline_figures_keep_their_ids_apart_and_follow_the_page(records) -> None:
    svg = inline_svg(to_svg(draw_history(records, ACCURACIES)), "history", "history")
    assert svg.startswith("<svg")
    assert "var(--ink)" in svg
    assert "#1c2128" not in svg
    ids = set(re.findall(r'\bid="([^"]+)"', svg))
    assert ids
    assert all(i.startswith("history-") for i in ids)
    used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)
    assert {a or b for a, b in used} <= ids


def test_counts_have_units() -> None:
    assert [short_count(x) for x in (0, 7, 999, 8_859_193, 2.5e9, 1e12)] == [
        "0", "7", "999", "8.86M", "2.5G", "1T",
    ]  # fmt: skip
    assert COSTS


def test_cells_and_reductions_are_named() -> None:
    family = FAMILIES["nasbench201"]
    network = decode(family, family.published, 32, 10)
    said = texts(to_svg(draw_architecture(network, {})))
    for word in ("convolution", "cell", "reduction", "stride 2"):
        assert word in said


@pytest.mark.parametrize("gates", [("kernel", "presence"), ("3x3-3", "5x5-6", "skip")])
def test_what_decides_of_each_block_is_drawn(records, gates) -> None:
    history = [
        {
            "steps": steps, "loss": 2.0, "runtime_ms": 3.0 - steps / 10,
            "choices": {"s1b1": "3x3-3", "s2b1": "5x5-6", "s2b2": "skip"},
            "gates": {name: dict.fromkeys(gates, 0.25) for name in ("s1b1", "s2b1", "s2b2")},
        }
        for steps in (5, 10)
    ]  # fmt: skip
    record = replace(records[0], audit={"supernet": {"history": history}})
    said = texts(to_svg(draw_gates(record)))
    for word in ("s1b1: 3x3-3", "s2b2: skip", "block" if "presence" in gates else "5x5-6"):
        assert word in said
    assert "runtime by the table (ms)" in texts(to_svg(draw_supernets([record, *records[1:3]], 0)))
