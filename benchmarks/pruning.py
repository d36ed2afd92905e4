"""Which trials could have been stopped: pruners replayed on trials that were trained to the end.

    python benchmarks/pruning.py record STUDY.toml URL [FOLDER] > benchmarks/data/curves/NAME.jsonl
    python benchmarks/pruning.py ahead       # what is known on the way, and how well that predicts
    python benchmarks/pruning.py replay      # what each pruner ends, saves and loses

``record`` reads a study's complete trials: value, costs, and accuracy and pace (passes over the
training images in the whole budget, at the speed so far) at shares of the budget. The pace at 10 %
is read from FOLDER, where the trials left their files; trials whose only pace is that of the whole
training tell it as if it were known at 10 %.

``replay`` goes through a study's trials in their order, as if each could be stopped: a pruner sees
what a search would have in its database. The kernels are those that the search proposed while none
was stopped, which is what a replay cannot change.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
)
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy.stats import spearmanr

from betanas.arrays import FloatArray
from betanas.database.stored import StoredStudy
from betanas.search.foresight import LEAST_TRIALS, regress, told_by
from betanas.search.pruning import PACE_PERCENT, ModelPruner, pace
from betanas.study.loading import load_definition
from betanas.trial import PACE, PROGRESS_FILE, TrialRecord

optuna.logging.set_verbosity(optuna.logging.WARNING)

CURVES = Path(__file__).parent / "data" / "curves"
TOP = 5
BOUNDS = (0.02, 0.05, 0.1)
FACTORS = (2, 3)  # of successive halving: one in so many goes on
Row = dict[str, Any]


def record(study: str, url: str, folder: Path | None) -> Iterator[Row]:
    """A row for each complete trial of the search."""
    definition = load_definition(study)
    stored = StoredStudy.load(url, definition.name)
    for trial in stored.records():
        if trial.state == "complete" and not trial.is_replicate:
            yield {
                "number": trial.number,
                "value": trial.value,
                "num_params": trial.num_params,
                "macs": trial.macs,
                "looks": looks_of(trial, folder),
            }


def looks_of(trial: TrialRecord, folder: Path | None) -> dict[int, Row]:
    """``per cent -> pace and, where there was an evaluation, the best accuracy so far``."""
    looks: dict[int, Row] = {}
    early = first_pace(trial, folder)
    if early is not None:
        looks[PACE_PERCENT] = {"pace": early}
    best, history = 0.0, trial.audit["history"]
    for place, seen in enumerate(history[:-1], start=1):  # at equal shares; the last one is the end
        best = max(best, seen["accuracy"])
        whole = trial.train_seconds / seen["train_seconds"]
        looks[place * 100 // len(history)] = {"pace": seen["epoch"] * whole, "accuracy": best}
    if not looks:
        looks[PACE_PERCENT] = {"pace": trial.epochs}
    return looks


def first_pace(trial: TrialRecord, folder: Path | None) -> float | None:
    """What the trial told when a tenth of its budget was spent; None if it left no file."""
    path = (folder or Path()) / f"{trial.number:05d}" / PROGRESS_FILE
    lines = path.read_text().splitlines() if folder and path.exists() else []
    told = [news for line in lines if (news := json.loads(line)).get("spent", 0) >= 0.1]
    return pace(told[0]) if told else None


def as_trial(row: Row) -> FrozenTrial:
    """A complete trial, as a database has it."""
    looks = row["looks"]
    paces = {p: look["pace"] for p, look in looks.items() if "pace" in look}
    return create_trial(
        value=row["value"],
        intermediate_values={int(p): x["accuracy"] for p, x in looks.items() if "accuracy" in x},
        user_attrs={"num_params": row["num_params"], "macs": row["macs"], PACE: paces},
    )


def without(rows: list[Row], name: str) -> list[Row]:
    """The same trials, which have told less."""
    return [
        row
        | {"looks": {p: {k: v for k, v in x.items() if k != name} for p, x in row["looks"].items()}}
        for row in rows
    ]


def replay(rows: list[Row], pruner: BasePruner) -> tuple[dict[int, int], list[float]]:
    """Trials that are stopped, ``place -> per cent``; and seconds of each decision."""
    # Hyperband deals trials out to brackets by the study's name.
    study = optuna.create_study(study_name="replay", direction="maximize", pruner=pruner)
    stopped: dict[int, int] = {}
    seconds = []
    for place, row in enumerate(rows):
        trial, paces = study.ask(), {}
        for name in ("num_params", "macs"):
            trial.set_user_attr(name, row[name])
        for percent in sorted(map(int, row["looks"])):
            look = row["looks"][str(percent)]
            if "pace" in look:
                paces[str(percent)] = look["pace"]
                trial.set_user_attr(PACE, paces)
            if "accuracy" in look:
                trial.report(look["accuracy"], percent)
            began = time.process_time()
            gives_up = trial.should_prune()
            seconds.append(time.process_time() - began)
            if gives_up:
                stopped[place] = percent
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, row["value"])
    return stopped, seconds


class Cut(BasePruner):
    """A fixed cut: the better half goes on from the first evaluation after 25 % of the budget."""

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether it is among the worse half of all that came so far."""
        step = trial.last_step
        if step is None or step < 25 or any(25 <= s < step for s in trial.intermediate_values):
            return False
        told = [t for t in study.trials if t.last_step is not None and t.number != trial.number]
        others = [t.intermediate_values[step] for t in told]
        enough = len(others) >= LEAST_TRIALS
        return enough and trial.intermediate_values[step] < statistics.median(others)


