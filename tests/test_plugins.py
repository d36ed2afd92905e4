"""Families and objectives of one's own: searched, trained, killed, resumed and reported as ours."""

import json
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import AcknowledgedLog, start_process
from own_plugins import Pyramid, Size, Squares

from betanas.analysis.status import summarize
from betanas.architecture.complexity import count
from betanas.architecture.decoding import decode
from betanas.architecture.families import FAMILIES, find_family, register_family
from betanas.architecture.family import Family, Survey, TrivialKernelError
from betanas.architecture.layers import Architecture
from betanas.architecture.limits import Feasibility, Limits
from betanas.arrays import FloatArray
from betanas.database.stored import StoredStudy
from betanas.errors import InputError, KernelError, StudyFileError
from betanas.jobs.confirm import Wanted, confirm
from betanas.jobs.dashboard import attach_figures, open_artifacts, write_notes
from betanas.jobs.model_names import find_model
from betanas.jobs.optimize import SearchOptions, optimize
from betanas.jobs.report import analyse, write_report
from betanas.objectives import find_objective
from betanas.search.plan import planned_problem
from betanas.study.definition import StudyDefinition
from betanas.study.loading import load_definition

pytestmark = pytest.mark.usefixtures("plugins")

STUDY = """
family = "pyramid"
resolution = 16
[parameters]
growth = 1.5
[dataset]
name = "digits"
validation = 0.25
[recipe]
evaluations = 4
batch_size = 32
[budget]
steps = 2
[objective]
name = "size"
[limits]
num_params = 20_000
memory_gib = 1
[search]
sobol_trials = 8
min_feasible = 4
trials = 14
"""


def study(folder: Path, text: str = STUDY) -> tuple[StudyDefinition, str]:
    (folder / "mine.toml").write_text(text)
    return load_definition(folder / "mine.toml"), f"sqlite:///{folder}/mine.db"


def search(folder: Path, text: str = STUDY, more: int | None = None) -> StoredStudy:
    definition, url = study(folder, text)
    return optimize(definition, url, SearchOptions("cpu", 1, more), AcknowledgedLog(folder / "log"))


# -- families -----------------------------------------------------------------------------------


def check_counted(family: Family, kernels: FloatArray, survey: Survey) -> None:
    """Each network that is not trivial is described as it is by itself."""
    for i in np.flatnonzero(~survey.trivial):
        network = decode(family, family.kernel(kernels[i]), 32, 10)
        assert survey.complexities.row(i) == count(network, 8)
        assert survey.features[i, 0] == pytest.approx(np.log(len(network.layers)))


def test_default_survey_equals_one_by_one() -> None:
    family, rng = Pyramid(), np.random.default_rng(0)
    kernels = np.column_stack(
        [
            rng.integers(1, 9, 60),
            rng.uniform(1, 2, 60),
            rng.integers(0, 2, 60),
            rng.integers(1, 40, 60),
        ]
    )
    survey = family.survey(kernels, 32, 10, 8)
    assert 0 < survey.trivial.sum() < 60
    assert np.isfinite(survey.features).all()
    check_counted(family, kernels, survey)
    verdicts = Feasibility(family, 10, 8, 2, Limits(32, 5000)).check(kernels)
    assert set(verdicts.counts()) == {"no_contraction", "num_params"}


def test_the_default_survey_counts_networks_of_cells_by_themselves() -> None:
    family, rng = Squares(), np.random.default_rng(0)
    columns = rng.integers(0, 5, 40), rng.integers(0, 5, 40), rng.integers(1, 65, 40)
    kernels = np.column_stack(columns).astype(np.float64)
    survey = family.survey(kernels, 32, 10, 8)
    assert survey.layers is None
    assert survey.trivial.tolist() == (kernels[:, 2] > 32).tolist()
    assert 0 < survey.trivial.sum() < 40
    assert np.isfinite(survey.features).all()
    check_counted(family, kernels, survey)
    assert len(family.survey(kernels[:0], 32, 10, 8).trivial) == 0


def test_a_family_of_cells_without_a_survey_is_searched(tmp_path: Path) -> None:
    text = STUDY.replace('"pyramid"', '"squares"').replace("growth = 1.5", "resolved = 16")
    definition, _ = study(tmp_path, text.replace("20_000", "500_000"))
    problem = planned_problem(definition, 10, 2**30, None)
    problem.check_feasible()
    verdicts = problem.rules.check(problem.sobol_points(0, 32))
    assert 0 < verdicts.feasible.sum() < 32
    assert set(verdicts.counts()) == {"num_params"}


