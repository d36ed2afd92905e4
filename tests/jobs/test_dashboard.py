"""optuna-dashboard shows our notes and figures, and what people wrote stays theirs."""

import socket
import urllib.request
from pathlib import Path

import optuna
import pytest
from command import start, wait_for
from generated import generate_database, settings_of
from optuna.artifacts import get_all_artifact_meta
from optuna_dashboard import get_note, save_note

from betanas.database.stored import StoredStudy
from betanas.jobs.dashboard import MARK, attach_figures, open_artifacts, trial_note, write_notes
from betanas.study.definition import StudyDefinition
from betanas.study.loading import load_definition
from betanas.trial import TrialRecord

pytestmark = pytest.mark.slow

FIGURES = {
    "best architecture.png", "history.png", "outcomes.png", "parallel coordinates.png",
    "pareto.png", "trainings.png", "dendrogram.png", "cluster means.png",
}  # fmt: skip


@pytest.fixture(scope="module")
def definition() -> StudyDefinition:
    return load_definition("betanet2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dashboard")
    (folder / "storage").mkdir()
    generate_database(folder / "storage" / "betanet2.db", 20)
    return folder


def stored_study(folder: Path) -> StoredStudy:
    return StoredStudy.load(f"sqlite:///{folder}/storage/betanet2.db", "betanet2")


def test_notes_are_written_once_and_never_over_anothers(folder, definition) -> None:
    stored = stored_study(folder)
    assert write_notes(definition, stored) > 1
    assert write_notes(definition, stored) == 0
    best = max((r for r in stored.records() if r.value), key=lambda r: r.value)
    trial = optuna.Trial(stored.study, stored.study.trials[best.number]._trial_id)
    note = get_note(trial)
    assert f"{100 * best.value:.2f} %" in note
    assert "| MBC |" in note
    assert "data_wait_seconds" in note
    save_note(trial, "mine")
    assert write_notes(definition, stored) == 0
    assert get_note(trial) == "mine"
    assert get_note(stored.study).endswith(MARK)


def test_figures_are_attached_once_and_then_replaced(folder, definition) -> None:
    stored = stored_study(folder)
    store = open_artifacts(f"sqlite:///{folder}/storage/betanet2.db", "betanet2")
    for _ in range(2):
        attach_figures(definition, stored, store)
        metas = get_all_artifact_meta(stored.study)
        assert {m.filename for m in metas} == FIGURES
        assert len(metas) == len({m.filename for m in metas})
    for meta in metas:
        with store.open_reader(meta.artifact_id) as file:
            assert file.read(4) == b"\x89PNG"


def test_hostile_text_in_a_note_stays_text(definition) -> None:
    record = TrialRecord(
        3, "fail", "gp", reason="a|b`c`\n# big", audit={"message": "<script>x</script>"}
    )
    note = trial_note(definition, settings_of(definition), record)
    assert "`a/b'c' # big`" in note
    assert "`<script>x</script>`" in note


def test_the_real_dashboard_shows_them(browser, folder) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = start(folder, "dashboard", "--study", "betanet2", "--port", str(port))
    root = f"http://127.0.0.1:{port}"
    studies = f"http://127.0.0.1:{port}/api/studies"

    def answers() -> bytes:
        try:
            with urllib.request.urlopen(studies, timeout=5) as answer:
                return answer.read()
        except OSError:
            return b""

    try:
        wait_for(answers, 120)
        page = browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{root}/dashboard/studies/1/note")
        page.get_by_text("Written by betanas dashboard").wait_for(timeout=60_000)
        page.goto(f"{root}/dashboard/studies/1")
        page.get_by_text("history.png").first.wait_for(timeout=60_000)
        assert errors == []
        page.close()
    finally:
        process.kill()  # wsgiref swallows a Ctrl-C that comes during a request
        process.communicate(timeout=180)
