"""Optuna's own command line and pictures work on our database as it is."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import optuna
import pytest
from generated import generate_database

from betanas.analysis.status import observed_best
from betanas.database.stored import StoredStudy

PICTURES = (
    "plot_contour", "plot_edf", "plot_intermediate_values", "plot_optimization_history",
    "plot_parallel_coordinate", "plot_param_importances", "plot_rank", "plot_slice",
    "plot_timeline",
)  # fmt: skip


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, StoredStudy]:
    path = tmp_path_factory.mktemp("optuna") / "study.db"
    return f"sqlite:///{path}", generate_database(path, 24)[1]


def asked(*arguments: str) -> Any:
    """What the ``optuna`` command answers in JSON."""
    optuna_command = Path(sys.executable).with_name("optuna")
    done = subprocess.run(
        [optuna_command, *arguments, "--format", "json"], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_optunas_command_line_reads_our_study(database: tuple[str, StoredStudy]) -> None:
    url, stored = database
    records = stored.records()
    (study,) = asked("studies", "--storage", url)
    assert (study["name"], study["n_trials"]) == ("betanet2", len(records))
    best = asked("best-trial", "--storage", url, "--study-name", "betanet2")
    ours = observed_best(records)
    assert ours is not None
    assert (best["number"], best["value"]) == (ours.number, ours.value)
    assert best["params"] == ours.parameters
    assert best["user_attrs"]["fingerprint"] == ours.fingerprint


def draw(module: Any, name: str, study: optuna.Study, names: list[str]) -> object:
    if name in ("plot_contour", "plot_rank"):
        return getattr(module, name)(study, params=names[:2])
    return getattr(module, name)([study] if name == "plot_edf" else study)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", PICTURES)
def test_optunas_pictures_are_drawn_with_matplotlib(
    database: tuple[str, StoredStudy], name: str
) -> None:
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as pictures

    mpl.use("Agg")
    assert draw(pictures, name, database[1].study, ["k", "G0"]) is not None
    pyplot.close("all")


@pytest.mark.parametrize("name", PICTURES)
def test_optunas_pictures_are_drawn_with_plotly(
    database: tuple[str, StoredStudy], name: str
) -> None:
    pytest.importorskip("plotly", reason="optuna.visualization wants it: pip install plotly")
    figure = draw(optuna.visualization, name, database[1].study, ["k", "G0"])
    assert figure.data or name == "plot_intermediate_values"  # type: ignore[attr-defined]