def test_a_member_is_asked_for_its_stochastic_depth_at_the_studys_resolution(
    tmp_path: Path,
) -> None:
    class Small(Pyramid):
        """Networks for at most 64 pixels, whose branches are dropped the more the smaller."""

        name = "small"

        def decode(self, parameters: Any, resolution: int, num_classes: int) -> Architecture:
            if resolution > 64:
                raise TrivialKernelError(f"{resolution} pixels are too many")
            plain = super().decode(parameters, resolution, num_classes)
            *body, last = plain.layers
            return replace(plain, layers=(*body, replace(last, stochastic_depth=4 / resolution)))

    register_family(Small)
    ranged = "batch_size = 32\nstochastic_depth = {low = 0.0, high = 0.5}"
    text = STUDY.replace('"pyramid"', '"small"').replace("batch_size = 32", ranged)
    definition, _ = study(tmp_path, text.replace("growth = 1.5", ""))
    assert definition.beside == {"recipe.stochastic_depth": 0.25}


def test_of_the_betanets_the_default_survey_equals_theirs() -> None:
    family = FAMILIES["betanet2"]
    low, high = np.array(list(family.ranges.values())).T
    kernels = np.random.default_rng(0).uniform(low, high, (40, len(low)))
    plain, fast = (s(family, kernels, 64, 10, 8) for s in (Pyramid.survey, type(family).survey))
    np.testing.assert_array_equal(plain.trivial, fast.trivial)
    kept = ~fast.trivial
    np.testing.assert_array_equal(plain.complexities.macs[kept], fast.complexities.macs[kept])
    np.testing.assert_allclose(plain.features[kept], fast.features[kept])


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ({"block": "CNA"}, r"kernel\.block must be one of FMBC, MBC, but got 'CNA'"),
        ({"stages": 2.5}, r"kernel\.stages must be a whole number, but got 2\.5"),
        ({"stages": 9}, r"kernel\.stages must be in \[1, 8\], but got 9"),
        ({"stages": 8}, "8 stages leave nothing of 32"),
        ({"other": 1}, "a pyramid kernel must have exactly .* but got unknown other"),
    ],
)
def test_wrong_kernels(kernel: dict, message: str) -> None:
    with pytest.raises(KernelError, match=message):
        decode(Pyramid(), {**Pyramid.members["pyramid-small"], **kernel}, 32, 10)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('block = "CNA"', "parameters.block must be among FMBC, MBC, but got 'CNA'"),
        ("block = []", "parameters.block must be a list of options, but got []"),
        ("block = 3", "parameters.block must be a list of options, but got 3"),
        ('block = ["MBC", "MBC"]', "parameters.block must name each option once"),
        ("stages = [1, 2.5]", "parameters.stages.1 must be a whole number, but got 2.5"),
        ('stages = "two"', "parameters.stages must be [low, high], but got 'two'"),
        ("depth = 3", "parameters.depth is not a parameter of pyramid, which has stages, growth"),
    ],
)
def test_what_a_study_file_may_say_follows_from_the_family(
    tmp_path: Path, line: str, message: str
) -> None:
    with pytest.raises(StudyFileError) as caught:
        study(tmp_path, STUDY.replace("growth = 1.5", line))
    assert f"mine.toml: {message}" in str(caught.value)


def test_a_study_narrows_the_familys_parameters(tmp_path: Path) -> None:
    lines = 'block = "MBC"\nstages = 2\nwidth = [4, 9]'
    definition, _ = study(tmp_path, STUDY.replace("growth = 1.5", lines))
    assert definition.parameters == {
        "stages": (2, 2), "growth": (1.0, 2.0), "block": ("MBC",), "width": (4, 9),
    }  # fmt: skip
    assert json.loads(json.dumps(definition.meaning()))["parameters.block"] == ["MBC"]
    assert [p.widest for p in definition.searched][2] == ("FMBC", "MBC")


def test_families_are_found_registered_and_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"one of betanet2, .* nasnet, pyramid, squares, but"):
        find_family("pyramids")
    assert isinstance(find_family("pyramid"), Pyramid)
    Pyramid.name = "betanet2"
    try:
        with pytest.raises(InputError, match="betanet2 is a built-in family"):
            register_family(Pyramid)
    finally:
        Pyramid.name = "pyramid"
    found = find_model("pyramid-small", 16, 10, None)
    assert found.network.layers[-1].block == "MBC"


