"""Watching a study: what the live view shows, and that watching ends with the study."""

import json
from pathlib import Path

from command import ask
from generated import generate_database, generated_records, settings_of
from rich.console import Console

from betanas.cli.watch import curve, line, picture
from betanas.study.loading import load_definition
from betanas.trial import PROGRESS_FILE, TrialRecord


def shown(definition, records, folder: Path) -> str:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(picture(definition, records, folder))
    return console.export_text()


def test_the_picture_tells_progress_best_and_what_runs(tmp_path: Path) -> None:
    definition = load_definition("betanet2")
    records = generated_records(definition, settings_of(definition), 20)
    records.append(TrialRecord(20, "running", "gp"))
    text = shown(definition, records, tmp_path)
    done = [r for r in records if r.state == "complete"]
    best = max(done, key=lambda r: r.value)
    assert f"{len(done)} of 200 feasible trials" in text
    assert f"{100 * best.value:.2f} %, trial {best.number}" in text
    assert "no_contraction" in text
    assert "█" in text
    assert "trial 20  running" in text
    (tmp_path / "00020").mkdir()
    news = [{"spent": 0.25, "epoch": 1.5}, {"best": 0.5}]
    (tmp_path / "00020" / PROGRESS_FILE).write_text("".join(json.dumps(n) + "\n" for n in news))
    text = shown(definition, records, tmp_path)
    assert "epoch 1.5, 25 % of its budget spent, 50.00 % so far" in text


def test_young_and_strange_studies_have_a_picture(tmp_path: Path) -> None:
    definition = load_definition("betanet2")
    assert "0 of 200 feasible trials" in shown(definition, [], tmp_path)
    strange = TrialRecord(0, "fail", "[red]", reason="[/] [bold]boom")
    assert "[/] [bold]boom" in shown(definition, [strange], tmp_path)
    (tmp_path / "00001").mkdir()
    (tmp_path / "00001" / PROGRESS_FILE).write_text('{"spent": 0.1}\n{"spe')
    text = shown(definition, [TrialRecord(1, "running")], tmp_path)
    assert "trial 1  epoch 0.0, 10 % of its budget spent" in text


def test_the_curve_rises_to_its_newest_value() -> None:
    assert curve([]) == ""
    values = [0.1, 0.3, 0.2, 0.9]
    drawn = curve([TrialRecord(i, "complete", "gp", v) for i, v in enumerate(values)])
    assert drawn[0] == "▁"
    assert drawn[-1] == "█"
    assert len(drawn) == 4
    below = curve([TrialRecord(i, "complete", "gp", v - 5) for i, v in enumerate(values)])
    assert below == drawn  # scores may be negative
    many = [TrialRecord(i, "complete", "gp", i / 1000) for i in range(1000)]
    assert len(curve(many)) == 48
    assert "rejected" not in line(many[0])


def test_watching_a_finished_study_ends(tmp_path: Path) -> None:
    (tmp_path / "storage").mkdir()
    generate_database(tmp_path / "storage" / "betanet2.db", 8)
    out, err = ask(tmp_path, "status", "--study", "betanet2", "--watch", "--set", "search.trials=1")
    assert len([text for text in err.splitlines() if text.startswith("trial")]) == 8
    assert "feasible" in out
