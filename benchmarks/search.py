"""Our search beside the samplers people would use instead: one command, one table.

    python benchmarks/search.py --quick                    # a few minutes
    python benchmarks/search.py --output results.json      # hours; goes on where it was stopped
    python benchmarks/search.py --timing                   # seconds per proposal only

Every sampler begins with the same Sobol points; what counts is the best noise-free value found
after 25, 50, 100 and 200 feasible evaluations, those of the Sobol phase included. Problems and
their scale (1 the optimum, about 0 poor) are told in benchmarks/landscapes.py, the peers in
benchmarks/peers.py, results and what they mean in benchmarks/README.md.
"""

import argparse
import json
import statistics
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from landscapes import NOISE, Problem, betanet, problems
from peers import make_peer

CHECKPOINTS = (25, 50, 100, 200)
TOLD_REJECTED = 100  # rejected Sobol points that peers are told of, at most
SAMPLERS = ("betanas", "random", "tpe", "cmaes", "gpsampler", "botorch")


def run(
    problem: Problem, sampler: str, seed: int, evaluations: int, patience: float
) -> dict[str, Any]:
    """One run until so many feasible evaluations, or ``patience`` CPU seconds of proposals.

    Returns:
        ``best``: after each feasible evaluation; ``rejections``, ``proposals``, and the median
        seconds of a proposal after the Sobol phase, by the wall and by the processor.
    """
    torch.set_num_threads(1)
    noise = np.random.default_rng([11, seed])
    kernels = problem.sobol.sobol_points(0, problem.sobol.sobol_length)
    feasible = problem.rules.assess(kernels).feasible
    rejected = np.flatnonzero(~feasible)[:TOLD_REJECTED]
    told = (
        kernels
        if sampler.startswith("betanas")
        else kernels[np.sort(np.concatenate([np.flatnonzero(feasible), rejected]))]
    )
    ok = problem.rules.assess(told).feasible
    truth = np.where(ok, problem.objective(told), np.nan)
    values = [
        float(t + noise.normal(scale=problem.noise)) if o else None
        for t, o in zip(truth, ok, strict=True)
    ]
    violations = (
        [None] * len(told) if problem.violation is None else problem.violation(told).tolist()
    )
    best = np.maximum.accumulate(truth[ok]).tolist()
    peer = make_peer(sampler, problem, seed)
    peer.begin(told, values, violations)
    seconds: list[float] = []
    cpu: list[float] = []
    rejections = 0
    while len(best) < evaluations and sum(cpu) < patience:
        start, cpu_start = time.perf_counter(), time.process_time()
        kernel = peer.ask()
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
        row = kernel[None, :]
        violation = None if problem.violation is None else float(problem.violation(row)[0])
        if not problem.rules.assess(row).feasible[0]:
            rejections += 1
            peer.tell(kernel, None, violation)
            continue
        true = float(problem.objective(row)[0])
        best.append(max(true, best[-1]))
        peer.tell(kernel, true + float(noise.normal(scale=problem.noise)), violation)
    return {
        "best": [round(value, 5) for value in best],
        "sobol": int(ok.sum()),
        "rejections": rejections,
        "proposals": len(seconds),
        "median_seconds": round(statistics.median(seconds), 4),
        "median_cpu_seconds": round(statistics.median(cpu), 4),
    }


def run_named(
    task: tuple[str, str, int, int, float],
) -> tuple[tuple[str, str, int], dict[str, Any]]:
    """``run`` by names, for a pool of processes."""
    name, sampler, seed, evaluations, patience = task
    result = run(problems()[name](seed), sampler, seed, evaluations, patience)
    return (name, sampler, seed), result


def run_all(
    tasks: list[tuple[str, str, int, int, float]],
    processes: int,
    results: dict[str, Any],
    output: Path | None,
) -> None:
    """Runs what is asked for, and keeps every result at once."""
    with get_context("spawn").Pool(processes, maxtasksperchild=20) as pool:
        for done, result in pool.imap_unordered(run_named, tasks):
            results[key(*done)] = result
            best = result["best"]
            print(f"{key(*done)}: {best[-1]:.3f} after {len(best)}", file=sys.stderr)
            if output is not None:
                output.write_text(json.dumps(results))


def key(name: str, sampler: str, seed: int) -> str:
    """Under which a run's result is kept."""
    return f"{name}|{sampler}|{seed}"


def table(results: dict[str, Any], names: list[str], samplers: list[str], at: int) -> str:
    """Median and range over seeds of the best value after ``at`` feasible evaluations.

    A run that ran out of patience before counts as it stood, and is marked by a ``*``.
    """
    lines = [
        f"Share of the optimum after {at} feasible evaluations: median (lowest to highest), seeds",
        "",
        "| problem | " + " | ".join(samplers) + " |",
        "|---" * (len(samplers) + 1) + "|",
    ]
    ranks: dict[str, list[float]] = {sampler: [] for sampler in samplers}
    for name in names:
        medians, cells = {}, []
        for sampler in samplers:
            runs = [r["best"] for k, r in results.items() if k.startswith(f"{name}|{sampler}|")]
            found = [best[min(at, len(best)) - 1] for best in runs]
            if not found:
                cells.append("-")
                continue
            medians[sampler] = statistics.median(found)
            stopped = "*" if any(len(best) < at for best in runs) else ""
            span = f"({min(found):.2f} to {max(found):.2f}), {len(found)}{stopped}"
            cells.append(f"{medians[sampler]:.3f} {span}")
        for sampler, median in medians.items():
            ranks[sampler].append(1 + sum(other > median for other in medians.values()))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    means = [f"{statistics.mean(r):.2f}" if r else "-" for r in ranks.values()]
    lines.append("| mean rank | " + " | ".join(means) + " |")
    return "\n".join(lines)


