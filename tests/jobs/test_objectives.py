"""Studies with several objectives: searched, killed, resumed, confirmed, reported, refused."""

import json
import signal
from pathlib import Path

import numpy as np
import optuna
import pytest
from command import ask, ask_json
from faults import AcknowledgedLog, start_process
from generated import settings_of

from betanas.analysis.front import Front
from betanas.analysis.status import result_json, told_result
from betanas.database.stored import StoredStudy
from betanas.errors import InputError, StorageError
from betanas.jobs.confirm import Wanted, confirm
from betanas.jobs.dashboard import attach_figures, open_artifacts, write_notes
from betanas.jobs.front import front_of
from betanas.jobs.load import load_study
from betanas.jobs.model_names import find_model
from betanas.jobs.optimize import SearchOptions, optimize
from betanas.jobs.report import analyse, write_report
from betanas.study.definition import StudyDefinition
from betanas.study.loading import load_definition

pytestmark = pytest.mark.usefixtures("plugins")

STUDY = """
family = "pyramid"
resolution = 16
objectives = ["accuracy", "latency", "macs"]
[dataset]
name = "digits"
validation = 0.25
[recipe]
evaluations = 4
batch_size = 32
[budget]
steps = 2
[objective]
name = "timed"
[latency]
batch_size = 2
[limits]
num_params = 20_000
memory_gib = 1
[search]
sampler = "nsga2"
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


def found_front(stored: StoredStudy) -> Front:
    front = front_of(stored)
    assert front is not None
    return front


def test_a_search_for_a_front(tmp_path: Path) -> None:
    stored = search(tmp_path)
    complete = [r for r in stored.records() if r.state == "complete"]
    assert len(complete) == 14
    for r in complete:
        assert r.values == {
            "accuracy": r.value, "latency": r.audit["latency"]["p50_ms"], "macs": r.macs,
        }  # fmt: skip
        assert r.audit["latency"]["p95_ms"] > 0
    assert {r.phase for r in complete} == {"sobol", "nsga2"}
    assert stored.reference is not None
    front = found_front(stored)
    assert front.reference == stored.reference
    assert [v for _, v in front.history] == sorted(v for _, v in front.history)
    # Optuna's own front is ours, and its names of the values are.
    optunas = optuna.load_study(study_name="mine", storage=f"sqlite:///{tmp_path}/mine.db")
    assert {r.number for r in front.trials} <= {t.number for t in optunas.best_trials}
    assert optunas.metric_names == ["accuracy", "latency", "macs"]
    assert len(optuna.visualization.plot_pareto_front(optunas).data) > 0
    assert front.trials[0].value == max(r.value for r in complete)
    assert [r.value for r in front.trials] == sorted((r.value for r in front.trials), reverse=True)
    place = ("--study", "mine.toml", "--storage", f"sqlite:///{tmp_path}/mine.db")
    status = ask_json(tmp_path, "status", *place)
    assert status["front"][0]["values"] == front.trials[0].values
    assert status["hypervolume"] == status["hypervolume_history"][-1]["hypervolume"] > 0


def test_a_front_without_a_complete_trial_is_empty(tmp_path: Path) -> None:
    definition, url = study(tmp_path)
    StoredStudy.begin(url, definition.name, settings_of(definition))
    best = ask_json(tmp_path, "best", "--study", "mine.toml", "--storage", url)
    assert (best["observed"], best["recommended"]) == (None, None)
    status = ask_json(tmp_path, "status", "--study", "mine.toml", "--storage", url)
    for told in (best, status):
        assert (told["objectives"], told["front"]) == (["accuracy", "latency", "macs"], [])
    words, _ = ask(tmp_path, "status", "--study", "mine.toml", "--storage", url)
    assert "trials    none yet" in words
    assert "front" not in words


def test_one_objective_has_no_front(tmp_path: Path) -> None:
    text = STUDY.replace('objectives = ["accuracy", "latency", "macs"]', "")
    stored = search(tmp_path, text.replace("nsga2", "random"), more=2)
    assert front_of(stored) is None
    assert stored.reference is None
    record = stored.records()[0]
    assert record.values == {}
    assert not {"values", "latency"} & {*record.to_json(), *record.audit}
    with pytest.raises(InputError, match=r"several objectives .* but it has 1 objective"):
        find_model(f"{tmp_path}/mine.toml:front:0", 16, 10, f"sqlite:///{tmp_path}/mine.db")


def told(stored: StoredStudy) -> list[object]:
    return [(r.number, r.state, r.values, r.parameters, r.phase) for r in stored.records()]


@pytest.mark.slow
def test_a_killed_worker_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "undisturbed").mkdir()
    deadly = STUDY.replace('"timed"', '"mortal"')
    worker = start_process(lambda: search(tmp_path, deadly))
    worker.join(200)
    assert worker.exitcode == -signal.SIGKILL
    assert told(search(tmp_path, deadly)) == told(search(tmp_path / "undisturbed"))


@pytest.mark.slow
def test_hypervolume_improvement_goes_on_where_it_was(tmp_path: Path) -> None:
    text = STUDY.replace("nsga2", "botorch").replace("trials = 14", "trials = 8")
    (tmp_path / "undisturbed").mkdir()
    expected = search(tmp_path / "undisturbed", text)
    search(tmp_path, text, more=9)
    found = search(tmp_path, text)
    assert told(found) == told(expected)
    assert {r.phase for r in found.records()} == {"sobol", "gp"}
    assert not any("fallback" in r.audit for r in found.records())


@pytest.mark.slow
def test_a_front_is_shown_confirmed_reported_and_trained(tmp_path: Path) -> None:
    stored = search(tmp_path)
    definition, url = study(tmp_path)
    front = found_front(stored)
    name = f"{tmp_path}/mine.toml"
    model = find_model(f"{name}:front:1", 16, 10, url)
    loaded = load_study(name, url)
    assert [kernel.values for kernel in loaded.front()] == [r.values for r in front.trials]
    assert "latency" in loaded.dataframe().columns
    assert model.parameters == front.trials[1].parameters
    with pytest.raises(InputError, match=f"must be a number below {len(front.trials)}, but got"):
        find_model(f"{name}:front:{len(front.trials)}", 16, 10, url)
    numbers = [r.number for r in front.trials]

    def called(command: str, *more: str) -> str:
        return ask(tmp_path, command, "--study", name, "--storage", url, *more)[0]

    assert f"trials {', '.join(map(str, numbers))}" in called("status")
    assert "latency (ms)" in called("best")
    assert "latency (ms)" in called("trials")
    assert "latency" in called("trials", "--csv").splitlines()[0].split(",")
    best = json.loads(called("best", "--json"))
    assert [point["number"] for point in best["front"]] == numbers
    assert best["observed"]["number"] == front.trials[0].number

    wanted = Wanted(top=2, seeds=2, largest="none")
    confirm(definition, stored, url, "cpu", 1, wanted, AcknowledgedLog(tmp_path / "log"))
    repeated = [r for r in stored.records() if r.is_replicate]
    assert {r.audit["repeats"] for r in repeated} == {r.number for r in front.trials[:2]}
    assert all(r.values["latency"] > 0 for r in repeated)
    assert [r.number for r in found_front(stored).trials] == numbers

    files = {f.name: f for f in write_report(analyse(definition, stored), tmp_path / "report")}
    assert {"front.csv", "hypervolume.csv", "front.svg", "hypervolume.png"} <= files.keys()
    assert "mine:front:PLACE" in files["report.html"].read_text()
    written = json.loads(files["report.json"].read_text())
    assert len(written["front"]["front"]) == len(front.trials)
    write_notes(definition, stored)
    attach_figures(definition, stored, open_artifacts(url, "mine"))


def test_a_weight_puts_the_latency_into_the_value(tmp_path: Path) -> None:
    text = STUDY.replace('objectives = ["accuracy", "latency", "macs"]', "")
    text = text.replace('name = "timed"', 'name = "timed"\nlatency_weight = 0.1')
    record = search(tmp_path, text.replace("nsga2", "random"), more=1).records()[0]
    latency = record.audit["latency"]["p50_ms"]
    assert record.accuracy == record.audit["accuracy"]
    assert record.value == pytest.approx(record.accuracy - 0.1 * np.log(latency))
    told = {"accuracy": record.accuracy, "latency_ms": latency}
    assert result_json(record) == {"number": 0, "value": record.value, **told}
    shown = f"{100 * record.accuracy:.2f} % at {latency:.2f} ms, weighed {record.value:.4f}"
    assert told_result(record) == shown
    with pytest.raises(StorageError, match=r"objective.latency_weight \(0.1 -> 0.0\)"):
        search(tmp_path, text.replace("latency_weight = 0.1", ""))


def test_a_value_that_is_missing_ends_the_worker_and_loses_nothing(tmp_path: Path) -> None:
    text = STUDY.replace('"timed"', '"empty"')
    url = f"sqlite:///{tmp_path}/mine.db"
    for number, lacks, got in ((8, "accuracy", "nan"), (9, "latency", "None")):
        rule = f"objective.name = empty must return a finite {lacks} or a failure, but got {got}"
        with pytest.raises(
            InputError, match=rf"{rule} for trial {number}; the trial is given back"
        ):
            search(tmp_path, text)
        states = [r.state for r in StoredStudy.load(url, "mine").records()]
        assert (len(states), states[-1]) == (number + 1, "running")
        assert "fail" not in states
        (tmp_path / f"mended {number}").touch()
    assert len([r for r in search(tmp_path, text).records() if r.state == "complete"]) == 14


def test_other_objectives_are_another_study(tmp_path: Path) -> None:
    stored = search(tmp_path, more=2)
    for changed in ('["accuracy", "latency"]', '["accuracy"]', '["accuracy", "macs", "latency"]'):
        with pytest.raises(StorageError, match=r"other settings: objectives \(\['accuracy', 'lat"):
            search(tmp_path, STUDY.replace('["accuracy", "latency", "macs"]', changed))
    assert [r.number for r in stored.records()] == [0, 1]


def test_several_workers_share_a_front(tmp_path: Path) -> None:
    workers = [start_process(lambda: search(tmp_path)) for _ in range(2)]
    for worker in workers:
        worker.join(200)
        assert worker.exitcode == 0
    stored = StoredStudy.load(f"sqlite:///{tmp_path}/mine.db", "mine")
    records = stored.records()
    assert sum(r.state == "complete" for r in records) >= 14
    assert stored.reference is not None
    assert len({tuple(r.parameters.values()) for r in records}) == len(records)
