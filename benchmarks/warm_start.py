"""What an older study is worth to a new one: evaluations until it is as far as a cold search.

    python benchmarks/warm_start.py --output warm.json     # half an hour of a core; may be stopped
    python benchmarks/warm_start.py --report --output benchmarks/results/warm_start.json

On the BetaNet landscapes of benchmarks/landscapes.py. The source is a search of 80 evaluations on
a landscape with another optimum, a quarter (``related``) or half of the way (``distant``) to
another random one, other weights of the dimensions, scale, noise and first phase, and 20 GiB.
``shuffled`` is the related source with its values dealt out anew; ``short`` has no source, but a
first phase of half the length, as those with one have. A run counts its feasible evaluations, those
of the first phase included, until its best noise-free value is what the cold search had after 50.
"""

import argparse
import json
import statistics
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from landscapes import Problem, betanet
from peers import OptunaPeer

from betanas.arrays import FloatArray
from betanas.search.problem import Source
from betanas.search.sampler import KernelSampler
from betanas.search.warm_start import opening_kernels

EVALUATIONS, MOST = 50, 60  # of a cold search; of one that has not caught up with it
OLDER = 80  # of the source
APART = {"related": 0.25, "distant": 0.5}  # of the way to another optimum
TARGETS = {
    "b2 smooth": ("betanet2", "smooth", 20),
    "b2 architecture": ("betanet2", "architecture", 20),
    "b3 smooth": ("betanet3", "smooth", 20),
    "b2 tight memory": ("betanet2", "architecture", 6),
}
SOURCES = ("related", "distant", "shuffled", "short")


def search(
    problem: Problem, seed: int, evaluations: int, until: float = np.inf
) -> tuple[Source, list[float]]:
    """A search until so many feasible evaluations, or until a noise-free value.

    Returns:
        What it has measured, and its best noise-free value after each evaluation.
    """
    noise = np.random.default_rng([11, seed])
    kernels = problem.sobol.opening_points(0, problem.sobol.opening_length)
    feasible = problem.rules.assess(kernels).feasible
    truth = np.where(feasible, problem.objective(kernels), np.nan)
    told = [
        float(t + noise.normal(scale=problem.noise)) if ok else None
        for t, ok in zip(truth, feasible, strict=True)
    ]
    peer = OptunaPeer(problem, KernelSampler(problem.sobol), "pruned")
    peer.begin(kernels, told, [None] * len(kernels))
    measured = list(kernels[feasible])
    values = [value for value in told if value is not None]
    best = np.maximum.accumulate(truth[feasible]).tolist()
    while len(best) < evaluations and best[-1] < until:
        kernel = peer.ask()
        true = float(problem.objective(kernel[None, :])[0])
        value = true + float(noise.normal(scale=problem.noise))
        peer.tell(kernel, value, None)
        measured.append(kernel)
        values.append(value)
        best.append(max(true, best[-1]))
    return Source(np.array(measured), np.array(values)), best


def begun(problem: Problem, name: str, kind: str, seed: int) -> Problem:
    """The problem, begun with a source."""
    if kind == "short":
        half = replace(problem.sobol, sobol_trials=1, min_feasible=10)
        return replace(problem, sobol=half)
    source = source_of(name, kind, seed)
    with_source = replace(problem.sobol, source=source)
    chosen = opening_kernels(with_source)
    start = tuple(map(tuple, chosen.tolist()))
    return replace(problem, sobol=replace(with_source, start=start, given=len(start)))


@cache
def source_of(name: str, kind: str, seed: int) -> Source:
    """What the older study has measured."""
    if kind == "shuffled":
        found = source_of(name, "related", seed)
        dealt = np.random.default_rng([13, seed]).permutation(found.values)
        return Source(found.kernels, dealt)
    family, shape, _ = TARGETS[name]
    landscape = betanet(name, family, shape, 20, seed, APART[kind])

    def scaled(kernels: FloatArray) -> FloatArray:
        return 0.3 + 0.5 * landscape.objective(kernels)

    # Its own first phase and noise: another seed.
    older = replace(landscape.sobol, seed=1000 + seed)
    older = replace(landscape, sobol=older, objective=scaled, noise=0.02)
    return search(older, 1000 + seed, OLDER)[0]


def needed(best: list[float], value: float) -> int:
    """Evaluations after which a run had a value; one more than it had if it never did."""
    reached = np.flatnonzero(np.array(best) >= value)
    return int(reached[0]) + 1 if len(reached) else len(best) + 1


def table(results: dict[str, Any]) -> str:
    """Evaluations of each run, and the factors: the cold search's over them."""
    head = ["landscape", "seed", "cold", *SOURCES]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    factors: dict[str, list[float]] = {kind: [] for kind in SOURCES}
    for key, runs in results.items():
        name, seed = key.split("|")
        target = runs["cold"][EVALUATIONS - 1]
        cold, cells = needed(runs["cold"], target), []
        for kind in SOURCES:
            if kind not in runs:
                cells.append("-")
                continue
            count = needed(runs[kind], target)
            factors[kind].append(cold / count)
            cells.append(f"{'> ' * (count > len(runs[kind]))}{count}")
        lines.append(f"| {name} | {seed} | {cold} | " + " | ".join(cells) + " |")
    told = [f"{statistics.median(f):.2f}" if f else "-" for f in factors.values()]
    lines.append("| median factor | | 1 | " + " | ".join(told) + " |")
    return "\n".join(lines)


def main() -> None:
    """The command."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--landscapes", default=",".join(TARGETS))
    parser.add_argument("--sources", default=",".join(SOURCES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--report", action="store_true", help="the table of --output, no runs")
    parser.add_argument("--output", type=Path, help="JSON with every run; they are not repeated")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    if arguments.output is not None and arguments.output.exists():
        results = json.loads(arguments.output.read_text())
    for seed in range(0 if arguments.report else arguments.seeds):
        for name in arguments.landscapes.split(","):
            runs = results.setdefault(f"{name}|{seed}", {})
            problem = betanet(name, *TARGETS[name], seed)
            for kind in ("cold", *arguments.sources.split(",")):
                if kind in runs:
                    continue
                if kind == "cold":
                    _, best = search(problem, seed, EVALUATIONS)
                else:
                    until = runs["cold"][EVALUATIONS - 1]
                    _, best = search(begun(problem, name, kind, seed), seed, MOST, until)
                runs[kind] = [round(value, 5) for value in best]
                print(name, seed, kind, len(best), best[-1], file=sys.stderr, flush=True)
                if arguments.output is not None:
                    arguments.output.write_text(json.dumps(results))
    print(table(results))


if __name__ == "__main__":
    main()