def test_an_installed_package_brings_plugins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "brought-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[betanas.families]\nbrought = brought:Brought\nbroken = brought:missing\n"
        "[betanas.objectives]\nbrought = own_plugins:Size\n"
    )
    (tmp_path / "brought.py").write_text(
        "from own_plugins import Pyramid\nclass Brought(Pyramid):\n    name = 'brought'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert "brought" not in sys.modules
    assert find_family("brought").name == "brought"
    assert find_objective("brought") is Size
    with pytest.raises(InputError, match="family broken of brought:missing cannot be loaded: Attr"):
        find_family("broken")
    with pytest.raises(InputError, match="pyramid, squares, brought, broken, but got 'none'"):
        find_family("none")
    assert study(tmp_path, STUDY.replace("pyramid", "brought"))[0].family == "brought"


# -- objectives ---------------------------------------------------------------------------------


def test_a_search_by_own_family_and_objective(tmp_path: Path) -> None:
    stored = search(tmp_path)
    records = stored.records()
    status = summarize("mine", records, 14)
    assert status["trials"]["complete"] == status["feasible"] == 14
    assert all(r.phase == "gp" and r.state == "complete" for r in records[8:])
    assert {r.parameters["block"] for r in records} == {"FMBC", "MBC"}
    assert {type(r.parameters["stages"]) for r in records} == {int}
    assert all(r.audit["device"] == "none" for r in records if r.state == "complete")
    assert len({r.fingerprint for r in records}) > 8


@pytest.mark.slow
def test_a_killed_worker_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "undisturbed").mkdir()
    expected = search(tmp_path / "undisturbed").records()
    deadly = STUDY.replace('"size"', '"deadly"')
    worker = start_process(lambda: search(tmp_path, deadly))
    worker.join(120)
    assert worker.exitcode == -signal.SIGKILL
    assert StoredStudy.load(f"sqlite:///{tmp_path}/mine.db", "mine").record(6).state == "running"
    found = search(tmp_path, deadly).records()
    assert [(r.number, r.state, r.value, r.parameters) for r in found] == [
        (r.number, r.state, r.value, r.parameters) for r in expected
    ]


@pytest.mark.slow
def test_a_pruner_stops_its_trials(tmp_path: Path) -> None:
    text = STUDY.replace("trials = 14", 'trials = 30\npruner = "median"\nsampler = "random"')
    records = search(tmp_path, text).records()
    stopped = [r for r in records if r.reason == "stopped_early"]
    assert stopped
    assert all(r.audit["steps"] < 4 for r in stopped)


@pytest.mark.slow
def test_its_trials_are_confirmed_and_reported(tmp_path: Path) -> None:
    stored = search(tmp_path)
    definition, url = study(tmp_path)
    wanted = Wanted(top=2, seeds=2)
    confirm(definition, stored, url, "cpu", 1, wanted, AcknowledgedLog(tmp_path / "log"))
    repeated = [r for r in stored.records() if r.is_replicate]
    assert len(repeated) == 6
    assert {r.state for r in repeated} == {"complete"}
    files = write_report(analyse(definition, stored), tmp_path / "report")
    page = next(f for f in files if f.suffix == ".html").read_text()
    assert "pyramid" in page
    assert "MBC" in page
    write_notes(definition, stored)
    attach_figures(definition, stored, open_artifacts(url, "mine"))


@pytest.mark.slow
def test_train_trains_an_own_family(tmp_path: Path) -> None:
    text = (
        STUDY.replace('name = "size"', "")
        .replace("evaluations = 4", "")
        .replace("sobol_trials = 8", "sobol_trials = 2")
        .replace("min_feasible = 4", "min_feasible = 2")
        .replace("trials = 14", "trials = 3")
    )
    records = search(tmp_path, text).records()
    complete = [r for r in records if r.state == "complete"]
    assert len(complete) == 3
    assert all(r.audit["steps"] == 2 and 0 < r.value < 1 for r in complete)


def test_an_unknown_objective_is_refused_and_another_one_is_another_study(tmp_path: Path) -> None:
    unknown = STUDY.replace('"size"', '"sizes"')
    with pytest.raises(
        InputError, match=r"objective.name must be one of train, .*size, deadly.*sizes"
    ):
        search(tmp_path, unknown)
    assert not (tmp_path / "mine.db").exists()
    search(tmp_path, more=1)
    with pytest.raises(InputError, match=r"objective.name \(size -> train\)"):
        search(tmp_path, STUDY.replace('name = "size"', ""))


def test_an_objective_that_cannot_be_opened_begins_nothing(tmp_path: Path) -> None:
    text = STUDY.replace("validation = 0.25", 'validation = 0.25\nroot = "nowhere"')
    with pytest.raises(FileNotFoundError):
        search(tmp_path, text)
    assert not (tmp_path / "mine.db").exists()
