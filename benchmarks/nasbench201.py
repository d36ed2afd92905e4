"""Samplers on NAS-Bench-201's recorded trainings: real accuracies, nobody's own landscape.

    python benchmarks/nasbench201.py search --output results.json    # goes on where it was stopped
    python benchmarks/nasbench201.py report --output results.json    # the tables of README.md
    python benchmarks/nasbench201.py scores --cells 300 --data cifar10 --output scores.json
    python benchmarks/nasbench201.py free --output scores.json       # searches by those scores

Each trial is one of the two or three recorded trainings of a cell, drawn by its seed, as in the
objective ``table``. All of ours begin with the same 10 Sobol points. What counts is the regret of
the trial that looks best: how far its cell's mean validation accuracy is below the highest mean of
all 15,625 cells, in points; after so many trials, or when they have spent the recorded time of so
many trainings of a mean cell. ``rea`` is regularised evolution as Real et al. (2019) have it,
population and tournament of 10, one edge a mutation, random beginning.
"""

import argparse
import json
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna

import betanas
from betanas.architecture.cells import EDGES, OPERATIONS, Cell
from betanas.architecture.complexity import count
from betanas.architecture.nasbench201 import NASBENCH201, kernel_of_cell
from betanas.measures.nasbench201 import RecordedTraining, recorded_trainings
from betanas.trial import trial_seed

CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet16-120": 120}
SAMPLERS = ("random", "rea", "evolution", "local", "reinforce", "tpe", "gp", "botorch")
OPENING = 10  # Sobol points
AFTER = (25, 50, 100)
LEAST = 10  # runs, for a median
# By what the search without training picks: scores, or the mean of their ranks in the pool.
PICKS = (
    ("num_params",),
    ("naswot",),
    ("synflow",),
    ("naswot", "synflow"),
    ("naswot", "num_params"),
    ("naswot", "synflow", "num_params"),
)
Draw = Callable[[str, int], RecordedTraining]


def run(dataset: str, sampler: str, seed: int, trials: int) -> dict[str, list[float]]:
    """One search: the regret, in points, and the recorded seconds after each trial."""
    table = recorded_trainings(dataset)
    means = {cell: statistics.fmean(t.value for t in own) for cell, own in table.items()}
    best, shown, regrets, seconds = max(means.values()), -1.0, [], []

    def draw(cell: str, number: int) -> RecordedTraining:
        """A trial's training; keeps the books."""
        nonlocal shown
        found = table[cell][trial_seed(seed, number) % len(table[cell])]
        seconds.append((seconds[-1] if seconds else 0.0) + found.train_seconds)
        if found.value > shown:
            shown = found.value
            regrets.append(100 * (best - means[cell]))
        else:
            regrets.append(regrets[-1])
        return found

    if sampler == "rea":
        evolve(draw, np.random.default_rng(seed), trials)
    else:
        search(draw, dataset, sampler, seed, trials)
    return {"regret": [round(r, 4) for r in regrets], "seconds": [round(s) for s in seconds]}


def search(draw: Draw, dataset: str, sampler: str, seed: int, trials: int) -> None:
    """One of ours, in a plain Optuna study."""
    space = betanas.space("nasbench201", 32, CLASSES[dataset])
    own = betanas.Sampler(space, seed, sampler, sobol_trials=OPENING, min_feasible=OPENING)
    study = optuna.create_study(direction="maximize", sampler=own)

    def objective(trial: optuna.Trial) -> float:
        return draw(str(space.suggest(trial).cell), trial.number).value

    study.optimize(objective, n_trials=trials)


def evolve(draw: Draw, rng: np.random.Generator, trials: int) -> None:
    """Regularised evolution: the oldest die, the best of the living has the next child."""
    population: deque[tuple[float, list[int]]] = deque(maxlen=10)
    for number in range(trials):
        if number < 10:
            child = rng.integers(len(OPERATIONS), size=len(EDGES)).tolist()
        else:
            child = list(max(population)[1])
            edge = rng.integers(len(EDGES))
            child[edge] = (child[edge] + rng.integers(1, len(OPERATIONS))) % len(OPERATIONS)
        cell = Cell(tuple(OPERATIONS[i] for i in child))
        population.append((draw(str(cell), number).value, child))