class Waiting(BasePruner):
    """A pruner of rungs, which is left out until as many trials are complete as others wait for.

    Args:
        pruner: Optuna's successive halving, or its Hyperband.
    """

    def __init__(self, pruner: BasePruner) -> None:
        self._pruner = pruner

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether it would stop the trial; it notes the trial's rung meanwhile."""
        gives_up = self._pruner.prune(study, trial)
        return (
            gives_up and sum(t.state == TrialState.COMPLETE for t in study.trials) >= LEAST_TRIALS
        )


def report_replay(studies: dict[str, list[Row]]) -> None:
    """The table of README.md."""
    first = LEAST_TRIALS
    pruners: dict[str, Callable[[], BasePruner]] = {
        "none": NopPruner,
        "median": lambda: MedianPruner(n_startup_trials=first, n_min_trials=first),
        "best quarter at each look": lambda: PercentilePruner(
            25.0, n_startup_trials=first, n_min_trials=first
        ),
        "cut at 25 %": Cut,
        **{
            f"successive halving by {factor}": lambda f=factor: Waiting(
                SuccessiveHalvingPruner(min_resource=25, reduction_factor=f)
            )
            for factor in FACTORS
        },
        **{
            f"Hyperband by {factor}": lambda f=factor: Waiting(
                HyperbandPruner(min_resource=25, max_resource=100, reduction_factor=f)
            )
            for factor in FACTORS
        },
        **{f"model, {bound}": lambda b=bound: ModelPruner(b) for bound in BOUNDS},
        "model, 0.05, no pace": lambda: ModelPruner(0.05),
        "model, 0.05, pace alone": lambda: ModelPruner(0.05),
    }
    print(
        "| study | pruner | stopped | time saved | faster | lost of the best five | best | CPU ms |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, rows in studies.items():
        values = np.array([row["value"] for row in rows])
        best = set(np.argsort(-values, kind="stable")[:TOP].tolist())
        for pruner, make in pruners.items():
            told = rows
            if pruner.endswith("no pace"):
                told = without(rows, "pace")
            if pruner.endswith("pace alone"):
                told = without(rows, "accuracy")
            stopped, seconds = replay(told, make())
            later = len(rows) - first
            saved = sum(1 - percent / 100 for percent in stopped.values()) / later
            left = values[[i for i in range(len(rows)) if i not in stopped]].max()
            print(
                f"| {name} | {pruner} | {len(stopped)} of {later} | {saved:.0%} "
                f"| {1 / (1 - saved):.2f} | {len(best & set(stopped))} "
                f"| {left - values.max():+.4f} | {1000 * statistics.median(seconds):.1f} |"
            )


def report_ahead(studies: dict[str, list[Row]]) -> None:
    """How well each trial's value is foreseen from those before it: the table of README.md."""
    print("| study | known | of trials | rank | error | inside 95 % |")
    print("|---|---|---|---|---|---|")
    for name, rows in studies.items():
        trials = [as_trial(row) for row in rows]
        values = np.array([row["value"] for row in rows])
        print_ahead(name, "costs", *ahead(trials, values, 0, ("num_params", "macs")))
        for percent in sorted({int(p) for row in rows for p in row["looks"]}):
            told = told_by(trials[-1], percent)
            for known in (("pace",), ("accuracy",), ("pace", "accuracy")):
                if set(known) <= set(told):
                    found = ahead(trials, values, percent, ("num_params", "macs", *known))
                    print_ahead(name, f"costs, {' and '.join(known)} at {percent} %", *found)
            if "accuracy" in told:
                print_ahead(name, f"the mean gain from {percent} %", *gained(rows, values, percent))


def ahead(
    trials: list[FrozenTrial], values: FloatArray, percent: int, names: tuple[str, ...]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Values, predictions and their deviations of the trials after the first ten."""
    inputs = np.array([[told_by(t, percent)[name] for name in names] for t in trials])
    places = range(LEAST_TRIALS, len(trials))
    seen = [regress(inputs[:i], values[:i], inputs[i : i + 1]) for i in places]
    means = np.array([found.values[0] for found in seen])
    return values[LEAST_TRIALS:], means, np.array([found.stds[0] for found in seen])


def gained(
    rows: list[Row], values: FloatArray, percent: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The same, where each trial gains what those before it gained on average."""
    then = np.array([row["looks"][str(percent)]["accuracy"] for row in rows])
    gains, places = values - then, range(LEAST_TRIALS, len(rows))
    means = np.array([then[i] + gains[:i].mean() for i in places])
    return values[LEAST_TRIALS:], means, np.array([gains[:i].std(ddof=1) for i in places])


def print_ahead(
    study: str, known: str, values: FloatArray, means: FloatArray, stds: FloatArray
) -> None:
    """A row of the table."""
    error = np.sqrt(np.mean((values - means) ** 2))
    inside = np.mean(np.abs(values - means) <= 1.96 * stds)
    rank = spearmanr(means, values).statistic
    print(f"| {study} | {known} | {len(values)} | {rank:.2f} | {error:.4f} | {inside:.2f} |")


def main() -> None:
    """Reads the arguments, and does what they say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("do", choices=["record", "ahead", "replay"])
    parser.add_argument("of", nargs="*", help="for record: STUDY.toml URL [FOLDER]; else names")
    given = parser.parse_args()
    if given.do == "record":
        study, url, *folder = given.of
        for row in record(study, url, Path(folder[0]) if folder else None):
            print(json.dumps(row))
        return
    paths = [
        path for path in sorted(CURVES.glob("*.jsonl")) if path.stem in (given.of or [path.stem])
    ]
    studies = {p.stem: [json.loads(line) for line in p.read_text().splitlines()] for p in paths}
    (report_ahead if given.do == "ahead" else report_replay)(studies)


if __name__ == "__main__":
    main()
