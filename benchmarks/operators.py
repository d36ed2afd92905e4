"""How well an operator table predicts: networks that it has not seen, and what the search gains.

    taskset -c 1 python benchmarks/operators.py heldout --study pictures --networks 16
    taskset -c 1 python benchmarks/operators.py feature --study mix.toml --storage sqlite:///mix.db

``heldout`` times a study's operators, then trains and asks random feasible networks, and the
family's members, on one thread. A CPU's own seconds are counted, which other work disturbs less.
``feature`` cross-validates the search's model on recorded trials with and without the predicted
seconds among its features, and with the images a second that were really measured, which no model
can know.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from betanas.architecture.layers import LayerTable
from betanas.architecture.operators import OperatorTable
from betanas.arrays import FloatArray
from betanas.devices.ranks import Ranks
from betanas.images.placement import TrainingImages
from betanas.jobs.load import load_study
from betanas.models import latency
from betanas.models.operators import Conditions, measure_operators
from betanas.search.acquisition import feasible_pool
from betanas.search.plan import StudyProblem, planned_problem, study_problem
from betanas.search.surrogate import Observations, Surrogate, one_thread
from betanas.study.definition import StudyDefinition
from betanas.study.loading import load_definition
from betanas.study.recipe import DatasetConfig
from betanas.training.trainer import Training
from betanas.trial import TrialTask

SECONDS = 1.5  # of training steps, each network


def tables(
    problem: StudyProblem, definition: StudyDefinition
) -> tuple[OperatorTable, OperatorTable]:
    """Of training steps and of answers, with the seconds that measuring took."""
    pool = feasible_pool(problem.space, problem.rules, 256, problem.seed).kernels
    networks = LayerTable.of(*(problem.rules.architecture(problem.space.kernel(k)) for k in pool))
    recipe = definition.recipe
    found = []
    for how in (
        Conditions("cpu", recipe.batch_size, bf16=recipe.precision == "bf16"),
        Conditions("cpu", 1, trains=False),
    ):
        began = time.process_time()
        found.append(measure_operators(networks, how))
        print(f"{how}: measured in {time.process_time() - began:.1f} s", flush=True)
    return found[0], found[1]


def step_seconds(definition: StudyDefinition, architecture: object, number: int) -> float:
    """Seconds an image of real training steps, data and optimiser included, on digits."""
    data, folder = DatasetConfig(name="digits"), tempfile.mkdtemp()
    task = TrialTask(
        number, number, architecture, data, definition.recipe, definition.budget, 1, "cpu",
        folder, folder,
    )  # fmt: skip
    images = TrainingImages.load(data, definition.resolution, Path(tempfile.gettempdir()))
    training = Training(task, images, Ranks(0, 1, torch.device("cpu")), time.time())
    training._engine = training._prepared_engine()
    for _ in range(2):
        training.step(0.5)
    began, steps = time.process_time(), 0
    while time.process_time() - began < SECONDS or steps < 3:
        training.step(0.5)
        steps += 1
    return (time.process_time() - began) / steps / definition.recipe.batch_size


def heldout(args: argparse.Namespace) -> None:
    """Prints measured and predicted, a network a line, and their distances."""
    torch.set_num_threads(1)
    latency.time.perf_counter = time.process_time
    definition = load_definition(args.study)
    precision = "bf16" if args.bf16 else "float32"
    recipe = definition.recipe.model_copy(update={"precision": precision})
    definition = definition.model_copy(update={"recipe": recipe})
    problem = planned_problem(definition, 10, None, None)
    steps, answers = tables(problem, definition)
    random = feasible_pool(problem.space, problem.rules, args.networks, seed=12345).kernels
    kernels = [("random", problem.space.kernel(k)) for k in random]
    kernels += definition.search_family.members.items() if args.members else []
    rows = []
    for number, (name, kernel) in enumerate(kernels):
        network = problem.rules.architecture(kernel)
        table = LayerTable.of(network)
        trained = step_seconds(definition, network, number)
        # Other work on the machine only ever makes it slower.
        answered = latency.measure_latency(network, 1, "cpu").low
        rows.append((trained, steps.seconds(table)[0], answered, answers.seconds(table)[0]))
        print(name, *(f"{1e6 * seconds:.0f}" for seconds in rows[-1]), "us", flush=True)
    found = np.array(rows)
    for what, measured, predicted in (("training", 0, 1), ("latency", 2, 3)):
        ratio = found[:, predicted] / found[:, measured]
        error = np.abs(ratio / np.median(ratio) - 1)
        rank = spearmanr(found[:, measured], found[:, predicted]).statistic
        print(
            f"{what}: predicted over measured {np.median(ratio):.2f}, error corrected by that "
            f"median {np.median(error):.3f}, nine in ten {np.quantile(error, 0.9):.3f}, "
            f"rank correlation {rank:.3f}; uncorrected median {np.median(np.abs(ratio - 1)):.3f}"
        )


def cross_validated(
    problem: StudyProblem, kernels: FloatArray, features: FloatArray, values: FloatArray, seed: int
) -> FloatArray:
    """Ten-fold predictions, kernels that are equal in one fold."""
    _, first, which = np.unique(kernels, axis=0, return_index=True, return_inverse=True)
    folds = np.random.default_rng(seed).permutation(len(first))[which] % 10
    observed = Observations(kernels, features, values, np.zeros_like(values))
    mean = np.empty_like(values)
    for fold in range(10):
        out = folds == fold
        model = Surrogate(problem.space, observed.take(~out))
        mean[out] = model.predict(kernels[out], features[out])[0]
    return mean


def one_ahead(
    problem: StudyProblem, kernels: FloatArray, features: FloatArray, values: FloatArray
) -> FloatArray:
    """Each four trials predicted from those before them, from the twentieth on; NaN before."""
    observed = Observations(kernels, features, values, np.zeros_like(values))
    mean = np.full_like(values, np.nan)
    for n in range(20, len(values), 4):
        model = Surrogate(problem.space, observed.take(slice(n)))
        mean[n : n + 4] = model.predict(kernels[n : n + 4], features[n : n + 4])[0]
    return mean


def feature(args: argparse.Namespace) -> None:
    """Prints how well the model foresees recorded trials, with each set of features."""
    torch.set_num_threads(1)
    loaded = load_study(args.study, args.storage)
    definition, stored = loaded.definition, loaded.stored
    problem = study_problem(definition, stored.settings)
    recipe = stored.settings.trained(definition.recipe, "cpu")
    definition = definition.model_copy(update={"recipe": recipe})
    space = problem.space
    records = [
        r
        for r in stored.records()
        if r.state == "complete" and not r.is_replicate and space.holds(r.parameters)
    ]
    kernels = space.vectors([r.parameters for r in records])
    values = np.array([r.value for r in records])
    steps, _ = tables(problem, definition)
    networks = LayerTable.of(*(problem.rules.architecture(r.parameters) for r in records))
    plain = problem.rules.assess(kernels).features
    rates = np.array([r.audit["images_per_second"] for r in records])
    sets = {
        "without": plain,
        "with predicted seconds": np.column_stack([plain, np.log(steps.seconds(networks))]),
        "with measured images/s": np.column_stack([plain, np.log(rates)]),
    }
    for name, features in sets.items():
        with one_thread():
            folds = [cross_validated(problem, kernels, features, values, s) for s in range(3)]
            ahead = one_ahead(problem, kernels, features, values)
        told = np.isfinite(ahead)
        ranks = [spearmanr(f, values).statistic for f in folds]
        errors = [np.sqrt(np.mean((f - values) ** 2)) for f in folds]
        later = np.sqrt(np.mean((ahead - values)[told] ** 2))
        print(
            f"{name}: ten-fold rank correlation {np.mean(ranks):.3f}, error {np.mean(errors):.4f}; "
            f"ahead {spearmanr(ahead[told], values[told]).statistic:.3f}, {later:.4f}"
        )


def main() -> None:
    """Parses and runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    held = commands.add_parser("heldout")
    held.set_defaults(run=heldout)
    held.add_argument("--networks", type=int, default=16)
    held.add_argument("--bf16", action="store_true")
    held.add_argument("--members", action="store_true")
    recorded = commands.add_parser("feature")
    recorded.set_defaults(run=feature)
    recorded.add_argument("--storage")
    for command in (held, recorded):
        command.add_argument("--study", required=True)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    sys.exit(main())
