"""One-shot searches: does the table foresee latencies, what does their weight do, is it worth it.

    python benchmarks/oneshot.py --data FOLDER     # all parts; goes on where it was stopped
    python benchmarks/oneshot.py --data FOLDER --parts latency sweep --steps 100 --seeds 1
    python benchmarks/oneshot.py --report          # the tables of README.md

Study ``singlepath``: three stages of three blocks, half as wide, R=32, one thread.

- ``latency``: random networks, their latency by the table of operators and measured.
- ``sweep``: what supernets of several latency weights choose, by table and, all together at the
  end, measured.
- ``equal``: the network chosen at a weight (``--weight``), random ones of no more latency by the
  table, and the best of a Gaussian process's search under the same limit that took as much
  processor time as the supernet, all trained alone with the same images and seed. Values are those
  of the validation images, from which the Gaussian process has chosen, too.

Budgets are steps and images, and seconds are a process's own, so that other work on the core does
not count. A latency is the median over rounds of the least of some passes; in a round all networks
take their turn. Rows of other steps or images stand beside each other in the file.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from scipy.stats import spearmanr

import betanas
from betanas.architecture.layers import IMAGE_CHANNELS, Architecture, LayerTable
from betanas.architecture.mbconv import BLOCKS, MBCONV
from betanas.architecture.operators import OperatorTable
from betanas.architecture.supernet import SupernetPlan, network_text, plan_supernet
from betanas.arrays import FloatArray
from betanas.devices.ranks import Ranks
from betanas.files import write_whole
from betanas.images.placement import TrainingImages
from betanas.models.network import build_model
from betanas.models.operators import Conditions, measure_operators
from betanas.search.architecture_space import ArchitectureSpace
from betanas.search.plan import planned_problem
from betanas.study.definition import StudyDefinition
from betanas.study.loading import load_definition
from betanas.study.recipe import Budget
from betanas.training.supernet import SupernetTraining
from betanas.training.trainer import Training
from betanas.trial import SupernetTask, TrainingResult, TrialTask

optuna.logging.set_verbosity(optuna.logging.WARNING)

CLASSES, RESOLUTION = 10, 32
WEIGHTS = (0.0, 0.02, 0.1, 0.5)
NETWORKS, RANDOM = 20, 8
ROUNDS, PASSES = 40, 5
SHARE = 4  # a trial of the Gaussian process has so much fewer images than a final training
RETRAIN_SEED = 1000  # plus the seed
Choices = dict[str, str]
RESULTS = Path(__file__).parent / "results" / "oneshot.json"


class Bench:
    """What all parts share.

    Args:
        asked: The command's options.
    """

    def __init__(self, asked: argparse.Namespace) -> None:
        batch = [f"recipe.batch_size={asked.batch}"]
        self.definition: StudyDefinition = load_definition("singlepath", batch, asked.data)
        self.steps, self.images, self.folder = asked.steps, asked.images, asked.folder
        self.weight: float = asked.weight
        self._output = output = asked.output
        self.rows = read_rows(output)
        self.table, self.plan = self._planned()
        self._pictures: TrainingImages | None = None

    def _planned(self) -> tuple[OperatorTable, SupernetPlan]:
        """The table of operators, timed once, and the supernet by it."""
        ranges = self.definition.parameters
        if "answering" not in self.rows:
            shape = {p.name: p.value(ranges[p.name][0]) for p in MBCONV.shape}
            blocks = [n for n in MBCONV.names if n not in shape]
            networks = [
                MBCONV.decode({**shape, **dict.fromkeys(blocks, c)}, RESOLUTION, CLASSES)
                for c in BLOCKS
            ]
            found = measure_operators(LayerTable.of(*networks), Conditions("cpu", 1, trains=False))
            self.rows["answering"] = found.to_json()
            self.save()
        table = OperatorTable.from_json(self.rows["answering"])
        return table, plan_supernet(ranges, RESOLUTION, CLASSES, table)

    @property
    def batch(self) -> int:
        """Images of a step."""
        return self.definition.recipe.batch_size

    def save(self) -> None:
        """Writes all rows."""
        self._output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._output, json.dumps(self.rows, indent=1) + "\n")

    def add(self, part: str, row: Mapping[str, Any]) -> None:
        """Keeps a row, and says it."""
        self.rows.setdefault(part, []).append(dict(row))
        self.save()
        print(part, json.dumps(row), flush=True)

    def has(self, part: str, **keys: Any) -> bool:
        """Whether there is a row with these values."""
        return self.found(part, **keys) is not None

    def found(self, part: str, **keys: Any) -> dict[str, Any] | None:
        """The first row with these values."""
        rows = self.rows.get(part, ())
        return next((r for r in rows if all(r.get(k) == v for k, v in keys.items())), None)

    def network(self, choices: Choices) -> Architecture:
        """The network of one choice a block."""
        return MBCONV.decode(self.plan.kernel(choices), RESOLUTION, CLASSES)

    def random(self, number: int, seed: int, most_ms: float = np.inf) -> list[Choices]:
        """Networks drawn evenly, of no more runtime than that."""
        generator, found = np.random.default_rng(seed), []
        while len(found) < number:
            choices = {n: str(generator.choice(o)) for n, o in self.plan.options.items()}
            if choices not in found and self.plan.runtime_ms(choices) <= most_ms:
                found.append(choices)
        return found

    def train(
        self, architecture: Architecture, seed: int, budget: Budget, weight: float | None = None
    ) -> tuple[TrainingResult, float]:
        """Trains a network, or a supernet of that latency weight.

        Returns:
            The result, and the processor's seconds.
        """
        definition = self.definition
        recipe = definition.recipe.model_copy(
            update={"evaluations": 4 if weight is not None else 1}
        )
        supernet = None
        if weight is not None:
            config = definition.oneshot.model_copy(
                update={"latency_weight": weight, "warm_up_steps": self.steps // 4}
            )
            supernet = SupernetTask(self.plan, config)
        if self._pictures is None:
            cache = self.folder / "cache"
            self._pictures = TrainingImages.load(definition.dataset, RESOLUTION, cache)
        folder = self.folder / "training"
        folder.mkdir(parents=True, exist_ok=True)
        task = TrialTask(
            number=0, seed=seed, architecture=architecture, dataset=definition.dataset,
            recipe=recipe, budget=budget, nproc_per_node=1, device="cpu", folder=str(folder),
            cache=str(self.folder / "cache"), checkpoint_seconds=1e9, supernet=supernet,
        )  # fmt: skip
        kind = Training if supernet is None else SupernetTraining
        ranks, began = Ranks(0, 1, torch.device("cpu")), time.process_time()
        result = kind(task, self._pictures, ranks, time.time()).run()
        return result, time.process_time() - began


def read_rows(output: Path) -> dict[str, Any]:
    """What was kept; empty at first."""
    return json.loads(output.read_text("utf-8")) if output.exists() else {}


def measured_ms(networks: Sequence[Architecture]) -> FloatArray:
    """Latency of each for one image, in milliseconds of the processor, ``networks x rounds``."""
    models = [build_model(n).eval().to(memory_format=torch.channels_last) for n in networks]
    image = torch.randn(1, IMAGE_CHANNELS, RESOLUTION, RESOLUTION)
    image = image.to(memory_format=torch.channels_last)

    def seconds(model: torch.nn.Module) -> float:
        began = time.process_time()
        model(image)
        return time.process_time() - began

    with torch.inference_mode():
        rounds = [[min(seconds(m) for _ in range(PASSES)) for m in models] for _ in range(ROUNDS)]
    return 1000 * np.array(rounds).T


def latency(bench: Bench, _seeds: Iterable[int]) -> None:
    """Random networks, by table and measured."""
    if bench.has("latency"):
        return
    drawn = bench.random(NETWORKS, 0)
    taken = measured_ms([bench.network(c) for c in drawn])
    for choices, ms in zip(drawn, taken, strict=True):
        halves = [float(np.median(ms[i::2])) for i in (0, 1)]
        row = {
            "network": network_text(choices), "predicted_ms": bench.plan.runtime_ms(choices),
            "measured_ms": float(np.median(ms)), "halves_ms": halves,
        }  # fmt: skip
        bench.add("latency", row)


def sweep(bench: Bench, seeds: Iterable[int]) -> None:
    """What supernets choose by weight and seed."""
    for seed in seeds:
        for weight in WEIGHTS:
            chosen_network(bench, weight, seed)
    rows = bench.rows["sweep"]
    taken = measured_ms([bench.network(row["choices"]) for row in rows])
    for row, ms in zip(rows, taken, strict=True):
        row["measured_ms"] = float(np.median(ms))
    bench.save()


def chosen_network(bench: Bench, weight: float, seed: int) -> dict[str, Any]:
    """The row of one supernet, trained unless it is there."""
    keys = {"weight": weight, "seed": seed, "steps": bench.steps, "batch": bench.batch}
    if not bench.has("sweep", **keys):
        largest = bench.plan.largest(RESOLUTION, CLASSES)
        result, seconds = bench.train(largest, seed, Budget(steps=bench.steps), weight)
        assert result.supernet is not None
        choices = result.supernet["choices"]
        row = {
            "choices": choices, "predicted_ms": bench.plan.runtime_ms(choices),
            "supernet_accuracy": result.value, "cpu_seconds": seconds,
        }  # fmt: skip
        bench.add("sweep", keys | row)
    found = bench.found("sweep", **keys)
    assert found is not None
    return found


def equal(bench: Bench, seeds: Iterable[int]) -> None:
    """The chosen network against random ones and the Gaussian process's, each retrained."""
    for seed in seeds:
        chosen = chosen_network(bench, bench.weight, seed)
        most = chosen["predicted_ms"]
        keys = {
            "weight": bench.weight, "seed": seed, "steps": bench.steps, "batch": bench.batch,
            "images": bench.images,
        }  # fmt: skip
        entrants = {"one-shot": chosen["choices"]}
        drawn = bench.random(RANDOM, seed + 1, most)
        entrants |= {f"random {i}": choices for i, choices in enumerate(drawn)}
        for name, choices in entrants.items():
            retrain(bench, name, choices, keys)
        if not bench.has("equal", **keys, name="gp"):
            try:
                found = by_gaussian_process(bench, seed, most, chosen)
            except betanas.InputError as refused:  # too little of the space is as fast
                print(f"seed {seed}: no search: {refused}", flush=True)
            else:
                retrain(bench, "gp", found, keys)


