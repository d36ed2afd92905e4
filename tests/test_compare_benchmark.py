"""The benchmark behind the tables of networks beside each other at equal time."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "compare.py"
EACH, KEPT = 100, 180  # pictures of a class, and of both without those for validation


@pytest.fixture(scope="module")
def script() -> ModuleType:
    found = importlib.util.spec_from_file_location("compare_benchmark", SCRIPT)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def draw(folder: Path, part: str, each: int) -> None:
    for i, name in enumerate(("dark", "bright")):
        (folder / part / name).mkdir(parents=True)
        for number in range(each):
            level = np.random.default_rng([i, number]).integers(0, 100, (32, 32, 3)) + 120 * i
            Image.fromarray(level.astype(np.uint8)).save(folder / part / name / f"{number}.png")


@pytest.mark.slow
def test_networks_beside_each_other(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(script, "TURNS", 2)
    monkeypatch.setattr(script, "TURN_SECONDS", 0.2)
    monkeypatch.setattr(script, "PRECISIONS", ("float32",))
    data, known = tmp_path / "data", tmp_path / "known.json"
    draw(data, "train", EACH)
    draw(data, "test", 5)

    def call(do: str, *arguments: str) -> dict[str, Any]:
        given = ("--data", str(data), "--folder", str(tmp_path / "f"), "--output", str(known))
        line = ["compare.py", do, "--networks", "plain", *given, *arguments]
        monkeypatch.setattr(sys, "argv", line)
        script.main()
        return dict(json.loads(known.read_text())["plain"])

    recipes = ("--recipes", "Muon", "Muon, half the rates", "Adam 4e-3")
    paces = call("pace", *recipes)["paces"]
    assert paces.keys() == {"Muon", "Adam 4e-3"}  # which rates makes no difference
    for turns in (found for known in paces.values() for found in known.values()):
        assert len(turns) == 2
        assert min(turns) > 0
    assert call("pace", *recipes)["paces"] == paces  # it goes on where it stopped

    # The recipe is chosen before anyone looks at a test image.
    unread = data / "test" / "dark" / "0.png"
    picture = unread.read_bytes()
    unread.write_text("no picture")
    tuned = call("tune", *recipes, "--tuning-seconds", "0.2")
    assert tuned["validation"].keys() == {*recipes[1:]}
    with pytest.raises(SystemExit, match="no pace with 'Muon, batches of 50'"):
        call("tune", "--recipes", "Muon, batches of 50")
    assert tuned["recipe"] == max(tuned["validation"], key=tuned["validation"].get)

    # Each network is trained on the images that its pace brings, whatever the machine does.
    unread.write_bytes(picture)
    tuned["paces"] = {kind: {"bf16": [1], "float32": [1900, 2000, 2001]} for kind in paces}
    known.write_text(json.dumps({"plain": tuned | {"recipe": "Muon"}}))
    rows = call("train", "--seconds", "1", "--seeds", "1", "2")["1 s"]
    assert rows.keys() == {"1", "2"}
    assert all(0 <= row["epochs"] * KEPT - 2000 < KEPT for row in rows.values())  # a batch is KEPT
    assert all(row["top1"] > 0.9 for row in rows.values())
    assert call("train", "--seconds", "1", "--seeds", "1", "2")["1 s"] == rows
    capsys.readouterr()
    call("report")
    table = capsys.readouterr().out
    assert "| plain |" in table
    assert f"{100 * rows['1']['top1']:.2f}, {100 * rows['2']['top1']:.2f}" in table
