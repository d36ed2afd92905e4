"""What finals say: who goes on, who is ahead, how budgets rank, and the report's section."""

from dataclasses import replace

from betanas.analysis.finals import Finals
from betanas.analysis.page import render_page
from betanas.analysis.tables import all_tables
from betanas.database.finals import BUDGET, Entrant, FinalsPlan, Round
from betanas.database.settings import Settings
from betanas.jobs.report import analyse_records
from betanas.study.definition import StudyDefinition
from betanas.trial import TrialRecord


def made(
    values: list[list[float | None]],
    macs: tuple[int, ...] = (100, 101, 102, 103, 104, 105),
    second: int = 2,
) -> Finals:
    """Finals whose rounds have given these values, by the entrants' order."""
    entrants = tuple(
        Entrant(i, 1.0, "value", 0.5 + 0.01 * i, {"k": float(i)}, size)
        for i, size in enumerate(macs)
    )
    rounds = (Round(3.0, 6), Round(9.0, second))
    plan = FinalsPlan("epochs", 1.0, 0.5, 8, 6, entrants, rounds)
    trained = {
        plan.training(which, e): TrialRecord(
            0,
            "fail" if value is None else "complete",
            "final",
            value,
            audit={BUDGET: {"epochs": rounds[which].amount}},
        )
        for which, own in enumerate(values)
        for e, value in zip(entrants, own, strict=False)
    }
    return Finals(plan, trained)


def test_a_round_waits_for_the_one_before_and_failures_drop_out() -> None:
    begun = made([[0.1, 0.2, 0.3]])
    assert begun.field(1) == ()
    assert not begun.is_done
    assert begun.winner is not None
    assert begun.winner.trial == 2
    assert "the finals are not over" in begun.lines()[0]
    over = made([[0.6, None, 0.3, 0.4, 0.5, None]])
    assert [e.trial for e in over.field(1)] == [0, 4]
    assert not over.is_done
    nobody = made([[None] * 6])
    assert nobody.is_done
    assert nobody.winner is None


def test_larger_networks_go_on_beside_the_best() -> None:
    sizes = (100, 90, 120, 400, 500, 80)
    values: list[list[float | None]] = [[0.6, 0.5, 0.4, 0.2, 0.3, 0.1]]
    ahead = [e.trial for e in made(values, sizes, second=6).field(1)]
    assert ahead == [0, 4, 1, 3, 2, 5]
    assert [e.trial for e in made(values, sizes, second=1).field(1)] == [0]


def test_rank_correlation_is_that_of_trials_with_longer_trainings() -> None:
    found = made([[0.6, 0.5, 0.4, 0.3, 0.2, 0.1], [0.9, 0.8]])
    assert found.is_done
    (one,) = found.correlations  # of two networks in the last round there is none
    assert (one.short, one.long, one.networks) == (1.0, 3.0, 6)
    assert one.ranks.spearman == -1.0
    assert found.lines()[0] == (
        "for 9 epochs of training: trial 0, 90.00 % validation after 9 epochs "
        "(50.00 % after 1 epoch)"
    )
    assert "rank correlation of 1 epoch with 3 epochs: -1.00" in found.lines()[1]
    assert made([[0.6, 0.5, 0.4, 0.3, None, None]]).correlations == []


def test_the_report_has_a_row_a_network_and_a_column_a_budget(
    definition: StudyDefinition, settings: Settings, records: list[TrialRecord]
) -> None:
    over = made([[0.6, None, 0.3, 0.4, 0.5, None], [0.7, None, None, None, 0.8]])
    findings = replace(analyse_records(definition, settings, records[:3]), finals=over)
    tables = all_tables(findings)
    assert tables["finals"].columns[2:] == (
        "value (1 epoch)",
        "value (3 epochs)",
        "value (9 epochs)",
    )
    assert tables["finals"].rows[0] == ["trial 4", 104, 0.54, 0.5, 0.8]
    assert [row[0] for row in tables["finals"].rows[1:3]] == ["trial 0", "trial 3"]
    page, _ = render_page(findings, tables)
    assert '<section id="finals">' in page
    assert all(line in page for line in over.lines())
    assert findings.to_json()["finals"]["winner"]["trial"] == 4


def test_two_widths_of_a_network_have_two_titles() -> None:
    growth = 1.5**0.25  # for one and a half times the training, and half of that
    wider = (Entrant(3, g, "wider", None, {"k": g}, 1) for g in (growth, growth**0.5))
    assert len({entrant.title for entrant in wider}) == 2
