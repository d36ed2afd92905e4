"""Studies in real databases: what is stored, what is refused, who may read meanwhile."""

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from remote_worker import NAME, SETTINGS, SPACE, RemoteWorker, recorded_kernel

from betanas.architecture.complexity import Complexity
from betanas.database.connect import sqlite_file
from betanas.database.reading import SETTINGS_KEY
from betanas.database.settings import SCHEMA, Settings, other_cores
from betanas.database.stored import StoredStudy
from betanas.errors import InputError, NoStudyError, StorageError
from betanas.trial import Evaluation, Failure, TrainingResult, TrialRecord

COSTS = Complexity(num_params=1234, macs=56789, activation_bytes=1_000_000)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/deep/folder/mine.db"


def begin(url: str, settings: Settings = SETTINGS) -> StoredStudy:
    return StoredStudy.begin(url, NAME, settings)


def file_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


# -- beginning and going on ---------------------------------------------------------------------


def test_begin_makes_folders_and_load_finds_it(url: str) -> None:
    begun = begin(url)
    assert begun.settings == SETTINGS
    assert begun.records() == []
    assert StoredStudy.load(url, NAME).settings == SETTINGS
    assert begin(url).settings == SETTINGS


def test_settings_survive_json() -> None:
    for settings in (SETTINGS, replace(SETTINGS, memory_bytes=None, scaled_memory_bytes=7)):
        assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_first_settings_stand(url: str) -> None:
    # What ``auto`` meant when the study began holds for every worker since then.
    begin(url)
    other_machine = replace(SETTINGS, memory_bytes=5, scaled_memory_bytes=6)
    assert begin(url, other_machine).settings == SETTINGS


def test_two_studies_in_one_database(url: str) -> None:
    first, second = begin(url), StoredStudy.begin(url, "other", SETTINGS)
    assert second.claim().number == 0
    assert len(second.records()) == 1
    assert first.records() == []


# -- what is refused ----------------------------------------------------------------------------


def test_changed_meaning_names_its_keys(url: str) -> None:
    begin(url)
    meaning = {**SETTINGS.meaning, "resolution": 64, "recipe.flip": False}
    del meaning["family"]
    with pytest.raises(StorageError) as caught:
        begin(url, replace(SETTINGS, meaning=meaning))
    assert str(caught.value) == (
        "study mine has begun with other settings: family (betanet2 -> None), "
        "recipe.flip (True -> False), resolution (32 -> 64); "
        "change them back, or give the study file another name to begin a new study"
    )
    assert begin(url).settings == SETTINGS  # nothing lost


def test_a_study_older_than_a_key_means_its_default(url: str) -> None:
    begin(url)
    newer = {**SETTINGS.meaning, "search.pruner": "none", "recipe.evaluations": 10}
    assert begin(url, replace(SETTINGS, meaning=newer)).settings == SETTINGS
    with pytest.raises(StorageError, match=r"search.pruner \(none -> median\)"):
        begin(url, replace(SETTINGS, meaning={**newer, "search.pruner": "median"}))


def test_a_study_older_than_a_default_means_the_one_before(url: str) -> None:
    begin(url, replace(SETTINGS, schema=1))
    with pytest.raises(StorageError, match=r"recipe.evaluations \(0 -> 10\)"):
        begin(url, replace(SETTINGS, meaning={**SETTINGS.meaning, "recipe.evaluations": 10}))


TIMED = SETTINGS.meaning | {"budget.seconds": 4.0, "recipe.precision": "float32"}
COUNTED = TIMED | {"budget.seconds": None, "budget.steps": 4}
AUTOMATIC = COUNTED | {"recipe.precision": "auto"}


@pytest.mark.parametrize(
    ("meaning", "device", "ranks", "refused"),
    [
        (TIMED, "cpu", 2, None),
        (TIMED, "cpu", 1, "1 rank on cpu"),
        (TIMED, "cuda", 2, "2 ranks on cuda"),
        (COUNTED, "cuda", 2, None),
        (COUNTED, "cuda", 4, "4 ranks on cuda"),
        (AUTOMATIC, "cuda", 2, "2 ranks on cuda"),
    ],
)
def test_ranks_and_device_are_part_of_what_a_value_means(
    url: str, meaning: dict[str, object], device: str, ranks: int, refused: str | None
) -> None:
    settings = replace(SETTINGS, meaning=meaning, device="cpu", ranks=2)
    begin(url, settings)
    other = replace(settings, device=device, ranks=ranks)
    if refused is None:
        assert begin(url, other).settings == settings
        return
    cure = "go on with --device cpu --nproc-per-node 2 .*or give the study file another name"
    with pytest.raises(StorageError, match=f"trains with 2 ranks on cpu, and {refused} .*{cure}"):
        begin(url, other)


