"""TensorBoard and MLflow are told of trials; what is broken there warns once and harms nothing."""

from pathlib import Path
from typing import Any

import pytest
from generated import generate_database

from betanas.database.stored import StoredStudy
from betanas.errors import StudyFileError
from betanas.jobs.tracking import MLflow, TensorBoard, Tracked, Tracker, trackers
from betanas.study.definition import StudyDefinition
from betanas.study.loading import load_definition
from betanas.trial import TrialRecord


class Silent:
    """A reporter that counts what passes through."""

    def __init__(self) -> None:
        self.recorded_here: list[int] = []

    def begins(self, definition: StudyDefinition, stored: StoredStudy, sobol: int) -> None:
        """Nothing."""

    def proposed(self, record: TrialRecord) -> None:
        """Nothing."""

    def progress(self, news: dict[str, Any]) -> None:
        """Nothing."""

    def recorded(self, record: TrialRecord) -> None:
        self.recorded_here.append(record.number)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyDefinition, StoredStudy]:
    return generate_database(tmp_path_factory.mktemp("tracked") / "study.db", 8)


def told(study: tuple[StudyDefinition, StoredStudy], make: Any, warnings: list[str]) -> Silent:
    """Two workers one after the other: the first is told of a few, the second of all."""
    definition, stored = study
    records, silent = stored.records(), Silent()
    tracker: Tracker = make()
    for record in records[:4]:
        if record.state == "complete":
            tracker.tell(record)
    tracked = Tracked(silent, {"it": make}, warnings.append)
    tracked.begins(definition, stored, 8)
    tracked.begins(definition, stored, 8)
    tracked.recorded(next(r for r in records if r.rejected))
    return silent


def complete(study: tuple[StudyDefinition, StoredStudy]) -> list[TrialRecord]:
    return [r for r in study[1].records() if r.state == "complete"]


def test_tensorboard_reads_every_trained_trial(study, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install 'betanas[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, warnings = tmp_path / "tensorboard", []
    told(study, lambda: TensorBoard(folder), warnings)
    assert warnings == []
    wanted = complete(study)
    assert sorted(p.name for p in folder.iterdir()) == [f"{r.number:05d}" for r in wanted]
    for record in wanted:
        events = EventAccumulator(str(folder / f"{record.number:05d}")).Reload()
        for name in ("accuracy", "train_loss"):
            points, history = events.Scalars(name), record.audit["history"]
            assert [p.step for p in points] == [e["steps"] for e in history]
            assert [p.value for p in points] == pytest.approx([e[name] for e in history])
        assert events.Scalars("hparam/accuracy")[0].value == pytest.approx(record.value)


def test_mlflow_has_a_run_for_every_trained_trial(study, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="pip install 'betanas[mlflow]'")
    uri, warnings = f"sqlite:///{tmp_path}/mlflow.db", []
    told(study, lambda: MLflow(uri, "betanet2"), warnings)
    assert warnings == []
    client = MLflow(uri, "betanet2")._client
    experiment = client.get_experiment_by_name("betanet2").experiment_id
    runs = {int(r.data.tags["betanas.trial"]): r for r in client.search_runs([experiment])}
    wanted = {r.number: r for r in complete(study)}
    assert set(runs) == set(wanted)
    assert len(client.search_runs([experiment])) == len(wanted)
    for number, run in runs.items():
        record = wanted[number]
        assert float(run.data.params["k"]) == record.parameters["k"]
        assert run.data.metrics["best_accuracy"] == record.value
        assert run.info.status == "FINISHED"
        curve = client.get_metric_history(run.info.run_id, "accuracy")
        assert [m.step for m in curve] == [e["steps"] for e in record.audit["history"]]


class Broken:
    """A tracker that fails when it is told of a trial."""

    def known(self) -> set[int]:
        return set(range(100))

    def tell(self, record: TrialRecord) -> None:
        raise OSError("server http://me:secret@host is away")


def test_a_broken_tracker_warns_once_and_is_left_out(study) -> None:
    definition, stored = study
    warnings: list[str] = []
    silent = Silent()
    missing = {"other": lambda: __import__("no_such_package")}
    tracked = Tracked(silent, {"it": Broken, **missing}, warnings.append)
    tracked.begins(definition, stored, 8)
    for record in complete(study) * 2:
        tracked.recorded(record)
    assert len(warnings) == 2
    assert "pip install 'betanas[other]'" in warnings[0]
    assert "host is away" in warnings[1]
    assert "secret" not in warnings[1]
    assert silent.recorded_here == [r.number for r in complete(study)] * 2


def test_tracking_is_asked_for_in_the_study_file_and_means_nothing(tmp_path: Path) -> None:
    plain = load_definition("digits")
    assert trackers(plain, tmp_path) == {}
    asked = load_definition("digits", ["track.tensorboard=true", "track.mlflow=sqlite:///m.db"])
    assert set(trackers(asked, tmp_path)) == {"tensorboard", "mlflow"}
    assert asked.meaning() == plain.meaning()
    with pytest.raises(StudyFileError, match=r"track\.tensorboard must be true or false"):
        load_definition("digits", ["track.tensorboard=3"])


def test_a_trial_replaces_that_of_a_study_that_was_deleted(study, tmp_path: Path) -> None:
    record, tensorboard = complete(study)[0], TensorBoard(tmp_path)
    tensorboard.tell(record)
    left = {path.name for path in tmp_path.glob("*/*")}
    (tmp_path / f"{record.number:05d}" / "old").touch()
    tensorboard.tell(record)
    assert [path.name for path in tmp_path.iterdir()] == [f"{record.number:05d}"]
    assert len(list(tmp_path.glob("*/*"))) == len(left)
