"""Whether scores of untrained networks would have told a real search more than it knew.

    betanas score --study demo --data FOLDER --json > scores.json    # CIFAR-10 as pictures
    python benchmarks/score_features.py --study demo --scores scores.json

One step ahead: the search's model learns from the trials before each complete one, and predicts
it; once with the features that it has, and once with scores beside them. What counts is Spearman's
rank correlation of predictions and values, over all trials but the first; the difference to no
scores has a bootstrap interval over trials. A score alone tells what a prefilter by it would do.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from betanas.arrays import FloatArray
from betanas.cli.begun import load_begun
from betanas.search.plan import study_problem
from betanas.search.space import Space
from betanas.search.surrogate import Observations, Surrogate, one_thread

SCORES = ("naswot", "synflow", "num_params", "macs")
SETS: dict[str, tuple[str, ...]] = {
    "no scores": (),
    "naswot": ("naswot",),
    "synflow": ("synflow",),
    "both": ("naswot", "synflow"),
}
BOOTSTRAPS = 2000


def correlation(one: FloatArray, other: FloatArray) -> float:
    """Spearman's."""
    return float(spearmanr(one, other).statistic)


def report(study: str, scores: Path, first: int) -> None:
    """Prints a table of the sets of scores, and of each score alone."""
    definition, stored = load_begun(study, None, None)
    problem = study_problem(definition, stored.settings)
    rows = json.loads(scores.read_text())["scores"]
    records = {record.number: record for record in stored.records()}
    kernels = problem.space.vectors([records[row["number"]].parameters for row in rows])
    values = np.array([row["value"] for row in rows], dtype=np.float64)
    plain = problem.rules.assess(kernels).features
    columns = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in SCORES}
    for column in columns.values():
        column[np.isnan(column)] = np.nanmin(column)  # no finite number ranks last
    predicted = {
        title: one_step_ahead(
            problem.space,
            kernels,
            np.column_stack([plain, *(columns[n] for n in own)]),
            values,
            first,
        )
        for title, own in SETS.items()
    }
    reached, base = values[first:], predicted["no scores"]
    drawn = np.random.default_rng(0).integers(len(reached), size=(BOOTSTRAPS, len(reached)))
    print(f"{len(rows)} trials of {study}, of which {len(reached)} are predicted")
    print("| features beside the search's own | Spearman | difference (95 %) |")
    print("|---|---|---|")
    for title, own in predicted.items():
        gains = [correlation(own[d], reached[d]) - correlation(base[d], reached[d]) for d in drawn]
        low, high = np.percentile(gains, (2.5, 97.5))
        gain = correlation(own, reached) - correlation(base, reached)
        print(
            f"| {title} | {correlation(own, reached):.3f} | {gain:+.3f} ({low:.3f} to {high:.3f}) |"
        )
    for name, column in columns.items():
        behind, over_all = correlation(column[first:], reached), correlation(column, values)
        print(f"{name} alone: {behind:.3f} over the predicted trials, {over_all:.3f} over all")


def one_step_ahead(
    space: Space, kernels: FloatArray, features: FloatArray, values: FloatArray, first: int
) -> FloatArray:
    """The model's mean of each trial from ``first`` on, by all trials before it."""
    means = []
    with one_thread():
        for i in range(first, len(values)):
            before = Observations(kernels[:i], features[:i], values[:i], np.zeros(i))
            model = Surrogate(space, before)
            means.append(model.predict(kernels[i : i + 1], features[i : i + 1])[0][0])
    return np.array(means)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--study", default="demo")
    parser.add_argument("--scores", type=Path, required=True)
    parser.add_argument("--first", type=int, default=40, help="trials that are learnt from only")
    given = parser.parse_args()
    report(given.study, given.scores, given.first)


if __name__ == "__main__":
    main()