def run_all(datasets: list[str], samplers: list[str], seeds: int, trials: int, path: Path) -> None:
    """Runs what is not there yet; every result is kept at once."""
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for dataset, seed, sampler in (
        (d, s, a) for d in datasets for s in range(seeds) for a in samplers
    ):
        key = f"{dataset}|{sampler}|{seed}"
        if key in results:
            continue
        began = time.process_time()
        results[key] = run(dataset, sampler, seed, trials)
        took = time.process_time() - began
        print(f"{key}: {results[key]['regret'][-1]:.3f} in {took:.1f} CPU s", file=sys.stderr)
        path.write_text(json.dumps(results))


def regret_at(result: dict[str, list[float]], seconds: float) -> float | None:
    """The regret when so much recorded time is spent; None if the run did not take so long."""
    pairs = zip(result["regret"], result["seconds"], strict=True)
    behind = [regret for regret, spent in pairs if spent <= seconds]
    return behind[-1] if behind and result["seconds"][-1] >= seconds else None


def report(path: Path) -> None:
    """Median and quartiles of the regret, a row a data set and sampler."""
    results: dict[str, Any] = json.loads(path.read_text())
    head = [f"after {n}" for n in AFTER] + [f"time of {n}" for n in AFTER]
    print("| data set | sampler | seeds | " + " | ".join(head) + " |")
    print("|---" * (3 + len(head)) + "|")
    for dataset in CLASSES:
        table = recorded_trainings(dataset)
        mean = statistics.fmean(own[0].train_seconds for own in table.values())
        for sampler in SAMPLERS:
            own = [r for key, r in results.items() if key.startswith(f"{dataset}|{sampler}|")]
            if not own:
                continue
            columns = [[(r["regret"] + n * [None])[n - 1] for r in own] for n in AFTER]
            columns += [[regret_at(r, n * mean) for r in own] for n in AFTER]
            print(
                f"| {dataset} | {sampler} | {len(own)} | "
                + " | ".join(map(quartiles, columns))
                + " |"
            )


def quartiles(values: list[float | None]) -> str:
    """Median (lower to upper quartile); and of how many runs, where some have not come so far."""
    known = [v for v in values if v is not None]
    if len(known) < LEAST:
        return "-"
    low, middle, high = np.percentile(known, (25, 50, 75))
    of = f", {len(known)} seeds" if len(known) < len(values) else ""
    return f"{middle:.3f} ({low:.2f} to {high:.2f}{of})"


def score(cells: int, data: str, path: Path) -> None:
    """Scores random cells on real pictures, and correlates them with recorded accuracies."""
    from betanas.jobs.score import batches_of
    from betanas.measures.scored import fresh_network
    from betanas.models.scores import naswot, synflow
    from betanas.study.recipe import DatasetConfig

    batches, note = batches_of(
        DatasetConfig(name="imagefolder", root=data), 32, 0, Path("storage/cache")
    )
    assert note is None, note
    rows = json.loads(path.read_text()) if path.exists() else []
    seen = {row["cell"] for row in rows}
    for number in range(len(rows), cells):
        cell = drawn(number, seen)
        seen.add(str(cell))
        network = NASBENCH201.decode(kernel_of_cell(cell), 32, 10)
        model, costs = fresh_network(network, trial_seed(0, number), "cpu"), count(network, 1)
        row = {"cell": str(cell), "num_params": costs.num_params, "macs": costs.macs}
        for name, compute in (
            ("naswot", lambda m=model: naswot(m, batches(32))),
            ("synflow", lambda m=model: synflow(m, 32)),
        ):
            began = time.process_time()
            value = compute()
            row[f"{name}_cpu_seconds"] = round(time.process_time() - began, 3)
            row[name] = value if np.isfinite(value) else None
        rows.append(row)
        path.write_text(json.dumps(rows))
    correlate(rows)


def drawn(number: int, seen: set[str]) -> Cell:
    """A random cell, by its number, that is not among those before it."""
    rng = np.random.default_rng([0, number])
    while True:
        cell = Cell(tuple(OPERATIONS[i] for i in rng.integers(len(OPERATIONS), size=len(EDGES))))
        if str(cell) not in seen:
            return cell


