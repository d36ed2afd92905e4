"""``betanas score``: scores beside sizes, and beside what trials have reached."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from betanas.analysis.measure import Measure
from betanas.architecture.families import find_family
from betanas.cli.score_commands import _print_scores
from betanas.errors import InputError
from betanas.jobs.score import Scored, correlations, score_family, to_json
from betanas.measures.scored import no_batches, noise_batches
from betanas.study.sections import ObjectiveConfig

FIELDS = {"number", "naswot", "synflow", "num_params", "macs", "value"}


def scored(number: int, score: float | None, value: float | None) -> Scored:
    return Scored(number, score, None, 100 * number, -number, value)


def test_a_score_that_is_no_number_ranks_last() -> None:
    found = [scored(1, None, 0.1), scored(2, 5.0, 0.2), scored(3, 6.0, 0.3), scored(4, 7.0, 0.4)]
    told = correlations([*found, scored(5, 99.0, None)])
    assert {name: own and round(own.spearman, 9) for name, own in told.items()} == {
        "naswot": 1.0, "synflow": None, "num_params": 1.0, "macs": -1.0,
    }  # fmt: skip
    data = json.loads(json.dumps(to_json(found), allow_nan=False))
    assert set(data["scores"][0]) == FIELDS
    assert set(data["correlations"]) == {"naswot", "num_params", "macs"}
    assert {"spearman", "kendall", "low", "high"} <= set(data["correlations"]["naswot"])


def test_random_kernels_of_a_family_are_scored() -> None:
    batches, told = [b[:4] for b in noise_batches(32, 0)], []
    family = find_family("nasbench201")
    found = score_family(family, 3, 32, 100, lambda _side: batches, "cpu", told.append)
    assert found == told
    assert [s.number for s in found] == [0, 1, 2]
    assert len({s.naswot for s in found}) == 3
    assert all(s.value is None and s.num_params >= 73_306 for s in found)
    assert score_family(family, 1, 32, 100, lambda _side: batches, "cpu", print) == found[:1]


def test_a_family_without_networks_at_a_resolution() -> None:
    class Nothing(type(find_family("betanet2"))):  # type: ignore[misc]
        name = "nothing"

        def decode(self, *_: Any) -> Any:
            return super().decode(self.published | {"k": 12.0}, 16, 10)

    with pytest.raises(InputError, match="nothing has nearly only trivial kernels"):
        score_family(Nothing(), 2, 16, 10, no_batches, "cpu", print)


@pytest.mark.slow
def test_the_recorded_study_is_scored(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "betanas", "score", "--study", "demo", "--number", "6"]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BETANAS_")}
    done = subprocess.run(
        [*command, "--device", "cpu", "--json"],
        cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert "naswot looks at noise" in done.stderr
    assert [set(s) for s in told["scores"]] == 6 * [FIELDS]
    assert all(0 < s["value"] < 1 and math.isfinite(s["naswot"]) for s in told["scores"])
    for own in told["correlations"].values():
        assert -1 <= own["low"] <= own["spearman"] <= own["high"] <= 1
    assert set(told["correlations"]) == {"naswot", "synflow", "num_params", "macs"}


def test_values_are_told_as_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    weighed = ObjectiveConfig(latency_weight=0.1)
    for objective, told in ((ObjectiveConfig(), "61.25 %"), (weighed, "0.6125")):
        _print_scores([scored(1, 2.0, 0.6125)], Measure.of(objective, []))
        assert capsys.readouterr().out.split()[-len(told.split()) :] == told.split()
