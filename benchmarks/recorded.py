"""A landscape from trials that were really trained: what benchmarks/data/*.csv recorded.

    python benchmarks/recorded.py demo > benchmarks/data/demo.csv     # a study's complete trials

One row a trial: ``family,resolution,num_classes,batch_size``, the kernel's parameters, ``value``.
Nobody can look up a kernel that was not trained, so this is a surrogate benchmark: a random forest,
fitted to the table, answers in place of a training. It keeps the landscape's large shape (which
parameters matter, where it is good) and loses what is finer than the table; a forest is no Gaussian
process, so that it favours none of the samplers by construction. The noise told is that of the
forest's own out-of-bag residuals, at most 0.02.
"""

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestRegressor

import betanas
from betanas.architecture.complexity import step_bytes
from betanas.architecture.families import FAMILIES
from betanas.architecture.limits import Feasibility, Limits
from betanas.arrays import FloatArray
from betanas.search.plan import StudyProblem
from betanas.search.problem import Problem
from betanas.search.rules import ArchitectureRules
from betanas.search.space import Space

SLOTS = 2
COSTS = ("family", "resolution", "num_classes", "batch_size")


def load(path: Path, seed: int) -> tuple[StudyProblem, Callable[[FloatArray], FloatArray], float]:
    """Reads a table of trials and fits the forest.

    Args:
        path: The CSV file.
        seed: Of the Sobol phase; the forest is always the same.

    Returns:
        The search problem, the objective (1 the best kernel that is known of, 0 the median
        feasible one) and the noise on that scale.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    family = FAMILIES[rows[0]["family"]]
    resolution, classes, batch = (
        int(rows[0][key]) for key in ("resolution", "num_classes", "batch_size")
    )
    kernels = np.array([[float(row[name]) for name in family.names] for row in rows])
    values = np.array([float(row["value"]) for row in rows])
    low, high = np.array(list(family.ranges.values())).T
    ends = np.minimum(low, kernels.min(0)), np.maximum(high, kernels.max(0))
    space = Space(
        tuple(
            p.narrowed([*map(float, pair)])
            for p, pair in zip(family.parameters, zip(*ends, strict=True), strict=True)
        )
    )
    # Nothing larger than what was trained: a forest cannot extrapolate.
    unlimited = Feasibility(family, classes, batch, SLOTS, Limits(resolution))
    costs = unlimited.check(kernels).complexities
    limits = Limits(resolution, int(costs.num_params.max()), int(step_bytes(costs, SLOTS).max()))
    feasibility = Feasibility(family, classes, batch, SLOTS, limits)
    rules = ArchitectureRules(space, feasibility)

    def inputs(x: FloatArray) -> FloatArray:
        return np.column_stack([space.unit(x), rules.assess(x).features])

    forest = RandomForestRegressor(300, min_samples_leaf=2, oob_score=True, random_state=0)
    forest.fit(inputs(kernels), values)
    spread = space.kernels(np.random.default_rng(0).random((2**14, len(space.names))))
    spread = spread[feasibility.feasible(spread)]
    answers = forest.predict(inputs(np.concatenate([spread, kernels])))
    poor, best = float(np.median(answers[: len(spread)])), float(answers.max())
    noise = min(0.02, float(np.std(values - forest.oob_prediction_)))

    def objective(x: FloatArray) -> FloatArray:
        return np.asarray((forest.predict(inputs(x)) - poor) / (best - poor))

    problem = Problem(space, rules, seed, 100, 20)
    return problem, objective, noise / (best - poor)


def export(study: str) -> None:
    """Prints the complete trials of a study that has begun, in the form that ``load`` reads."""
    loaded = betanas.load_study(study)
    definition = loaded.definition
    names = definition.search_family.names
    classes = len(loaded.stored.settings.classes)
    facts = [definition.family, definition.resolution, classes, definition.recipe.batch_size]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*COSTS, *names, "value"])
    for record in loaded.records():
        if record.state == "complete":
            kernel = [f"{record.kernel[name]:.6g}" for name in names]
            writer.writerow([*facts, *kernel, f"{record.value:.5f}"])


if __name__ == "__main__":
    export(*sys.argv[1:])
