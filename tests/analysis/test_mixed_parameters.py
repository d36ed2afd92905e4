"""Whole numbers, choices, searched recipe values in the analysis: told by name, not averaged."""

import csv
import json
from pathlib import Path

import pytest
from generated import generated_records, settings_of
from test_figures import texts

from betanas.analysis.figures.clusters import draw_cluster_means
from betanas.analysis.figures.model import draw_partial_dependence
from betanas.analysis.figures.search import draw_parallel_coordinates
from betanas.analysis.figures.style import to_svg
from betanas.analysis.findings import Findings
from betanas.architecture.families import FAMILIES
from betanas.jobs.report import analyse_records, write_report
from betanas.parameters import Choice
from betanas.study.definition import StudyDefinition
from betanas.study.loading import check_study

CHOICES = {p.name: p.options for p in FAMILIES["betamix"].parameters if isinstance(p, Choice)}
RATE = "recipe.learning_rate"


@pytest.fixture(scope="module")
def mixed() -> StudyDefinition:
    file = {
        "family": "betamix",
        "resolution": 32,
        "parameters": {"late": ["conv", "fused"], "head": "pooled"},
        "dataset": {"name": "digits"},
        "recipe": {"learning_rate": {"low": 1e-3, "high": 1e-2, "log": True}},
        "budget": {"seconds": 20},
        "search": {"sobol_trials": 40},
    }
    return check_study(file, "mixed", (), None, "mixed")


@pytest.fixture(scope="module")
def found(mixed: StudyDefinition) -> Findings:
    settings = settings_of(mixed, tuple("0123456789"))
    return analyse_records(mixed, settings, generated_records(mixed, settings, 60))


@pytest.fixture(scope="module")
def folder(found: Findings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    write_report(found, folder)
    return folder


def test_the_files_of_a_report_have_options_by_name(folder: Path) -> None:
    data = json.loads((folder / "report.json").read_text())
    assert data["ranges"]["late"] == ["conv", "fused"]
    for cluster in data["clusters"]:
        for name, options in CHOICES.items():
            assert cluster["mean_parameters"][name] in options
            assert 0 < cluster["option_shares"][name] <= 1
        assert 1 <= cluster["mean_parameters"]["stem"] <= 2
    kernels = [t["parameters"] for t in data["trials"]]
    kernels += [n["parameters"] for n in data["networks"]]
    kernels += [data["recommended"]["parameters"], data["observed"]["parameters"]]
    for kernel in kernels:
        assert all(kernel[name] in options for name, options in CHOICES.items())
        assert kernel["stem"] in (1, 2)
        assert RATE in kernel
    with (folder / "kernels.csv").open(newline="") as file:
        rows = {row["parameter"]: row for row in csv.DictReader(file)}
    assert rows["early"]["observed best"] in CHOICES["early"]
    assert rows["head"]["recommended best"] == "pooled"
    assert float(rows[RATE]["observed best"]) > 0


def test_the_model_is_asked_for_each_option_and_each_whole_number(found: Findings) -> None:
    dependence = {d.name: d for d in found.dependence}
    assert dependence["early"].values == list(CHOICES["early"])
    assert dependence["late"].values == ["conv", "fused"]
    assert dependence["stem"].values == [1, 2]
    assert "head" not in dependence  # it is fixed
    grid = dependence["G0"].grid  # on a log scale
    assert grid[1] / grid[0] == pytest.approx(grid[-1] / grid[-2])


def test_every_free_parameter_has_its_own_importance(found: Findings) -> None:
    free = [p.name for p in found.parameters if p.name != "head"]
    assert list(found.importance["GP length scales"]) == free
    assert sum(found.importance["GP length scales"].values()) == pytest.approx(1, abs=1e-4)


def test_figures_name_the_options(found: Findings) -> None:
    assert found.clustering is not None
    assert found.recommended is not None
    figures = {
        "parallel": draw_parallel_coordinates(found.records, found.parameters),
        "dependence": draw_partial_dependence(
            found.dependence, found.recommended.parameters, found.measure
        ),
    }
    for figure in figures.values():
        assert {*CHOICES["early"], "relu", "silu", "gelu"} <= set(texts(to_svg(figure)).split())
    recommended = found.recommended.parameters
    said = texts(
        to_svg(draw_cluster_means(found.clustering, found.parameters, recommended, found.measure))
    )
    told = [c.mean_parameters["activation"] for c in found.clustering.clusters]
    for option in {recommended["early"], *told}:
        assert str(option) in said.split()


def test_the_page_has_a_place_for_each_option(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    axes = {p["name"]: p for p in data["parameters"]}
    assert axes["early"]["options"] == {o: i / 4 for i, o in enumerate(CHOICES["early"])}
    assert axes["G0"]["log"]
    assert not axes["G0"]["options"]
    columns = [p["name"] for p in data["parameters"]]
    assert {t["kernel"][columns.index("kernel")] for t in data["trials"]} == {"3", "5"}
