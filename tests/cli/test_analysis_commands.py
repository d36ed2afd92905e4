"""Clusters, scaling and the report."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command import ask, ask_json
from generated import generate_database

pytestmark = pytest.mark.slow

TRIALS = 45


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose storage/betanet2.db holds a generated study."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "storage").mkdir()
    generate_database(folder / "storage" / "betanet2.db", TRIALS)
    return folder


def test_cluster_tells_the_clusters_and_the_recommended_kernel(folder: Path) -> None:
    told = ask_json(folder, "cluster", "--study", "betanet2", "--top", "12", "--clusters", "3")
    assert [c["label"] for c in told["clusters"]] == [1, 2, 3]
    assert sum(c["size"] for c in told["clusters"]) == 12
    assert set(told["recommended"]["parameters"]) == set(told["clusters"][0]["mean_parameters"])
    best = ask_json(folder, "best", "--study", "betanet2")
    assert told["recommended"] == best["recommended"]
    out, _ = ask(folder, "cluster", "--study", "betanet2", "--top", "12")
    head = out.splitlines()[0].split()
    assert head[:3] == ["parameter", "recommended", "cluster"]
    assert "mean evaluation" in out


def test_cluster_refuses_what_cannot_be(folder: Path) -> None:
    _, err = ask(folder, "cluster", "--study", "betanet2", "--clusters", "31", code=2)
    assert "31 clusters take at least 31 complete trials" in err
    _, err = ask(folder, "cluster", "--study", "betanet3", code=2)
    assert "has no study betanet3" in err


def test_scale_of_a_published_kernel(tmp_path: Path) -> None:
    told = ask_json(
        tmp_path, "scale", "--family", "betanet2", "--published", "--resolutions", "224,384"
    )
    assert [row["resolution"] for row in told["rows"]] == [224, 384]
    assert told["rows"][0]["num_params"] == 8_859_193
    assert set(told["rows"][0]) == {
        "resolution", "num_params", "macs", "activation_bytes", "layers",
    }  # fmt: skip
    everything = ask_json(tmp_path, "scale", "--family", "betanet3", "--published")
    assert [row["resolution"] for row in everything["rows"]] == list(range(64, 1025, 32))


def test_scale_of_a_studys_best(folder: Path) -> None:
    told = ask_json(folder, "scale", "--study", "betanet2", "--resolutions", "224,256,...,288")
    described = ask_json(folder, "describe", "--study", "betanet2", "--best")
    (first, *_) = told["rows"]
    for key in ("num_params", "macs", "activation_bytes"):
        assert first[key] == described[key]
    assert first["layers"] == len(described["layers"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--family", "betanet2"), "--published"),
        ((), "either --family or --study"),
        (("--family", "betanet9", "--published"), "family must be one of"),
        (("--family", "betanet2", "--published", "--resolutions", "8"), "resolution must be in"),
        (("--family", "betanet2", "--published", "--classes", "0"), "must be >= 1"),
        (("--family", "betanet2", "--published", "--rule", "wild"), "plain, tamed or compound"),
        (("--family", "nasbench201", "--published", "--rule", "tamed"), "needs a family with k"),
    ],
)
def test_scale_refuses_what_it_cannot_count(tmp_path: Path, arguments, said) -> None:
    _, err = ask(tmp_path, "scale", *arguments, code=2)
    assert said in err


def test_scale_compares_the_rules_and_tells_the_largest_that_fits(tmp_path: Path) -> None:
    asked = ("scale", "--family", "betanet2", "--published", "--max-params", "20000000")
    told = ask_json(tmp_path, *asked, "--rule", "tamed", "--compare", "--output", "out")
    assert set(told["comparison"]) == {"plain", "tamed", "compound"}
    assert told["rows"] == told["comparison"]["tamed"]["rows"]
    for found in told["comparison"].values():
        fitting = [r["resolution"] for r in found["rows"] if (r["num_params"] or 0) <= 20_000_000]
        assert found["largest"]["resolution"] == max(fitting)
    assert told["largest"]["resolution"] > told["comparison"]["plain"]["largest"]["resolution"]
    assert all((tmp_path / file).stat().st_size for file in told["files"])
    out, _ = ask(tmp_path, *asked, "--resolutions", "224,320", "--compare")
    assert "compound: the largest that fits is R=224 with 8.86M parameters" in out


def test_scale_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from betanas.cli import main; sys.argv = ['betanas', 'scale', '--family', "
        "'betanet2', '--published', '--json']\n"
        "try:\n    main()\nfinally:\n"
        "    assert not {'torch', 'optuna', 'matplotlib', 'sklearn'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(json.loads(done.stdout)["rows"]) == 31


def test_report_writes_one_page_and_its_numbers(folder: Path) -> None:
    told = ask_json(folder, "report", "--study", "betanet2", "--output", "out/report")
    assert told["files"][0] == "out/report/report.html"
    assert all((folder / file).stat().st_size for file in told["files"])
    data = json.loads((folder / "out/report/report.json").read_text())
    status = ask_json(folder, "status", "--study", "betanet2")
    assert data["summary"] | {"range_advice": data["range_advice"]} == status
    assert data["recommended"]["predicted_value"] == pytest.approx(
        ask_json(folder, "best", "--study", "betanet2")["recommended"]["predicted_value"], abs=1e-4
    )


def test_report_refuses_a_folder_that_is_a_file_before_it_works(folder: Path) -> None:
    (folder / "file").write_text("in the way")
    _, err = ask(folder, "report", "--study", "betanet2", "--output", "file", code=2)
    assert "--output file cannot be written" in err
