"""``search.pruner``: hopeless trainings are stopped, counted, and learnt from."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from faults import DEVICES, AcknowledgedLog, CheapTrainer, begun, cheap_value, write_definition
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event

from betanas.analysis.status import summarize
from betanas.database.stored import ClaimedTrial, StoredStudy
from betanas.jobs.optimize import Search
from betanas.search.plan import study_problem
from betanas.search.pruning import Looks, ModelPruner, make_pruner
from betanas.search.situation import Situation
from betanas.study.definition import StudyDefinition
from betanas.trial import PACE, STOPPED_EARLY, TrainingResult, TrialRecord, TrialTask

STUDY = """
family = "betanet2"
resolution = 16
[parameters]
k = [1, 4]
[dataset]
name = "digits"
[recipe]
evaluations = 4
[budget]
steps = 8
[limits]
memory_gib = 1
[search]
sobol_trials = 24
trials = 34
pruner = "PRUNER"
"""
CHEAP = STUDY + 'sampler = "random"\n'  # where proposals are of no importance


class CurveTrainer(CheapTrainer):
    """Tells an accuracy at each quarter of the budget, and stops when it is told to."""

    def run(
        self, task: TrialTask, on_progress: Callable[[dict[str, Any]], None] = lambda _: None
    ) -> TrainingResult:
        final = cheap_value(task)
        for quarter in range(1, 5):
            best = final * quarter / 4
            on_progress(
                {"spent": quarter / 4 + 0.01 * (quarter < 4), "accuracy": best, "best": best}
            )
            if task.is_stopped:
                return TrainingResult(best, steps=2 * quarter, train_seconds=1.0, stopped=True)
        return TrainingResult(final, steps=8, train_seconds=4.0)


class PacedTrainer(CheapTrainer):
    """Networks that train faster end higher; tells its pace long before its first accuracy."""

    def run(
        self, task: TrialTask, on_progress: Callable[[dict[str, Any]], None] = lambda _: None
    ) -> TrainingResult:
        final = cheap_value(task)
        for step in range(1, 9):
            spent = step / 8
            news = {"spent": spent, "epoch": spent * np.exp(4 * final)}
            if step % 2 == 0:
                news |= {"accuracy": final * spent, "best": final * spent}
            on_progress(news)
            if task.is_stopped:
                told = final * spent if step > 1 else None
                return TrainingResult(told, steps=step, train_seconds=step / 2, stopped=True)
        return TrainingResult(final, steps=8, train_seconds=4.0)


def searched(
    folder: Path, text: str, pruner: str, trainer: type[CheapTrainer] = CurveTrainer
) -> tuple[StudyDefinition, StoredStudy]:
    definition = write_definition(folder, text.replace("PRUNER", pruner))
    stored = begun(definition, f"sqlite:///{folder / 'study.db'}")
    log = AcknowledgedLog(folder / "log")
    Search(definition, stored, DEVICES, folder / "trials", log).run(trainer(0), None)
    assert [round(s) for s in stored.study.trials[-1].intermediate_values]  # for dashboards too
    return definition, stored


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyDefinition, StoredStudy]:
    """A study that the median pruner has watched."""
    return searched(tmp_path_factory.mktemp("halved"), CHEAP, "median")


def test_hopeless_trials_are_stopped_and_count(
    halved: tuple[StudyDefinition, StoredStudy],
) -> None:
    records = halved[1].records()
    stopped = [r for r in records if r.reason == STOPPED_EARLY]
    complete = [r for r in records if r.state == "complete"]
    assert stopped
    assert len(complete) + len(stopped) == 34
    assert all(r.state == "pruned" and r.value is None for r in stopped)
    assert all(r.train_seconds == 1.0 and r.num_params for r in stopped)
    # Whoever was stopped was below the median of those before; nobody is before ten are complete.
    assert sum(r.number < stopped[0].number for r in complete) >= 10
    summary = summarize("s", records, 34)
    assert summary["feasible"] == 34
    assert summary["stopped_early"] == len(stopped)
    assert STOPPED_EARLY not in summary["rejected"]


def test_nobody_is_stopped_unless_asked(tmp_path: Path) -> None:
    records = searched(tmp_path, CHEAP, "none")[1].records()
    assert sum(r.state == "complete" for r in records) == 34
    assert not any(r.reason == STOPPED_EARLY for r in records)


def test_the_search_learns_what_stopped_trials_would_have_come_to(
    halved: tuple[StudyDefinition, StoredStudy],
) -> None:
    definition, stored = halved
    records, trials = stored.records(), stored.study.trials
    seen = Situation.of(stored.study, trials[-1], study_problem(definition, stored.settings))
    stopped = [r for r in records if r.reason == STOPPED_EARLY and r.number != trials[-1].number]
    assert len(seen.stopped.values) == len(stopped)
    reached = [max(trials[r.number].intermediate_values.values()) for r in stopped]
    assert np.all(seen.stopped.values > reached)
    assert np.all(seen.stopped.stds > 0)


# -- a model decides ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def modelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a search with the model."""
    folder = tmp_path_factory.mktemp("modelled")
    searched(folder, STUDY, "model", PacedTrainer)
    return folder / "study.db"


def opened(modelled: Path, folder: Path) -> tuple[StudyDefinition, str]:
    """The study with a copy of that database."""
    copy = folder / "study.db"
    with closing(sqlite3.connect(modelled)) as source:
        source.execute("VACUUM INTO ?", (str(copy),))
    definition = write_definition(folder, STUDY.replace("PRUNER", "model"))
    return definition, f"sqlite:///{copy}"


def true_value(record: TrialRecord) -> float:
    """What a trial comes to, or would have."""
    return (int(str(record.fingerprint)[:8], 16) + 1) / 2**33


