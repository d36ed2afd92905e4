"""Latencies: of the best trials' networks, noted where Optuna's tools find them; as a limit."""

from pathlib import Path

import optuna
import pytest
from command import TINY
from faults import AcknowledgedLog
from generated import generate_database

from betanas.analysis.clusters import complete_trials
from betanas.analysis.figures.costs import draw_pareto
from betanas.analysis.figures.style import to_svg
from betanas.analysis.measure import ACCURACIES
from betanas.analysis.pareto import COSTS, LATENCY, known_costs, pareto_front
from betanas.analysis.tables import pareto_table
from betanas.architecture.decoding import decode
from betanas.architecture.families import FAMILIES
from betanas.database.stored import StoredStudy
from betanas.errors import InputError, NoStudyError, RunError
from betanas.files import read_json
from betanas.jobs.latency import KEYS, measure, to_json
from betanas.jobs.optimize import SearchOptions, optimize
from betanas.jobs.timing import predicted_speed
from betanas.models.latency import measure_latency
from betanas.study.loading import load_definition


def test_a_larger_batch_takes_longer() -> None:
    family = FAMILIES["betanet2"]
    network = decode(family, family.published, 64, 10)
    one, many = (measure_latency(network, batch, "cpu") for batch in (1, 32))
    assert 0 < one.low <= one.seconds <= one.high < many.seconds
    assert one.runs >= many.runs >= 15


@pytest.mark.slow
def test_latencies_are_noted_on_the_best_trials_and_replaced(tmp_path: Path) -> None:
    definition, stored = generate_database(tmp_path / "study.db", 30)
    definition = definition.model_copy(update={"resolution": 64})
    url = f"sqlite:///{tmp_path}/study.db"
    before = stored.records()
    best = [r.number for r in complete_trials(before)]
    told: list[int] = []
    measure(definition, stored, 4, 2, "cpu", lambda m: told.append(m.record.number))
    assert told == best[:4]

    found, name = measure(definition, stored, 3, 1, "cpu", lambda _: None)
    again = StoredStudy.load(url, definition.name).records()
    noted = {r.number: {k: r.audit[k] for k in KEYS} for r in again if LATENCY in r.audit}
    assert noted == {
        m.record.number: dict(zip(KEYS, (m.latency.seconds, 1, name), strict=True)) for m in found
    }
    assert list(noted) == sorted(best[:3])
    for old, new in zip(before, again, strict=True):
        assert {k: v for k, v in new.audit.items() if k not in KEYS} == old.audit
    study = optuna.load_study(study_name=definition.name, storage=url)
    assert study.trials[best[0]].user_attrs[LATENCY] == found[0].latency.seconds
    assert [row["number"] for row in to_json(found, 1, name)["rows"]] == best[:3]

    assert known_costs(before) == COSTS
    assert known_costs(again) == (*COSTS, LATENCY)
    front = [row[1] for row in pareto_table(again).rows if row[0] == LATENCY]
    assert front == [r.number for r in pareto_front(again, LATENCY)]
    assert front[-1] == best[0]
    assert "latency (ms, batch 1)" in to_svg(draw_pareto(again, ACCURACIES))
    assert "latency" not in to_svg(draw_pareto(before, ACCURACIES))


def test_nothing_to_measure_is_a_clear_error(tmp_path: Path) -> None:
    definition, stored = generate_database(tmp_path / "study.db", 0)
    with pytest.raises(InputError, match="no complete trial"):
        measure(definition, stored, 3, 1, "cpu", lambda _: None)
    with pytest.raises(InputError, match="must be >= 1, but got 3 and 0"):
        measure(definition, stored, 3, 0, "cpu", lambda _: None)


def test_images_that_do_not_fit_in_memory(tmp_path: Path) -> None:
    definition, stored = generate_database(tmp_path / "study.db", 10)
    with pytest.raises(RunError, match=r"trial \d+: 10{11} images must fit in .*smaller --batch"):
        measure(definition, stored, 1, 10**11, "cpu", lambda _: None)


@pytest.mark.slow
def test_a_limit_begins_with_a_table_of_operators_that_the_study_keeps(tmp_path: Path) -> None:
    """A limit that nothing keeps is refused by the table; one that all keep is measured."""

    def search(name: str, limit: float) -> StoredStudy:
        file = tmp_path / f"{name}.toml"
        file.write_text(TINY.replace("[limits]", f"[limits]\nlatency_ms = {limit}"))
        url = f"sqlite:///{tmp_path}/{name}.db"
        return optimize(
            load_definition(file),
            url,
            SearchOptions("cpu", 1, 2),
            AcknowledgedLog(tmp_path / "log"),
        )

    with pytest.raises(InputError, match=r"no kernel is feasible: .*latency rejects"):
        search("never", 1e-9)
    with pytest.raises(NoStudyError):
        StoredStudy.load(f"sqlite:///{tmp_path}/never.db", "never")
    remembered = read_json(tmp_path / "cache" / "operators.json")

    stored = search("always", 1e6)
    assert read_json(tmp_path / "cache" / "operators.json") == remembered
    table = stored.settings.answering
    assert table is not None
    assert stored.settings.operators is None  # two steps are two steps, however long they take
    again = search("always", 1e6)
    assert again.settings.answering == table
    trained = [r for r in again.records() if r.state == "complete"]
    assert trained
    definition = load_definition(tmp_path / "always.toml")
    for record in trained:
        assert record.latency_ms is not None
        speed = predicted_speed(definition, again, record.kernel)
        assert speed is not None
        assert speed.latency_ms is not None
        assert speed.latency_ms > 0
        assert speed.images_per_second is None
