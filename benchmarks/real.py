"""Whole searches with real trainings, by samplers behind the same feasibility.

    python benchmarks/real.py search --data FOLDER --minutes 20 --seeds 0 1   # goes on if stopped
    python benchmarks/real.py retrain --data FOLDER    # the kernels that it recommends, new seeds
    python benchmarks/real.py report                   # the table of README.md
    python benchmarks/real.py times --rows ... --reference ROW

``--data`` is a folder of images (``FOLDER/train/CLASS/...``), ``digits`` (scikit-learn's) or
``fashion-mnist`` (of Debian's package ``dataset-fashion-mnist``).

A row is a family and a sampler, such as ``betamix:betanas``, ``betanet2:gpsampler``. All rows of a
family and seed begin with the same feasible Sobol points; a peer that proposes what is infeasible
is asked again, which costs it nothing but the proposal. Only ``gpsampler-0``, Optuna's as it comes,
is told 0 for it. A search ends when its trials and proposals have taken so many minutes. Every row,
ours too, recommends the trial that looks best, not what a model holds for the best: nobody profits
from the others' want of one. What counts is the test accuracy of that kernel trained again, as long
as a trial, with seeds that the search never saw.

Two rows are the command ``betanas optimize`` as a user has it, its start-up included: ``optimize``
with a worker for each core that it may use and ``search.pruner = "model"``; ``optimize-start``
which also begins with the networks that study ``pictures`` begins with. Two more begin from other
searches, ``--sources STUDY_FILE DATABASE ...``, a database for each seed: ``optimize-warm`` with
``search.warm_start``, ``optimize-shuffled`` with the same after their values were dealt out anew.
``times`` says when each row's best trial so far had first reached what another row's had at the
end.

Pin it to a core (``taskset -c 0``), and leave that core to it: a trial's budget is in seconds.
"""

import argparse
import itertools
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from real_searches import (
    CLASSES,
    LIMITS,
    OPENING,
    Curve,
    Run,
    best_so_far,
    outcomes,
    recommended,
    search,
)

from betanas.architecture.decoding import decode
from betanas.data.idx import DEBIAN_FOLDER
from betanas.jobs.train import Machine, Plan, train
from betanas.study.loading import load_definition

optuna.logging.set_verbosity(optuna.logging.WARNING)

