"""The report as files: complete, reproducible, and honest about what is missing."""

import csv
import json
from html import unescape
from pathlib import Path

import pytest
from generated import generated_records

from betanas.analysis.clusters import complete_trials
from betanas.errors import InputError
from betanas.files import write_whole
from betanas.jobs.report import analyse_records, write_report

CSV_FILES = {
    "trials", "kernels", "rejections", "pareto", "replicates", "histories", "scaling",
    "layers_observed", "layers_recommended", "clusters", "cluster_trials", "importance",
    "partial_dependence", "model_quality", "cross_validation",
}  # fmt: skip


@pytest.fixture(scope="module")
def written(findings, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "new" / "folder"
    files = write_report(findings, folder)
    assert files[0] == folder / "report.html"
    assert all(file.exists() for file in files)
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_page_numbers_and_figures_are_all_there(written, findings) -> None:
    assert {p.stem for p in written.glob("*.csv")} == CSV_FILES
    assert (
        len(list(written.glob("figures/*.svg"))) == len(list(written.glob("figures/*.png"))) == 13
    )
    assert not list(written.rglob("*.tmp"))
    data = json.loads((written / "report.json").read_text())
    assert data["observed"]["number"] == findings.observed.number
    assert len(data["trials"]) == 150
    assert data["replicates"]["degrees_of_freedom"] == 1


def test_the_page_loads_nothing_from_anywhere(written) -> None:
    page = (written / "report.html").read_text()
    assert len(page) < 5_000_000
    assert "default-src 'none'" in unescape(page)
    for sign in ('src="', "@import", 'href="http', "fetch("):
        assert sign not in page


def test_csv_and_json_say_the_same(written, findings) -> None:
    data = json.loads((written / "report.json").read_text())
    table = rows(written / "trials.csv")
    assert [float(r["k"]) for r in table] == [t["parameters"]["k"] for t in data["trials"]]
    assert [r["value"] for r in table if r["value"]] == [
        str(t["value"]) for t in data["trials"] if t["value"] is not None
    ]
    means = [c["mean_value"] for c in data["clusters"]]
    (evaluation,) = (
        r for r in rows(written / "clusters.csv") if r["parameter"] == "mean evaluation"
    )
    assert [float(evaluation[f"cluster {i}"]) for i in (1, 2, 3, 4)] == means
    fronts = rows(written / "pareto.csv")
    for cost, numbers in data["pareto"].items():
        assert [int(r["trial"]) for r in fronts if r["front"] == cost] == numbers
    assert len(rows(written / "histories.csv")) == 8 * sum(
        "history" in r.audit for r in findings.records
    )
    assert rows(written / "scaling.csv")[0]["resolution"] == "64"


def test_the_same_database_gives_the_same_bytes(
    written, definition, settings, records, tmp_path
) -> None:
    again = write_report(analyse_records(definition, settings, records), tmp_path)
    for file in again:
        twin = written / file.relative_to(tmp_path)
        assert file.read_bytes() == twin.read_bytes(), file.name


def test_importance_is_asked_in_four_ways(findings) -> None:
    assert set(findings.importance) == {
        "GP length scales",
        "GP main effects",
        "fANOVA",
        "PED-ANOVA",
    }
    for own in findings.importance.values():
        assert set(own) == set(findings.ranges)
        assert sum(own.values()) == pytest.approx(1, abs=1e-4)
    assert findings.quality.r2 > 0.5


@pytest.mark.parametrize("number", [0, 2])
def test_young_studies_have_a_report_that_says_what_is_missing(
    definition, settings, tmp_path, number
) -> None:
    few = generated_records(definition, settings, number)
    found = analyse_records(definition, settings, few)
    files = write_report(found, tmp_path)
    assert any("importance" in note for note in found.notes)
    page = files[0].read_text()
    assert "complete trials" in page
    assert ("No trial is complete yet" in page) == (not complete_trials(few))


def test_a_folder_that_cannot_be_written_is_a_clear_error(findings, tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"--output .* cannot be written"):
        write_report(findings, tmp_path / "file")


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path) -> None:
    write_whole(tmp_path / "a", "old")
    with pytest.raises(TypeError):
        write_whole(tmp_path / "a", None)  # type: ignore[arg-type]
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"
