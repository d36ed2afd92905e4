"""What a study's values are: accuracies, weighed by the latency, or scores; and how they read."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from generated import generated_records, settings_of
from test_figures import texts

from betanas.analysis.confirmation import Confirmed, Difference
from betanas.analysis.figures.front import draw_front
from betanas.analysis.figures.style import to_svg
from betanas.analysis.findings import Findings
from betanas.analysis.front import find_front
from betanas.analysis.measure import ACCURACIES, Measure
from betanas.analysis.page import render_page
from betanas.analysis.tables import all_tables
from betanas.cli.confirm_commands import _verdict
from betanas.jobs.report import analyse_records
from betanas.study.loading import load_definition
from betanas.study.sections import ObjectiveConfig
from betanas.trial import TrialRecord

WEIGHT = 0.1
LATENCY_MS = 2.5
OF_VALUES = ("history", "pareto", "partial_dependence", "model_quality", "cluster_means")


def weighed(record: TrialRecord) -> TrialRecord:
    """As if the study had timed it, at a latency of its own."""
    if record.value is None:
        return record
    latency = LATENCY_MS + record.number / 10
    audit = {"accuracy": record.value, "latency": {"p50_ms": latency, "p95_ms": 2 * latency}}
    value = record.value - WEIGHT * math.log(latency)
    return replace(record, value=value, audit={**record.audit, **audit})


def scored(record: TrialRecord) -> TrialRecord:
    """As if the value were a score; some are between 0 and 1."""
    if record.value is None:
        return record
    return replace(record, value=4 * (record.value - 0.7))


def analysed(objective: str, change: Callable[[TrialRecord], TrialRecord]) -> Findings:
    definition = load_definition("betanet2", ["search.sobol_trials=20", objective])
    settings = settings_of(definition)
    records = [change(r) for r in generated_records(definition, settings, 40)]
    best = max((r for r in records if r.value is not None), key=lambda r: r.value)
    again = {"repeats": best.number, "fingerprint": best.fingerprint}
    records += [
        replace(
            best, number=40 + i, phase="confirm", audit={**best.audit, **again, "seed_index": i}
        )
        for i in range(2)
    ]
    return analyse_records(definition, settings, records)


class Rendered:
    """A report's page, its figures as SVG, and what its script is given."""

    def __init__(self, findings: Findings) -> None:
        self.findings, self.tables = findings, all_tables(findings)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("betanas.analysis.page.to_png", lambda _: b"")  # it takes seconds
            self.page, self.pictures = render_page(findings, self.tables)
        found = re.search(r'<script type="application/json" id="data">(.*?)</script>', self.page)
        assert found is not None
        self.data = json.loads(found[1])

    def said(self, figure: str) -> str:
        return texts(str(self.pictures[f"{figure}.svg"]))


@pytest.fixture(scope="module")
def of_weighed() -> Rendered:
    return Rendered(analysed(f"objective.latency_weight={WEIGHT}", weighed))


@pytest.fixture(scope="module")
def of_scores() -> Rendered:
    return Rendered(analysed("objective.name=synflow", scored))


@pytest.mark.parametrize(
    ("name", "values", "title", "told"),
    [
        ("train", [0.5, 0.7012], "validation accuracy", "70.12 %"),
        ("table", [0.5, 0.7012], "validation accuracy", "70.12 %"),
        ("table", [0.5, -0.7012], "table", "-0.7012"),
        ("naswot", [0.5, 1234.5678], "naswot", "1234.57"),
        ("rank(naswot, synflow)", [0.5, 0.7012], "rank(naswot, synflow)", "70.12 %"),
    ],
)
def test_what_is_not_between_0_and_1_is_told_as_it_is(name, values, title, told) -> None:
    records = [TrialRecord(i, "complete", "gp", v) for i, v in enumerate(values)]
    found = Measure.of(ObjectiveConfig(name=name), [*records, TrialRecord(9, "running")])
    assert (found.title, found.told(values[-1])) == (title, told)
    assert found.axis() == (f"{title} (%)" if "%" in told else title)
    assert found.weighs is None


def test_figures_of_weighed_values_and_scores_have_no_per_cent(of_weighed, of_scores) -> None:
    for rendered, name in ((of_weighed, "weighed"), (of_scores, "synflow")):
        for figure in (*OF_VALUES, "confirmed"):
            said = rendered.said(figure)
            assert "%" not in said.replace("95 % interval", ""), figure
            assert "accuracy" not in said, figure
        assert name in rendered.said("history")
        assert name in rendered.said("confirmed")


def test_the_page_tells_weighed_values_beside_accuracy_and_latency(of_weighed) -> None:
    best = of_weighed.findings.observed
    assert best is not None
    assert f"{best.value:.4f}" in of_weighed.page
    assert f"<dd>{100 * best.accuracy:.2f} %<small>" in of_weighed.page
    predicted = of_weighed.findings.recommended.predicted_value
    assert f"<dd>{predicted:.4f}<small>weighed value predicted" in of_weighed.page
    assert f"{100 * predicted:.2f} %" not in of_weighed.page
    assert f"{100 * best.value:.2f} %" not in of_weighed.page
    data = of_weighed.data
    assert data["value"] == {"name": "weighed", "scale": 1, "digits": 4}
    assert data["weighs"] == {"name": "accuracy", "scale": 100, "digits": 2}
    row = data["trials"][best.number]
    assert (row["value"], row["accuracy"]) == (best.value, best.accuracy)
    assert row["latency"] == LATENCY_MS + best.number / 10
    assert "weighed" in [row[0] for row in of_weighed.tables["kernels"].rows]


def test_the_page_tells_scores_as_they_are(of_scores) -> None:
    best = of_scores.findings.observed
    assert f"<dd>{best.value:.4f}<small>trial {best.number}" in of_scores.page
    assert f"{100 * best.value:.2f} %" not in of_scores.page
    assert "the highest synflow." in of_scores.page
    assert of_scores.data["value"] == {"name": "value", "scale": 1, "digits": 4}
    assert not {"accuracy", "latency"} & set(of_scores.data["columns"])


def test_a_front_of_scores_has_no_per_cent() -> None:
    names = ("accuracy", "num_params")
    records = [
        TrialRecord(i, "complete", "gp", v, values={"accuracy": v, "num_params": 1e6 * (i + 1)})
        for i, v in enumerate((-3.0, 0.5, 7.0))
    ]
    front = find_front(names, records)
    assert front is not None
    said = texts(
        to_svg(draw_front(front, records, Measure.of(ObjectiveConfig(name="naswot"), records)))
    )
    assert "naswot" in said
    assert "%" not in said


def test_a_verdict_has_points_only_of_accuracies() -> None:
    difference = Difference(1, "largest num_params", 0.0123, -0.002, 0.03, 0.97)
    found = Confirmed((), 0.004, 4, (difference,), difference)
    said = _verdict(found, ACCURACIES)
    assert "noise of one training: 0.40 %" in said
    assert "difference +1.23 points, 95 % interval [-0.20, +3.00]" in said
    plain = _verdict(found, Measure.of(ObjectiveConfig(latency_weight=WEIGHT), ()))
    assert "noise of one training: 0.0040 " in plain
    assert "difference +0.0123, 95 % interval [-0.0020, +0.0300]" in plain
    assert "points" not in plain