def equal_counts(results: dict[str, Any], names: list[str], sampler: str, at: int) -> str:
    """Ours and a peer whose runs were stopped, each pair of runs where the shorter one ended."""
    lines = [
        f"{sampler} and ours at equal counts, at most {at}: medians over seeds",
        "",
        f"| problem | evaluations | {sampler} | betanas |",
        "|---|---|---|---|",
    ]
    for name in names:
        theirs = {
            k.split("|")[2]: r for k, r in results.items() if k.startswith(f"{name}|{sampler}|")
        }
        pairs = [
            (results[key(name, "betanas", int(seed))]["best"], run["best"])
            for seed, run in theirs.items()
            if key(name, "betanas", int(seed)) in results
        ]
        if not pairs:
            continue
        counts = [min(at, len(ours), len(peers)) for ours, peers in pairs]
        ours_there = [ours[n - 1] for (ours, _), n in zip(pairs, counts, strict=True)]
        peers_there = [peers[n - 1] for (_, peers), n in zip(pairs, counts, strict=True)]
        lines.append(
            f"| {name} | {', '.join(map(str, counts))} | {statistics.median(peers_there):.3f} | "
            f"{statistics.median(ours_there):.3f} |"
        )
    return "\n".join(lines)


def costs(results: dict[str, Any], samplers: list[str]) -> str:
    """Rejections and seconds per proposal, over all problems."""
    lines = [
        "| sampler | rejected proposals | of proposals | median s per proposal |",
        "|---|---|---|---|",
    ]
    for sampler in samplers:
        runs = [r for k, r in results.items() if k.split("|")[1] == sampler]
        if runs:
            rejections, proposals = (sum(r[w] for r in runs) for w in ("rejections", "proposals"))
            seconds = statistics.median(r["median_seconds"] for r in runs)
            lines.append(f"| {sampler} | {rejections} | {proposals} | {seconds:.3f} |")
    return "\n".join(lines)


def timing(samplers: list[str], number: int, repeats: int) -> None:
    """Prints seconds per proposal after so many finished feasible trials, on "b2 smooth"."""
    torch.set_num_threads(1)
    problem = betanet("b2 smooth", "betanet2", "smooth", 20, 0)
    rng = np.random.default_rng(0)
    kernels = problem.space.kernels(rng.random((16_000, len(problem.space.names))))
    kernels = kernels[problem.rules.assess(kernels).feasible]
    values = problem.objective(kernels) + rng.normal(scale=NOISE, size=len(kernels))
    for sampler in samplers:
        peer = make_peer(sampler, problem, 0)
        peer.begin(kernels[:number], values[:number].tolist(), [None] * number)
        seconds, cpu = [], []
        for i in range(repeats + 1):
            start, cpu_start = time.perf_counter(), time.process_time()
            kernel = peer.ask()
            seconds.append(time.perf_counter() - start)
            cpu.append(time.process_time() - cpu_start)
            peer.tell(kernel, float(values[number + i]), None)
        first = seconds.pop(0)  # it also imports and fills caches
        del cpu[0]
        print(
            f"| {sampler} | {number} | {statistics.median(seconds):.3f} | {min(seconds):.3f} to "
            f"{max(seconds):.3f} | {statistics.median(cpu):.3f} | {first:.3f} |",
            flush=True,
        )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="four problems, one seed, 50 evaluations"
    )
    parser.add_argument("--timing", action="store_true", help="seconds per proposal only")
    parser.add_argument(
        "--samplers",
        default=",".join(SAMPLERS),
        help="also betanas-STRATEGY, betanas-botorch-ACQUISITION, ax, hebo, NAME-pruned",
    )
    parser.add_argument(
        "--problems", default="", help="names, separated by commas; all if left out"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=100, help="feasible ones of a run")
    parser.add_argument(
        "--patience", type=float, default=600.0, help="processor seconds of a run's proposals"
    )
    parser.add_argument("--report", action="store_true", help="tables of --output, no runs")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--output", type=Path, help="JSON with every run; runs in it are not repeated"
    )
    arguments = parser.parse_args()
    samplers = arguments.samplers.split(",")
    if arguments.timing:
        print("| sampler | finished trials | median s per proposal | range | CPU s | first |")
        print("|---|---|---|---|---|---|")
        timing(samplers, 200, 5)
        timing([s for s in samplers if s.startswith("betanas")], 1000, 5)
        return
    names = arguments.problems.split(",") if arguments.problems else list(problems())
    seeds, evaluations = arguments.seeds, arguments.evaluations
    if arguments.quick:
        names, seeds, evaluations = names[:4], 1, 50
    output: Path | None = arguments.output
    results: dict[str, Any] = {}
    if output is not None and output.exists():
        results = json.loads(output.read_text())
    if not arguments.report:
        tasks = [
            (name, sampler, seed, evaluations, arguments.patience)
            for seed in range(seeds)
            for sampler in samplers
            for name in names
            if key(name, sampler, seed) not in results
        ]
        run_all(tasks, arguments.processes, results, output)
    for at in CHECKPOINTS:
        if at <= evaluations:
            print(table(results, names, samplers, at), end="\n\n")
    for sampler in samplers:
        if sampler != "betanas" and any(
            len(r["best"]) < evaluations for k, r in results.items() if k.split("|")[1] == sampler
        ):
            print(equal_counts(results, names, sampler, evaluations), end="\n\n")
    print(costs({k: r for k, r in results.items() if k.split("|")[0] in names}, samplers))


if __name__ == "__main__":
    main()