def correlate(rows: list[dict[str, Any]]) -> None:
    """Rank correlations with mean validation accuracies, over all cells and the best tenth."""
    from betanas.analysis.correlation import rank_correlation

    for name in ("naswot", "synflow"):
        took = statistics.median(row[f"{name}_cpu_seconds"] for row in rows)
        print(f"{name}: {took:.3f} CPU seconds a cell, median of {len(rows)}")
    print("| data set | score | Spearman (95 %) | Kendall (95 %) | Spearman, best tenth (95 %) |")
    print("|---|---|---|---|---|")
    for dataset in CLASSES:
        table = recorded_trainings(dataset)
        values = [statistics.fmean(t.value for t in table[r["cell"]]) for r in rows]
        top = np.argsort(values)[-len(rows) // 10 :]
        for name in ("naswot", "synflow", "num_params", "macs"):
            scores = [-np.inf if r[name] is None else r[name] for r in rows]
            whole = rank_correlation(scores, values)
            best = rank_correlation([scores[i] for i in top], [values[i] for i in top])
            assert whole is not None
            assert best is not None
            print(
                f"| {dataset} | {name} | {whole.spearman:.3f} ({whole.low:.2f} to {whole.high:.2f})"
                f" | {whole.kendall:.3f} ({whole.kendall_low:.2f} to {whole.kendall_high:.2f})"
                f" | {best.spearman:.3f} ({best.low:.2f} to {best.high:.2f}) |"
            )


def pools_of(cells: int, pool: int, seeds: int) -> list[np.ndarray]:
    """Random pools of cells, by their places; none is in two where there are enough of them."""
    if seeds * pool <= cells:
        return np.split(np.random.default_rng(0).permutation(cells)[: seeds * pool], seeds)
    return [np.random.default_rng(s).permutation(cells)[:pool] for s in range(seeds)]


def free(path: Path, pool: int, seeds: int) -> None:
    """Searches without training: of a random pool the cell is taken that scores best."""
    from scipy.stats import rankdata

    rows: list[dict[str, Any]] = json.loads(path.read_text())
    pools = pools_of(len(rows), pool, seeds)
    ranks = {
        name: [rankdata(scores[p]) for p in pools]
        for name, scores in (
            (name, np.array([-np.inf if r[name] is None else r[name] for r in rows]))
            for name in ("naswot", "synflow", "num_params")
        )
    }
    shared = seeds * pool - len(np.unique(np.concatenate(pools)))
    print(f"{seeds} pools of {pool} among {len(rows)} scored cells, {shared} places taken again")
    print("| data set | picked by | regret | less than num_params', of seeds with another pick |")
    print("|---|---|---|---|")
    for dataset in CLASSES:
        table = recorded_trainings(dataset)
        means = {cell: statistics.fmean(t.value for t in own) for cell, own in table.items()}
        regret = 100 * (max(means.values()) - np.array([means[row["cell"]] for row in rows]))
        sizes = None
        for pick in PICKS:
            votes = [sum(ranks[name][s] for name in pick) for s in range(seeds)]
            own = np.array([regret[p[np.argmax(v)]] for p, v in zip(pools, votes, strict=True)])
            sizes = own if sizes is None else sizes
            less = f"{(own < sizes).sum()} of {(own != sizes).sum()}"
            print(f"| {dataset} | {' + '.join(pick)} | {quartiles(own.tolist())} | {less} |")
        best = [float(regret[p].min()) for p in pools]
        print(f"| {dataset} | the pool's best | {quartiles(list(best))} | |")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("search", "report", "scores", "free"))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--datasets", nargs="+", choices=CLASSES, default=list(CLASSES))
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--cells", type=int, default=300)
    parser.add_argument("--pool", type=int, default=100)
    parser.add_argument("--data", default="cifar10", help="folder of CIFAR-10's pictures")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if given.what == "search":
        run_all(given.datasets, given.samplers, given.seeds, given.trials, given.output)
    if given.what == "scores":
        score(given.cells, given.data, given.output)
    elif given.what == "free":
        free(given.output, given.pool, given.seeds)
    else:
        report(given.output)


if __name__ == "__main__":
    main()
