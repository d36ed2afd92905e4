"""Our search for a Pareto front beside NSGA-II, TPE and others: one command, one table.

    python benchmarks/front.py --quick
    python benchmarks/front.py --seeds 3 --evaluations 60 --output front.json   # goes on if stopped

Two objectives on real spaces: the artificial accuracies of benchmarks/landscapes.py, with noise,
and multiply-adds, which are counted. Every sampler begins with the same Sobol points and proposes
feasible kernels only, so that what differs is the strategy alone. The figure is the hypervolume of
the noise-free values, counted from one reference point a problem and seed, over that of the best
front that any of the samplers has found there together.
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from landscapes import Problem, problems
from optuna.trial import TrialState, create_trial

from betanas.arrays import FloatArray
from betanas.search.front import as_points, hypervolume, hypervolumes, reference_point
from betanas.search.sampler import KernelSampler

OBJECTIVES = ("accuracy", "macs")
SAMPLERS = ("gp", "nsga2", "tpe", "evolution", "random")
PROBLEMS = ("b2 architecture", "b3 smooth")

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore")


def true_values(problem: Problem, kernels: FloatArray) -> FloatArray:
    """Noise-free accuracy and multiply-adds of n kernels, ``n x 2``."""
    macs = problem.rules.costs(kernels)["macs"]
    return np.column_stack([problem.objective(kernels), macs])


def run(problem: Problem, sampler: str, seed: int, evaluations: int) -> dict[str, Any]:
    """One search until so many feasible evaluations, the Sobol phase's included.

    Returns:
        ``values``: noise-free, of each evaluation; ``opening``: how many of them are Sobol points;
        ``seconds``: of each proposal.
    """
    torch.set_num_threads(1)
    noise = np.random.default_rng([11, seed])
    searched = replace(problem.sobol, objectives=OBJECTIVES)
    space = problem.space
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=KernelSampler(searched, sampler)
    )
    kernels = searched.sobol_points(0, searched.sobol_length)
    feasible = problem.rules.assess(kernels).feasible
    found = true_values(problem, kernels[feasible]).tolist()
    told = iter([[a + float(noise.normal(scale=problem.noise)), m] for a, m in found])
    for kernel, there in zip(kernels, feasible, strict=True):
        study.add_trial(
            create_trial(
                params=space.kernel(kernel),
                distributions=space.distributions,
                state=TrialState.COMPLETE if there else TrialState.PRUNED,
                values=next(told) if there else None,
            )
        )
    opening, seconds = len(found), []
    while len(found) < evaluations:
        began = time.perf_counter()
        trial = study.ask(space.distributions)
        seconds.append(time.perf_counter() - began)
        kernel = space.vector(trial.params)[None, :]
        assert problem.rules.assess(kernel).feasible[0]
        found += true_values(problem, kernel).tolist()
        accuracy, macs = found[-1]
        study.tell(trial, [accuracy + float(noise.normal(scale=problem.noise)), macs])
    return {"values": found, "opening": opening, "seconds": seconds}


def shares(results: dict[str, Any], name: str, seed: int, samplers: list[str]) -> dict[str, Any]:
    """``sampler -> hypervolume after each evaluation``, as shares of all fronts' together."""
    runs = {s: results[f"{name}|{s}|{seed}"] for s in samplers if f"{name}|{s}|{seed}" in results}
    points = {s: as_points(np.array(own["values"])) for s, own in runs.items()}
    opening = next(iter(runs.values()))["opening"]
    reference = reference_point(next(iter(points.values()))[:opening])
    best = hypervolume(np.concatenate(list(points.values())), reference)
    return {s: hypervolumes(own, reference) / best for s, own in points.items()}


def table(results: dict[str, Any], names: list[str], samplers: list[str], seeds: int) -> str:
    """Medians (lowest to highest) at the end, and halfway from the opening to it."""
    lines = []
    for name in names:
        end: dict[str, list[float]] = {s: [] for s in samplers}
        half: dict[str, list[float]] = {s: [] for s in samplers}
        for seed in range(seeds):
            for s, grown in shares(results, name, seed, samplers).items():
                opening = results[f"{name}|{s}|{seed}"]["opening"]
                end[s].append(grown[-1])
                half[s].append(grown[(opening + len(grown)) // 2 - 1])
        for what, found in (("halfway", half), ("at the end", end)):
            cells = [
                f"{statistics.median(v):.3f} ({min(v):.2f} to {max(v):.2f})" if v else "-"
                for v in found.values()
            ]
            lines.append(f"| {name}, {what} | {' | '.join(cells)} |")
    seconds = [
        statistics.median(
            t for key, own in results.items() if key.split("|")[1] == s for t in own["seconds"]
        )
        for s in samplers
        if any(key.split("|")[1] == s for key in results)
    ]
    lines.append(f"| seconds a proposal | {' | '.join(f'{t:.2f}' for t in seconds)} |")
    head = [f"| problem | {' | '.join(samplers)} |", "|---" * (1 + len(samplers)) + "|"]
    return "\n".join([*head, *lines])


def main() -> None:
    """Runs what is asked for and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--problems", nargs="*", default=list(PROBLEMS))
    parser.add_argument("--samplers", nargs="*", default=list(SAMPLERS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=60)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="one seed, 30 evaluations")
    asked = parser.parse_args()
    if asked.quick:
        asked.seeds, asked.evaluations = 1, 30
    kept = asked.output is not None and asked.output.exists()
    results: dict[str, Any] = json.loads(asked.output.read_text()) if kept else {}
    for seed in range(asked.seeds):
        for name in asked.problems:
            for sampler in asked.samplers:
                key = f"{name}|{sampler}|{seed}"
                if key in results:
                    continue
                began = time.perf_counter()
                results[key] = run(problems()[name](seed), sampler, seed, asked.evaluations)
                print(f"{key}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
                if asked.output is not None:
                    asked.output.write_text(json.dumps(results))
    print(table(results, asked.problems, asked.samplers, asked.seeds))


if __name__ == "__main__":
    main()
