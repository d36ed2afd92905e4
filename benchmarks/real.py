"""Whole searches with real trainings, by samplers behind the same feasibility.

    python benchmarks/real.py search --data FOLDER --minutes 20 --seeds 3   # goes on if stopped
    python benchmarks/real.py retrain --data FOLDER    # the kernels that it recommends, new seeds
    python benchmarks/real.py report                   # the table of README.md

``--data`` is a folder of images (``FOLDER/train/CLASS/...``), ``digits`` (scikit-learn's) or
``fashion-mnist`` (Debian's package, or torchvision's files below ``data``).

A row is a family and a sampler, such as ``betamix:betanas``, ``betanet2:gpsampler``. All rows of a
family and seed begin with the same feasible Sobol points; a peer that proposes what is infeasible
is asked again, which costs it nothing but the proposal. Only ``gpsampler-0``, Optuna's as it comes,
is told 0 for it. A search ends when its trials and proposals have taken so many minutes. Every row,
ours too, recommends the trial that looks best, not what a model holds for the best: nobody profits
from the others' want of one. What counts is the test accuracy of that kernel trained again, as long
as a trial, with seeds that the search never saw.

Pin it to a core (``taskset -c 0``), and leave that core to it: a trial's budget is in seconds.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna_integration import BoTorchSampler

import betanas
from betanas.architecture.decoding import decode
from betanas.jobs.train import Machine, Plan, train
from betanas.launcher.client import TrainerServer
from betanas.study.definition import StudyDefinition
from betanas.study.loading import load_definition
from betanas.trial import TrialTask, trial_seed

optuna.logging.set_verbosity(optuna.logging.WARNING)

OPENING = 10  # feasible points
ASKED_AGAIN = 2_000  # infeasible proposals in a row, after which a peer's search ends
RETRAINED = 2  # seeds
CLASSES = 10
STUDY = """
family = "{family}"
resolution = {resolution}
[dataset]
name = "{dataset}"
{of_dataset}
[recipe]
preset = "short"
{of_recipe}
[budget]
seconds = {seconds}
"""
# What a study of a data set says beside its name: a mirrored digit is another one, or none.
DATASETS = {
    "digits": ("validation = 0.25", "flip = false"),
    "fashion-mnist": ("", ""),
    "imagefolder": ('root = "."', ""),
}
TOLD_0 = "-0"  # how a row's name ends whose sampler is told 0 for what is infeasible
LIMITS = {"num_params": 2_000_000, "macs": 25_000_000}


@dataclass(frozen=True)
class Run:
    """One search.

    Attributes:
        row: ``family:sampler``.
        seed: Of sampler and trainings.
        folder: Where its study and trainings are.
        definition: Images, recipe, budget and limits.
        machine: Where it trains.
    """

    row: str
    seed: int
    folder: Path
    definition: StudyDefinition
    machine: Machine

    @property
    def name(self) -> str:
        """Of the run, in files and tables."""
        dataset = self.definition.dataset.name
        of = "" if dataset == "imagefolder" else f"{dataset}/"
        return f"{of}{self.row}@{self.definition.resolution}#{self.seed}"

    def study(self) -> optuna.Study:
        """Its study, with the sampler that the row names."""
        family, _, sampler = self.row.partition(":")
        space = betanas.space(family, self.definition.resolution, CLASSES, LIMITS)
        self.folder.mkdir(parents=True, exist_ok=True)
        return optuna.create_study(
            study_name=self.name,
            storage=f"sqlite:///{self.folder}/searches.db",
            load_if_exists=True,
            direction="maximize",
            sampler=make_sampler(sampler.removesuffix(TOLD_0), space, self.seed),
        )


def make_sampler(name: str, space: Any, seed: int) -> BaseSampler:
    """Ours, one of Optuna's, or Optuna-Integration's; its own first points are none."""
    match name:
        case "betanas":
            return betanas.Sampler(space, seed, sobol_trials=OPENING, min_feasible=OPENING)
        case "gpsampler":
            return GPSampler(seed=seed, n_startup_trials=OPENING)
        case "botorch":
            return BoTorchSampler(seed=seed, n_startup_trials=OPENING)
        case "tpe":
            return TPESampler(seed=seed, multivariate=True, n_startup_trials=OPENING)
        case "cmaes":
            return CmaEsSampler(seed=seed, n_startup_trials=OPENING)
        case "random":
            return RandomSampler(seed=seed)
    raise SystemExit(f"no sampler {name}")


def search(run: Run, minutes: float) -> None:
    """Searches until the time is over; goes on where it was stopped."""
    study, definition = run.study(), run.definition
    family = run.row.partition(":")[0]
    space = betanas.space(family, definition.resolution, CLASSES, LIMITS)
    spent = sum(t.user_attrs.get("cost", 0.0) for t in study.trials)
    opening = opening_kernels(space, run.seed)
    with TrainerServer(definition.dataset, definition.resolution, run.machine.cache) as trainer:
        trainer.wait()
        while spent < 60 * minutes:
            began = time.monotonic()
            done = [t for t in study.trials if t.state.is_finished() and t.values]
            if len(done) < len(opening) and not run.row.endswith(":betanas"):
                study.enqueue_trial(opening[len(done)])
            until = began + 60 * minutes - spent
            found = feasible_trial(study, space, until, tells_0=run.row.endswith(TOLD_0))
            if found is None:
                return
            trial, architecture = found
            task = TrialTask(
                number=trial.number,
                seed=trial_seed(run.seed, trial.number),
                architecture=architecture,
                dataset=definition.dataset,
                recipe=definition.recipe,
                budget=definition.budget,
                nproc_per_node=1,
                device="cpu",
                folder=str(run.folder / "training"),
                cache=str(run.machine.cache),
            )
            result = trainer.run(task)
            cost = time.monotonic() - began
            spent += cost
            trial.set_user_attr("cost", cost)
            trial.set_user_attr("images_per_second", result.images_per_second)
            study.tell(trial, result.value or 0.0)
            print(f"{run.name}: {spent:6.0f} s, {result.value}", flush=True)


def feasible_trial(
    study: optuna.Study, space: Any, until: float = math.inf, *, tells_0: bool = False
) -> tuple[optuna.Trial, Any] | None:
    """Asks until a proposal may be trained; None if none is found, or not in time.

    Args:
        study: Whose sampler is asked.
        space: What is feasible.
        until: ``time.monotonic()`` seconds, when the search is over.
        tells_0: Whether what may not be trained is told as a value of 0, not as pruned.
    """
    for _ in range(ASKED_AGAIN):
        if time.monotonic() >= until:
            return None
        trial = study.ask()
        try:
            return trial, space.suggest(trial)
        except optuna.TrialPruned:
            told: dict[str, Any] = {"state": optuna.trial.TrialState.PRUNED}
            study.tell(trial, **({"values": 0.0} if tells_0 else told))
    return None


def opening_kernels(space: Any, seed: int) -> list[dict[str, Any]]:
    """The feasible ones of the Sobol points that ours begins with."""
    own = betanas.Sampler(space, seed, sobol_trials=OPENING, min_feasible=OPENING)
    study = optuna.create_study(direction="maximize", sampler=own)
    found: list[dict[str, Any]] = []
    while len(found) < OPENING:
        asked = feasible_trial(study, space)
        assert asked is not None
        study.tell(asked[0], state=optuna.trial.TrialState.FAIL)
        found.append(dict(asked[0].params))
    return found


def recommended(study: optuna.Study, seconds: float) -> optuna.trial.FrozenTrial | None:
    """The best of the trials that had ended by then."""
    spent, best = 0.0, None
    for trial in study.trials:
        spent += trial.user_attrs.get("cost", 0.0)
        if spent > seconds:
            break
        if trial.values and (best is None or trial.values[0] > best.values[0]):
            best = trial
    return best


def retrain(run: Run, minutes: list[float], rows: dict[str, Any]) -> Iterator[None]:
    """Trains what a search recommends after some times, with new seeds; each kernel once."""
    study = run.study()
    for after in minutes:
        trial = recommended(study, 60 * after)
        if trial is None:
            continue
        key = f"{run.name}: trial {trial.number}"
        row = rows.setdefault(key, {"validation": trial.values[0], "test": [], "after": []})
        row["after"] = sorted({*row["after"], after})
        while len(row["test"]) < RETRAINED:
            seed = 10_000 + 100 * run.seed + len(row["test"])
            d = run.definition
            network = decode(d.search_family, trial.params, d.resolution, CLASSES)
            plan = Plan(key, key, network, d.dataset, d.recipe, d.budget, seed)
            found = train(plan, run.folder / "again", run.machine, lambda _: None)
            row["test"].append(found["top1"])
            yield


def report(rows: dict[str, Any]) -> None:
    """Test accuracies of what each row recommends, by time: mean and 95 % bootstrap interval."""
    found: dict[tuple[str, float], list[float]] = {}
    for key, row in rows.items():
        name = key.partition("#")[0]
        for after in row["after"]:
            found.setdefault((name, after), []).append(100 * statistics.fmean(row["test"]))
    rng = np.random.default_rng(0)
    print("| row | minutes | test top-1 of what it recommends | seeds |\n|---|---|---|---|")
    for (name, after), values in sorted(found.items()):
        drawn = rng.choice(values, (10_000, len(values))).mean(axis=1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        mean = statistics.fmean(values)
        print(f"| {name} | {after:g} | {mean:.2f} ({low:.2f} to {high:.2f}) | {len(values)} |")


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("do", choices=("search", "retrain", "report"))
    parser.add_argument("--data", default="data", help="folder, digits or fashion-mnist")
    parser.add_argument("--rows", nargs="+", default=["betamix:betanas", "betanet2:betanas"])
    parser.add_argument("--resolution", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--minutes", type=float, nargs="+", default=[20.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("real"))
    parser.add_argument("--output", type=Path, default=Path("real.json"))
    args = parser.parse_args()
    rows = json.loads(args.output.read_text()) if args.output.exists() else {}
    if args.do == "report":
        report(rows)
        return
    machine = Machine("cpu", None, args.folder.resolve() / "cache")
    for seed in range(args.seeds):
        for row in args.rows:
            family = row.partition(":")[0]
            dataset = args.data if args.data in DATASETS else "imagefolder"
            of = "" if dataset == "imagefolder" else f"{dataset}-"
            name = f"{of}{family}-{args.resolution}-{args.seconds:g}"
            file = args.folder.resolve() / f"{name}.toml"
            file.parent.mkdir(parents=True, exist_ok=True)
            of_dataset, of_recipe = DATASETS[dataset]
            file.write_text(
                STUDY.format(
                    family=family,
                    resolution=args.resolution,
                    dataset=dataset,
                    of_dataset=of_dataset,
                    of_recipe=of_recipe,
                    seconds=args.seconds,
                )
            )
            folder = args.data if dataset == "imagefolder" else None
            definition = load_definition(str(file), (), folder)
            run = Run(row, seed, args.folder.resolve() / name, definition, machine)
            if args.do == "search":
                search(run, max(args.minutes))
                continue
            for _ in retrain(run, args.minutes, rows):
                args.output.write_text(json.dumps(rows, indent=1))
            args.output.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