@pytest.mark.parametrize(
    ("meaning", "began", "now", "told"),
    [
        (TIMED, 2, 1, r"began with 2 cores a worker, now it is 1 core: 4 s of training are not"),
        (TIMED, 2, 2, None),
        (COUNTED, 2, 1, None),
        (TIMED, None, 1, None),
    ],
)
def test_other_cores_are_told_where_seconds_count_and_never_refused(
    url: str, meaning: dict[str, object], began: int | None, now: int, told: str | None
) -> None:
    settings = replace(SETTINGS, meaning=meaning, device="cpu", ranks=1, cores=began)
    begin(url, settings)
    fresh = replace(settings, cores=now)
    assert begin(url, fresh).settings == settings
    found = other_cores(settings, fresh)
    assert (found is None) == (told is None)
    assert re.search(told or "", found or "")


def test_an_old_study_goes_on_with_what_its_first_trial_was_trained_on(url: str) -> None:
    old = replace(SETTINGS, schema=1)
    stored = begin(url, old)
    here = replace(SETTINGS, device="cpu", ranks=1)
    begin(url, here)  # nothing was trained yet
    claimed = stored.claim()
    recorded_kernel(stored, claimed)
    assert stored.finish(claimed, TrainingResult(0.5, device="NVIDIA H100", ranks=1))
    with pytest.raises(StorageError, match="trains with 1 rank on cuda, and 1 rank on cpu"):
        begin(url, here)
    assert begin(url, replace(here, device="cuda")).settings == old


def test_changed_images(url: str) -> None:
    begin(url)
    with pytest.raises(StorageError, match="other settings: the images of the data set; change"):
        begin(url, replace(SETTINGS, dataset_fingerprint="other"))


def test_pairs_are_equal_whether_stored_or_not(url: str) -> None:
    # JSON knows no tuples: a meaning that came back from the database must still compare equal.
    begin(url)
    again = dict(SETTINGS.meaning) | {"parameters.k": [2.0, 10.0]}
    assert begin(url, replace(SETTINGS, meaning=again)).settings == SETTINGS


@pytest.mark.parametrize("open_study", [begin, lambda url: StoredStudy.load(url, NAME)])
def test_written_by_a_newer_version(url: str, open_study: Callable[[str], StoredStudy]) -> None:
    begun = begin(url)
    begun.study.set_user_attr(SETTINGS_KEY, SETTINGS.to_json() | {"schema": SCHEMA + 1, "x": 1})
    told = rf"newer BetaNAS \(schema {SCHEMA + 1}, .*pip install --upgrade"
    with pytest.raises(StorageError, match=told):
        open_study(url)


@pytest.mark.parametrize("open_study", [begin, lambda url: StoredStudy.load(url, NAME)])
def test_somebody_elses_study(url: str, open_study: Callable[[str], StoredStudy]) -> None:
    file_of(url).parent.mkdir(parents=True)
    optuna.create_study(study_name=NAME, storage=url).ask()
    with pytest.raises(StorageError, match="study mine that was not begun by betanas optimize"):
        open_study(url)


def test_what_another_worker_is_about_to_begin_has_not_begun(url: str) -> None:
    file_of(url).parent.mkdir(parents=True)
    optuna.create_study(study_name=NAME, storage=url)
    with pytest.raises(NoStudyError, match="has no study mine"):
        StoredStudy.load(url, NAME)


def test_no_such_study(url: str) -> None:
    cure = "has no study mine; begin it with: betanas optimize --study mine"
    with pytest.raises(StorageError, match=cure):
        StoredStudy.load(url, NAME)
    assert not file_of(url).exists()  # looking makes no database
    StoredStudy.begin(url, "other", SETTINGS)
    with pytest.raises(StorageError, match=cure):
        StoredStudy.load(url, NAME)


