"""``search.pruner``: hopeless trainings are stopped, counted, and learnt from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from faults import DEVICES, AcknowledgedLog, CheapTrainer, begun, cheap_value, write_definition

from betanas.analysis.status import summarize
from betanas.jobs.optimize import Search
from betanas.search.plan import study_problem
from betanas.search.situation import Situation
from betanas.trial import STOPPED_EARLY, TrainingResult, TrialTask

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


def searched(folder: Path, pruner: str) -> list[Any]:
    definition = write_definition(folder, STUDY.replace("PRUNER", pruner))
    stored = begun(definition, f"sqlite:///{folder / 'study.db'}")
    log = AcknowledgedLog(folder / "log")
    Search(definition, stored, DEVICES, folder / "trials", log).run(CurveTrainer(0), None)
    assert [round(s) for s in stored.study.trials[-1].intermediate_values]  # for dashboards too
    return stored.records()


def test_hopeless_trials_are_stopped_and_count(tmp_path: Path) -> None:
    records = searched(tmp_path, "median")
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
    records = searched(tmp_path, "none")
    assert sum(r.state == "complete" for r in records) == 34
    assert not any(r.reason == STOPPED_EARLY for r in records)


def test_the_search_learns_what_stopped_trials_would_have_come_to(tmp_path: Path) -> None:
    records = searched(tmp_path, "median")
    definition = write_definition(tmp_path, STUDY.replace("PRUNER", "median"))
    stored = begun(definition, f"sqlite:///{tmp_path / 'study.db'}")
    trials = stored.study.trials
    seen = Situation.of(stored.study, trials[-1], study_problem(definition, stored.settings))
    stopped = [r for r in records if r.reason == STOPPED_EARLY and r.number != trials[-1].number]
    assert len(seen.stopped.values) == len(stopped)
    reached = [max(trials[r.number].intermediate_values.values()) for r in stopped]
    assert np.all(seen.stopped.values > reached)
    assert np.all(seen.stopped.stds > 0)