def test_the_model_ends_what_is_hopeless_and_nothing_that_becomes_the_best(
    modelled: Path, tmp_path: Path
) -> None:
    records = [r for r in begun(*opened(modelled, tmp_path)).records() if r.counts]
    stopped = [r for r in records if r.reason == STOPPED_EARLY]
    # Some are known by their pace alone, before there is any accuracy of theirs.
    assert any(list(r.audit[PACE]) == ["10"] and r.audit["steps"] == 1 for r in stopped)
    best = 0.0
    for place, record in enumerate(records):
        if place < 10:
            assert record.state == "complete"
        if true_value(record) > best:
            assert record.state == "complete"
        if record.state == "complete":
            best = max(best, true_value(record))
    assert summarize("s", records, 34)["stopped_early"] == len(stopped)


def test_what_is_learnt_of_a_trial_that_the_model_ended_is_its_end_with_its_noise(
    modelled: Path, tmp_path: Path
) -> None:
    definition, url = opened(modelled, tmp_path)
    stored = begun(definition, url)
    records = stored.records()
    running = create_trial(state=TrialState.RUNNING)
    running.number = len(records)
    seen = Situation.of(stored.study, running, study_problem(definition, stored.settings))
    ends = np.array([true_value(r) for r in records if r.reason == STOPPED_EARLY])
    learnt = seen.stopped.expected
    assert len(learnt.values) == len(ends)
    assert np.all(np.abs(learnt.values - ends) < 4 * learnt.stds)
    assert np.all(learnt.stds > 0)
    assert np.all(learnt.stds < np.std([true_value(r) for r in records if r.fingerprint]))


def claim(definition: StudyDefinition, url: str) -> tuple[StoredStudy, ClaimedTrial]:
    """A worker of the study, and the trial that it gets."""
    stored = begun(definition, url)
    stored.study.pruner = make_pruner(definition.search)
    return stored, stored.claim()


def test_whoever_takes_a_trial_over_decides_as_the_worker_that_is_gone(
    modelled: Path, tmp_path: Path
) -> None:
    definition, url = opened(modelled, tmp_path)
    stored, lost = claim(definition, url)
    assert not stored.report(lost, 10, None, np.exp(4 * 0.6))  # faster than any: it goes on
    assert stored.report(lost, 25, 0.001, np.exp(4 * 0.01))
    stored.release(lost)  # killed before anything came of it
    again, taken = claim(definition, url)
    assert taken.number == lost.number
    # What its second training tells at a share that is known counts no more.
    assert again.report(taken, 10, None, np.exp(4 * 0.6))
    assert again.record(taken.number).audit[PACE] == {"10": np.exp(4 * 0.6), "25": np.exp(4 * 0.01)}


def test_a_look_is_written_whole_or_not_at_all(modelled: Path, tmp_path: Path) -> None:
    # A worker killed between pace and accuracy would leave a look that decides by the pace alone.
    stored, claimed = claim(*opened(modelled, tmp_path))
    seen: list[str] = []

    @event.listens_for(stored.database.engine, "before_cursor_execute")
    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO trial_"):
            seen.append(statement.split()[2])

    @event.listens_for(stored.database.engine, "commit")
    def note_commit(_connection: object) -> None:
        seen.append("commit")

    stored.report(claimed, 25, 0.3, 2.0)
    first = seen.index("trial_user_attributes")
    assert seen[first + 1 : first + 3] == ["trial_intermediate_values", "commit"]
    trial = stored.study.trials[claimed.number]
    assert (trial.intermediate_values, trial.user_attrs[PACE]) == ({25: 0.3}, {"25": 2.0})


def test_the_bound_is_the_studys(modelled: Path, tmp_path: Path) -> None:
    definition, url = opened(modelled, tmp_path)
    stored, claimed = claim(definition, url)
    best = max(r.value or 0.0 for r in stored.records())
    verdicts = []
    for bound in (0.999, 1e-9):
        search = definition.search.model_copy(update={"pruner_chance": bound})
        stored.study.pruner = make_pruner(search)
        verdicts.append(stored.report(claimed, 10, None, float(np.exp(4 * best))))
    assert verdicts == [True, False]


def test_a_trial_without_a_finite_value_teaches_no_pruner() -> None:
    def trained(pace: float, value: float | None) -> FrozenTrial:
        state = TrialState.RUNNING if value is None else TrialState.COMPLETE
        return create_trial(state=state, value=value, user_attrs={PACE: {"50": pace}})

    study = optuna.create_study(direction="maximize")
    study.add_trials([trained(np.exp(p / 10), p / 20) for p in range(1, 15)])
    study.add_trial(trained(9.0, float("inf")))  # of somebody else's loop
    hopeful, hopeless = trained(np.exp(1.5), None), trained(np.exp(0.1), None)
    pruner = ModelPruner(0.05)
    assert [pruner.prune(study, t) for t in (hopeful, hopeless)] == [False, True]


def test_a_pace_is_looked_at_once_and_only_before_the_first_evaluation() -> None:
    told = [{"spent": s, "epoch": 2 * s} for s in (0.05, 0.11, 0.2)]
    assert [Looks(2, paces=True).percent(news) for news in told] == [None, 10, 10]
    looks = Looks(2, paces=True)
    assert [looks.percent(news) for news in told] == [None, 10, None]
    assert looks.percent({"spent": 0.51, "epoch": 1.0, "accuracy": 0.3, "best": 0.3}) == 50
    frequent, unasked = Looks(10, paces=True), Looks(2, paces=False)
    assert [frequent.percent(news) for news in told] == [None] * 3
    assert [unasked.percent(news) for news in told] == [None] * 3
    assert Looks(2, paces=True).percent({"spent": 0.5}) is None  # an objective without images