def retrain(bench: Bench, name: str, choices: Choices, keys: Mapping[str, Any]) -> None:
    """Trains a network alone, unless its row is there."""
    if bench.has("equal", **keys, name=name):
        return
    budget = Budget(images=bench.images)
    result, seconds = bench.train(bench.network(choices), RETRAIN_SEED + keys["seed"], budget)
    row = {
        "name": name, "network": network_text(choices), "accuracy": result.value,
        "predicted_ms": bench.plan.runtime_ms(choices), "cpu_seconds": seconds,
    }  # fmt: skip
    bench.add("equal", {**keys, **row})


def by_gaussian_process(
    bench: Bench, seed: int, most_ms: float, chosen: Mapping[str, Any]
) -> Choices:
    """The best trial of a search that takes as much processor time as the supernet has taken."""
    limited = bench.definition.model_copy(
        update={"limits": bench.definition.limits.model_copy(update={"latency_ms": most_ms})}
    )
    problem = planned_problem(limited, CLASSES, None, None, answering=bench.table)
    space = ArchitectureSpace(problem.rules)
    study = optuna.create_study(
        direction="maximize",
        sampler=betanas.Sampler(space, seed, sobol_trials=5, min_feasible=5),
    )
    budget, best = Budget(images=max(1, bench.images // SHARE)), (-1.0, bench.plan.fastest)
    began = time.process_time()
    while time.process_time() - began < chosen["cpu_seconds"]:
        trial = study.ask()
        try:
            architecture = space.suggest(trial)
            choices = {name: trial.params[name] for name in bench.plan.options}
            # The rule lets a little more pass, for it is the measured latency that counts there.
            if bench.plan.runtime_ms(choices) > most_ms:
                raise optuna.TrialPruned
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            continue
        result, _ = bench.train(architecture, seed + trial.number, budget)
        study.tell(trial, result.value or 0.0)
        best = max(best, (result.value or 0.0, choices), key=lambda found: found[0])
    trials = len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE]))
    print(f"seed {seed}: {trials} trials of the Gaussian process", flush=True)
    return best[1]