RETRAINED = 2  # seeds
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
[limits]
num_params = {num_params}
macs = {macs}
[search]
sobol_trials = {opening}
min_feasible = {opening}
trials = 1000
"""
# What a study of a data set says beside its name: a mirrored digit is another one, or none.
DATASETS = {
    "digits": ("validation = 0.25", "flip = false"),
    "fashion-mnist": (f'root = "{DEBIAN_FOLDER}"', ""),
    "imagefolder": ('root = "."', ""),
}


def retrain(run: Run, minutes: list[float], rows: dict[str, Any]) -> Iterator[None]:
    """Trains what a search recommends after some times, with new seeds; each kernel once."""
    found = outcomes(run)
    for after in minutes:
        trial = recommended(found, 60 * after)
        if trial is None:
            continue
        key = f"{run.name}: trial {trial.number}"
        row = rows.setdefault(key, {"validation": trial.value, "test": [], "after": []})
        row["after"] = sorted({*row["after"], after})
        while len(row["test"]) < RETRAINED:
            seed = 10_000 + 100 * run.seed + len(row["test"])
            d = run.definition
            network = decode(d.search_family, trial.kernel, d.resolution, CLASSES)
            plan = Plan(key, key, network, d.dataset, d.recipe, d.budget, seed)
            folder = run.folder / f"again-{run.row.partition(':')[2]}-{run.seed}"
            again = train(plan, folder, run.machine, lambda _: None)
            row["test"].append(again["top1"])
            yield


def times(runs: list[Run], reference: str, minutes: float, file: Path) -> None:
    """When each row's best validation accuracy was what the reference has after some minutes.

    Args:
        runs: Of all rows and seeds.
        reference: A row's name.
        minutes: Of search.
        file: Remembers each run's best so far: ``[[seconds, value], ...]``.
    """
    curves: dict[str, Curve] = json.loads(file.read_text()) if file.exists() else {}
    curves |= {run.name: curve for run in runs if (curve := best_so_far(outcomes(run)))}
    file.write_text(json.dumps(curves))
    print(f"| row | seconds to what {reference} has then, by seed | median factor |")
    print("|---|---|---|")
    for row in dict.fromkeys(run.row for run in runs):
        told, factors = [], []
        for run in (run for run in runs if run.row == row and run.name in curves):
            theirs = curves[run.name.replace(row, reference, 1)]
            goal = max(value for seconds, value in theirs if seconds <= 60 * minutes)
            reached = [seconds for seconds, value in curves[run.name] if value >= goal]
            told.append(f"{reached[0]:.0f}" if reached else "not")
            factors.append(60 * minutes / reached[0] if reached else 0.0)
        print(f"| {row} | {', '.join(told)} | {statistics.median(factors):.2f} |")


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


def named_runs(args: argparse.Namespace, machine: Machine) -> Iterator[Run]:
    """The searches that the command line names, seed by seed; writes their study files."""
    dataset = args.data if args.data in DATASETS else "imagefolder"
    of_dataset, of_recipe = DATASETS[dataset]
    place = args.folder.resolve()
    place.mkdir(parents=True, exist_ok=True)
    sources: dict[int, tuple[Path, str]] = {}
    if args.sources:
        source, *urls = args.sources
        sources = {s: (Path(source), url) for s, url in zip(args.seeds, urls, strict=True)}
    for seed, row in itertools.product(args.seeds, args.rows):
        family = row.partition(":")[0]
        of = "" if dataset == "imagefolder" else f"{dataset}-"
        file = place / f"{of}{family}-{args.resolution}-{args.seconds:g}.toml"
        file.write_text(
            STUDY.format(
                family=family,
                resolution=args.resolution,
                dataset=dataset,
                of_dataset=of_dataset,
                of_recipe=of_recipe,
                seconds=args.seconds,
                opening=OPENING,
                **LIMITS,
            )
        )
        folder = args.data if dataset == "imagefolder" else None
        definition = load_definition(str(file), (), folder)
        yield Run(row, seed, place / file.stem, definition, machine, file, sources.get(seed))


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("do", choices=("search", "retrain", "times", "report"))
    parser.add_argument("--data", default="data", help="folder, digits or fashion-mnist")
    parser.add_argument("--rows", nargs="+", default=["betamix:betanas", "betanet2:betanas"])
    parser.add_argument("--reference", default="betanet2:gpsampler", help="of times: a row")
    parser.add_argument("--resolution", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--minutes", type=float, nargs="+", default=[20.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sources", nargs="+", help="a study file, and its database of each seed")
    parser.add_argument("--folder", type=Path, default=Path("real"))
    parser.add_argument("--output", type=Path, default=Path("real.json"))
    args = parser.parse_args()
    rows = json.loads(args.output.read_text()) if args.output.exists() else {}
    if args.do == "report":
        report(rows)
        return
    machine = Machine("cpu", None, args.folder.resolve() / "cache")
    runs: list[Run] = []
    for run in named_runs(args, machine):
        runs.append(run)
        if args.do == "search":
            search(run, max(args.minutes))
        if args.do == "retrain":
            for _ in retrain(run, args.minutes, rows):
                args.output.write_text(json.dumps(rows, indent=1))
            args.output.write_text(json.dumps(rows, indent=1))
    if args.do == "times":
        file = args.output.with_name(f"{args.output.stem}_times.json")
        times(runs, args.reference, max(args.minutes), file)


if __name__ == "__main__":
    main()