def test_no_database(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("these are words, not a database " * 40)
    for path, cause in ((text, "file is not a database"), (tmp_path, "unable to open database")):
        for open_study in (begin, lambda url: StoredStudy.load(url, NAME)):
            with pytest.raises(StorageError) as caught:
                open_study(f"sqlite:///{path}")
            assert f"storage sqlite:///{path} cannot be opened: {cause}" in str(caught.value)
    assert text.read_text().startswith("these are words")


@pytest.mark.parametrize("open_study", [begin, lambda url: StoredStudy.load(url, NAME)])
def test_tables_of_another_schema(tmp_path: Path, open_study: Callable[[str], StoredStudy]) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection, connection:
        connection.execute("CREATE TABLE studies (title TEXT)")
    with pytest.raises(StorageError, match=r"other\.db cannot be opened: .*no.* column"):
        open_study(f"sqlite:///{tmp_path}/other.db")


def test_tables_of_another_optuna(url: str) -> None:
    begin(url).database.engine.dispose()
    with closing(sqlite3.connect(file_of(url))) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    with pytest.raises(StorageError, match=r"mine\.db: The runtime optuna version .* no longer"):
        StoredStudy.load(url, NAME)


@pytest.mark.parametrize("open_study", [begin, lambda url: StoredStudy.load(url, NAME)])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("nonsense", "storage.url must be a database URL such as sqlite:///storage/study.db, but"),
        ("two words://", "storage.url must be a database URL"),
        ("", "storage.url must be a database URL"),
        ("postgresql://me:secret@127.0.0.1:port/db", "storage.url must be a database URL"),
        ("me:secret@127.0.0.1/db", "storage.url must be a database URL"),
        ("marble://me:secret@127.0.0.1/db", "cannot be opened: Can't load plugin"),
        ("sqlite+marble:///mine.db", "cannot be opened: Can't load plugin"),
        ("mysql+pymysql://me:secret@127.0.0.1/db", "the driver of mysql+pymysql is not installed"),
        ("postgresql+psycopg://me:secret@127.0.0.1:1/db", "cannot be opened: connection failed"),
        (
            "postgresql+psycopg://me:se%40cret@127.0.0.1:1/db?application_name=secret",
            "cannot be opened: connection failed",
        ),
    ],
)
def test_wrong_urls(
    wrong: str,
    message: str,
    open_study: Callable[[str], StoredStudy],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.db").touch()
    if wrong.startswith("postgresql+psycopg"):
        pytest.importorskip("psycopg")
    with pytest.raises(InputError) as caught:
        open_study(wrong)
    text = str(caught.value)
    assert message in text
    assert "\n" not in text
    assert "me:secret" not in text
    assert "se@cret" not in text
    assert "se%40cret" not in text


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_study_begins_in_a_file(url: str) -> None:
    with pytest.raises(StorageError, match=r"storage .* must be a file, .*; give sqlite:///FILE"):
        begin(url)


def test_sqlite_file() -> None:
    assert sqlite_file("sqlite:///storage/x.db") == Path("storage/x.db")
    assert sqlite_file("sqlite:////tmp/x.db") == Path("/tmp/x.db")  # noqa: S108
    assert sqlite_file("sqlite://") is None
    assert sqlite_file("postgresql+psycopg://me@host/x.db") is None
    with pytest.raises(StorageError):
        sqlite_file("two words://")


# -- a reader beside a writer -------------------------------------------------------------------


def test_write_ahead_mode(url: str) -> None:
    begin(url)
    with closing(sqlite3.connect(file_of(url))) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_another_process_reads_while_a_write_is_open(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/mine.db"
    with RemoteWorker(url) as reader:
        reader("work", 2)
        with closing(sqlite3.connect(tmp_path / "mine.db", isolation_level=None)) as writer:
            writer.execute("BEGIN EXCLUSIVE")
            writer.execute("UPDATE trial_values SET value = 0.0")
            assert reader("records") == [(0, "complete", 1.0), (1, "complete", 0.5)]
            opened = StoredStudy.load(url, NAME)  # as a dashboard or ``status`` would
            assert [r.value for r in opened.records()] == [1.0, 0.5]
            writer.execute("ROLLBACK")


def test_a_worker_writes_while_another_process_reads(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/mine.db"
    with RemoteWorker(url) as worker:
        worker("work", 1)
        with closing(sqlite3.connect(tmp_path / "mine.db", isolation_level=None)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM trials").fetchone() == (1,)
            assert worker("work", 2) == [1, 2]
            assert reader.execute("SELECT count(*) FROM trials").fetchone() == (1,)


# -- records ------------------------------------------------------------------------------------


RESULT = TrainingResult(
    value=0.875,
    epochs=2.5,
    steps=40,
    images=2560,
    train_seconds=12.5,
    data_wait_seconds=0.25,
    evaluation_seconds=1.5,
    startup_seconds=2.0,
    other_seconds=0.125,
    device="cpu",
    ranks=2,
    history=(Evaluation(1.0, 16, 5.0, 0.75, 1.5), Evaluation(2.5, 40, 12.5, 0.875, 0.5)),
)


def test_a_complete_trial(url: str) -> None:
    stored = begin(url)
    claimed = stored.claim()
    kernel = recorded_kernel(stored, claimed)
    assert kernel.keys() == SPACE.keys()
    stored.describe(claimed, "sobol", COSTS, "0123456789abcdef")
    running = stored.record(0)
    assert (running.state, running.value, running.phase) == ("running", None, "sobol")
    assert stored.finish(claimed, RESULT)

    (record,) = StoredStudy.load(url, NAME).records()
    assert record == stored.record(0)
    audit = dict(record.audit)
    assert record == TrialRecord(
        number=0,
        state="complete",
        phase="sobol",
        value=0.875,
        reason=None,
        parameters=kernel,
        num_params=1234,
        macs=56789,
        activation_bytes=1_000_000,
        fingerprint="0123456789abcdef",
        train_seconds=12.5,
        epochs=2.5,
        audit=audit,
    )
    for name in ("steps", "images", "data_wait_seconds", "evaluation_seconds", "startup_seconds"):
        assert audit[name] == getattr(RESULT, name), name
    assert (audit["device"], audit["ranks"]) == ("cpu", 2)
    assert audit["history"][1]["accuracy"] == 0.875
    assert TrialRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_a_rejected_trial(url: str) -> None:
    stored = begin(url)
    claimed = stored.claim()
    recorded_kernel(stored, claimed)
    stored.describe(claimed, "sobol", COSTS, None)
    stored.reject(claimed, "no_contraction")
    record = StoredStudy.load(url, NAME).record(0)
    assert (record.state, record.reason, record.value) == ("pruned", "no_contraction", None)
    assert (record.num_params, record.macs, record.fingerprint) == (None, None, None)
    assert record.parameters.keys() == SPACE.keys()


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_failed_trial(url: str, value: float | None) -> None:
    stored = begin(url)
    result = TrainingResult(value=value, failure=Failure.DIVERGED, message="loss is nan")
    assert stored.finish(stored.claim(), result)
    record = StoredStudy.load(url, NAME).record(0)
    assert (record.state, record.reason, record.value) == ("fail", "diverged", None)
    assert record.audit["message"] == "loss is nan"
    assert stored.counted() == 0


def test_a_result_is_recorded_once(url: str) -> None:
    stored = begin(url)
    claimed = stored.claim()
    assert stored.finish(claimed, RESULT)
    assert stored.finish(claimed, RESULT)  # as after an answer of the database that got lost
    assert [r.value for r in stored.records()] == [0.875]
    assert not stored.finish(claimed, replace(RESULT, value=None, failure=Failure.CRASHED))
    assert stored.record(0).state == "complete"
    assert stored.counted() == 1


def test_optunas_own_tools_see_the_trials(url: str) -> None:
    stored = begin(url)
    claimed = stored.claim()
    kernel = recorded_kernel(stored, claimed)
    stored.describe(claimed, "gp", COSTS, "0123456789abcdef")
    stored.finish(claimed, RESULT)
    study = optuna.load_study(study_name=NAME, storage=url)
    assert study.direction is optuna.study.StudyDirection.MAXIMIZE
    assert study.best_value == 0.875
    assert study.best_params == kernel
    assert study.best_trial.user_attrs["num_params"] == 1234
    assert study.best_trial.user_attrs["phase"] == "gp"


def test_training_results_survive_json() -> None:
    failed = TrainingResult(value=None, failure=Failure.OUT_OF_MEMORY, message="too large")
    for result in (RESULT, failed):
        assert TrainingResult.from_json(json.loads(json.dumps(result.to_json()))) == result