def report(rows: Mapping[str, Any]) -> None:
    """The tables of README.md."""
    if found := rows.get("latency"):
        predicted, taken = (
            np.array([r[k] for r in found]) for k in ("predicted_ms", "measured_ms")
        )
        error = np.median(np.abs(predicted / taken - 1))
        rank = spearmanr(predicted, taken).statistic
        ratios = predicted / taken
        factor = np.median(ratios)
        scatter = np.median(np.abs(ratios / factor - 1))
        print(f"{len(found)} networks: Spearman {rank:.3f}, median error {error:.1%}")
        print(f"predicted {factor:.2f} of what was measured; without that factor {scatter:.1%}")
        print(f"measured {taken.min():.2f} to {taken.max():.2f} ms")
        again = spearmanr(*np.array([r["halves_ms"] for r in found]).T).statistic
        print(f"every other round against the others: Spearman {again:.3f}")
    for length in sorted({(r["steps"], r["batch"]) for r in rows.get("sweep", ())}):
        print("\n{} steps of {} images\n".format(*length))
        print("| weight | seeds | by the table (ms) | measured (ms) | skipped |")
        print("|---|---|---|---|---|")
        same = [r for r in rows["sweep"] if (r["steps"], r["batch"]) == length]
        for weight in sorted({r["weight"] for r in same}):
            own = [r for r in same if r["weight"] == weight]
            said = statistics.median(r["predicted_ms"] for r in own)
            was = statistics.median(r.get("measured_ms", np.nan) for r in own)
            skipped = [list(r["choices"].values()).count("skip") for r in own]
            print(f"| {weight:g} | {len(own)} | {said:.2f} | {was:.2f} | {skipped} |")
    for weight, seed in sorted({(r["weight"], r["seed"]) for r in rows.get("equal", ())}):
        own = {r["name"]: r for r in rows["equal"] if (r["weight"], r["seed"]) == (weight, seed)}
        drawn = [r["accuracy"] for name, r in own.items() if name.startswith("random")]
        told = [f"{n} {own[n]['accuracy']:.3f}" for n in ("one-shot", "gp") if n in own]
        if drawn:
            told.append(f"median of {len(drawn)} random {statistics.median(drawn):.3f}")
        print(f"\nweight {weight:g}, seed {seed}: " + ", ".join(told))


def main() -> None:
    """See the module's head."""
    parser = argparse.ArgumentParser(description="see the head of the file")
    parser.add_argument("--data", help="a folder of pictures, train/CLASS/*")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--steps", type=int, default=200, help="of a supernet")
    parser.add_argument("--batch", type=int, default=100, help="images of a step")
    parser.add_argument("--images", type=int, default=20_000, help="of a final training")
    parser.add_argument("--weight", type=float, default=0.5, help="of part equal; one of sweep's")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--folder", type=Path, default=Path("storage/oneshot-benchmark"))
    parser.add_argument("--report", action="store_true", help="print what is there")
    asked = parser.parse_args()
    if not asked.report:
        if asked.data is None:
            parser.error("--data FOLDER is wanted")
        torch.set_num_threads(1)
        bench = Bench(asked)
        for part in asked.parts:
            PARTS[part](bench, range(asked.seeds))
    report(read_rows(asked.output))


PARTS = {"latency": latency, "sweep": sweep, "equal": equal}

if __name__ == "__main__":
    main()
