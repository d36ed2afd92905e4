"""Networks beside each other at equal time on one core, whatever else the machine does meanwhile.

    python benchmarks/compare.py pace --data FOLDER     # images a second of each, by turns
    python benchmarks/compare.py tune --data FOLDER     # the recipe of each, on validation images
    python benchmarks/compare.py train --data FOLDER --seconds 240 --seeds 1 2 3
    python benchmarks/compare.py latency --data FOLDER  # of one image on one thread, by turns
    python benchmarks/compare.py report --figure compare.png   # accuracy against latency

A network is trained on as many images as its pace brings in the time: a busy machine makes a
training longer, never shorter. Its pace is the median of some turns, the networks one after the
other, in bf16 or float32, whichever is faster, with the recipe's optimiser and batch size: a step
of Muon may take a large network as long as dozens of images. The recipe may be chosen for each on
validation images, in trainings of 25 s, or longer ones for slow networks. The test part is looked
at once, by the weights that were best on validation images. All goes on where it stopped.

Pin it (``taskset -c 1``): a pace is one core's. FOLDER holds train/CLASS/* and test/CLASS/*.
"""

import argparse
import itertools
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from betanas.architecture.decoding import decode
from betanas.architecture.families import find_family
from betanas.jobs.model_names import plan_training
from betanas.jobs.train import Machine, Plan, TrainOptions, train
from betanas.launcher.client import TrainerServer
from betanas.models.latency import measure_latency
from betanas.study.recipe import Budget, DatasetConfig
from betanas.trial import TrialTask

NETWORKS = (
    "plain",
    "plain-wide",
    "resnet20",
    "resnet20-narrow",
    "airbench",
    "resnet18-3x3",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "shufflenet_v2_x0_5",
)
# Of the preset, and what else each network may choose in place of it.
RECIPES: dict[str, dict[str, Any]] = {
    "Muon": {},
    "Muon, half the rates": {"muon_learning_rate": 0.05, "learning_rate": 4e-3},
    "Muon, twice the rates": {"muon_learning_rate": 0.2, "learning_rate": 16e-3},
    "Adam 4e-3": {"optimizer": "adam", "learning_rate": 4e-3, "batch_size": 100},
    "Adam 1e-2": {"optimizer": "adam", "learning_rate": 1e-2, "batch_size": 100},
    # For networks that see so few images in the time that they need small batches.
    "Muon, batches of 50": {"batch_size": 50, "muon_learning_rate": 0.05, "learning_rate": 4e-3},
    "Adam 1e-3, batches of 50": {"optimizer": "adam", "learning_rate": 1e-3, "batch_size": 50},
}
SHORT = ("recipe.preset=short", "recipe.warm_up=0.2")
TURNS, TURN_SECONDS, LEAST_STEPS = 3, 3.0, 3
PACED = {"evaluations": 2, "evaluate_every_epochs": 0}
PRECISIONS = ("bf16", "float32")
RESOLUTION = 32
COSTS = ("num_params", "macs")


class Comparison:
    """What is known so far, in one file that is written after each training.

    Args:
        file: JSON, written anew after each training.
        data: The folder of images.
        folder: Where trainings leave their files.
        kernels: Networks beside those that have a name: ``family`` and ``kernel`` of each.
        keys: What of the recipe all networks have in place of the preset's, ``KEY=VALUE``.
    """

    def __init__(
        self, file: Path, data: str, folder: Path, kernels: dict[str, Any], keys: Sequence[str] = ()
    ) -> None:
        self._file, self._data, self._folder, self._kernels = file, data, folder, kernels
        self._keys = tuple(keys)
        self._machine = Machine("cpu", 1, folder.resolve() / "cache")
        self.known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    def pace(self, names: list[str], recipes: list[str]) -> None:
        """Measures images a second, the networks one after the other, for some turns.

        A training's first steps take longer, which no long one notices: of a turn its second half
        counts. Recipes of one optimiser and batch size have the same pace.
        """
        kinds = list(dict.fromkeys(map(kind_of, recipes)))
        # Its looks at validation images count for nothing here.
        dataset = self._plan(names[0], PACED, 0).dataset.model_copy(update={"validation": 0.01})
        with self._trainer(dataset) as trainer:
            for turn in range(TURNS):
                for name, kind, precision in itertools.product(names, kinds, PRECISIONS):
                    known = self._of(name).setdefault("paces", {}).setdefault(kind, {})
                    paces = known.setdefault(precision, [])
                    if len(paces) <= turn:
                        keys = RECIPES[kind] | PACED | {"precision": precision}
                        plan = replace(self._plan(name, keys, 0), dataset=dataset)
                        paces.append(round(self._turn(trainer, plan), 1))
                        self._write(name, {})
                        print(f"{name}, {kind}: {known}", flush=True)

    def _turn(self, trainer: TrainerServer, plan: Plan) -> float:
        """Images a second of one training that is long enough to tell."""
        batch = plan.recipe.batch_size

        def pace(half: int) -> float:
            task = self._task(plan, Budget(steps=2 * half), "pace")
            first, second = trainer.run(task).history
            return half * batch / (second.train_seconds - first.train_seconds)

        rough = pace(LEAST_STEPS)
        enough = math.ceil(TURN_SECONDS * rough / batch)
        return pace(enough) if enough > LEAST_STEPS else rough

    def tune(self, names: list[str], recipes: list[str], seconds: float) -> None:
        """Tries each recipe for a while; the best on validation images is the network's.

        Test images are not read.
        """
        with self._trainer(self._plan(names[0], {}, 0).dataset) as trainer:
            for name, recipe in itertools.product(names, recipes):
                tried = self._of(name).setdefault("validation", {})
                if recipe not in tried:
                    plan = self._timed(name, recipe, 0, seconds)
                    place = f"{name}, {recipe}".replace(" ", "-")
                    result = trainer.run(self._task(plan, plan.budget, place))
                    tried[recipe] = result.value or 0.0  # what diverges is no recipe
                    self._write(name, {"recipe": max(tried, key=lambda r: float(tried[r]))})
                    told = f"{name}, {recipe}: {tried[recipe]:.4f} {result.message}"
                    print(told.rstrip(), flush=True)

    def train(self, names: list[str], seconds: float, seeds: list[int]) -> None:
        """Trains for a time, and looks at the test images."""
        for seed in seeds:
            for name in names:
                rows = self._of(name).setdefault(f"{seconds:g} s", {})
                if str(seed) not in rows:
                    plan = self._timed(name, recipe_of(self._of(name)), seed, seconds)
                    facts = self._train(plan, f"{seconds:g}")
                    rows[str(seed)] = {k: facts[k] for k in ("top1", "validation_top1", "epochs")}
                    self._write(name, {k: facts[k] for k in COSTS})

    def latency(self, names: list[str]) -> None:
        """Times answers of one image on one thread, the networks one after the other, by turns."""
        torch.set_num_threads(1)
        networks = {name: self._plan(name, {}, 0).network for name in names}
        for turn in range(TURNS):
            for name, network in networks.items():
                found = self._of(name).setdefault("latency_ms", [])
                if len(found) <= turn:
                    found.append(round(1000 * measure_latency(network, 1, "cpu").seconds, 4))
        for name in names:
            self._write(name, {})
            print(f"{name}: {self._of(name)['latency_ms']} ms", flush=True)

    def draw(self, seconds: float, file: Path) -> None:
        """Draws test top-1 after a time against the latency, where both are known."""
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, NullFormatter

        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        found = []
        for name, row in self.known.items():
            if "latency_ms" in row and (runs := row.get(f"{seconds:g} s")):
                ours = name in self._kernels
                point = least_ms(row), 100 * statistics.fmean(r["top1"] for r in runs.values())
                found += [point] if ours else []
                axes.plot(*point, "o" if ours else "s", color="C0" if ours else "C1")
                axes.annotate(name, point, xytext=(6, -3), textcoords="offset points", fontsize=8)
        axes.plot(*zip(*sorted(found), strict=True), color="C0", linewidth=1)
        axes.set(xscale="log", xlabel="latency of one image on one thread (ms)")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.15)
        axes.set(ylabel=f"test top-1 (%) after {seconds:g} s of training")
        figure.savefig(file, dpi=120)

    def report(self) -> None:
        """Prints the table: test top-1 by time, mean of the seeds and each."""
        times = sorted({t for row in self.known.values() for t in row if t.endswith(" s")})
        print("| network | weights | ms | images/s | recipe | " + " | ".join(times) + " |")
        print("|---|---|---|---|---|" + "---|" * len(times))
        for name, row in self.known.items():
            recipe = recipe_of(row)
            _, pace = fastest(row, recipe)
            answer = f"{least_ms(row):.2f}" if "latency_ms" in row else ""
            cells = [name, f"{row['num_params']:,}", answer, f"{pace:,.0f}", recipe]
            for time in times:
                found = [100 * r["top1"] for r in row.get(time, {}).values()]
                each = ", ".join(f"{v:.2f}" for v in found)
                cells.append(f"{statistics.fmean(found):.2f} ({each})" if found else "")
            print("| " + " | ".join(cells) + " |")

    def _of(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.known.setdefault(name, {})
        return found

    def _write(self, name: str, facts: dict[str, Any]) -> None:
        self._of(name).update(facts)
        self._file.write_text(json.dumps(self.known, indent=1))

    def _timed(self, name: str, recipe: str, seed: int, seconds: float) -> Plan:
        """How a network is trained on as many images as so many seconds bring."""
        try:
            precision, pace = fastest(self._of(name), recipe)
        except KeyError:
            told = f"{name} has no pace with {recipe!r}: run pace with --recipes {recipe!r} first"
            raise SystemExit(told) from None
        keys = RECIPES[recipe] | {"precision": precision}
        return self._plan(name, keys, seed, max(1, round(seconds * pace)))

    def _plan(self, name: str, keys: dict[str, Any], seed: int, images: int = 1) -> Plan:
        given = [f"recipe.{k}={v}" for k, v in keys.items()]
        options = TrainOptions(
            data=self._data,
            resolution=RESOLUTION,
            seed=seed,
            overrides=[*SHORT, *self._keys, *given],
            budget=f"budget.images={images}",
        )
        own = self._kernels.get(name)
        plan = plan_training("plain" if own else name, options)
        if own:
            network = decode(
                find_family(own["family"]), own["kernel"], RESOLUTION, plan.network.num_classes
            )
            plan = replace(plan, name=name, title=name, network=network)
        return plan

    @contextmanager
    def _trainer(self, dataset: DatasetConfig) -> Iterator[TrainerServer]:
        """One for many short trainings."""
        with TrainerServer(dataset, RESOLUTION, self._machine.cache) as trainer:
            trainer.wait()
            yield trainer

    def _task(self, plan: Plan, budget: Budget, place: str) -> TrialTask:
        return TrialTask(
            number=0,
            seed=0,
            architecture=plan.network,
            dataset=plan.dataset,
            recipe=plan.recipe,
            budget=budget,
            nproc_per_node=1,
            device="cpu",
            folder=str(self._folder.resolve() / place),
            cache=str(self._machine.cache),
        )

    def _train(self, plan: Plan, what: str) -> dict[str, Any]:
        place = self._folder.resolve() / plan.name.replace(" ", "-") / what.replace(" ", "-")
        facts = train(plan, place / str(plan.seed), self._machine, lambda _: None)
        print(f"{plan.name}, {what}, seed {plan.seed}: {facts['top1']:.4f}", flush=True)
        return facts


def least_ms(row: dict[str, Any]) -> float:
    """Of the turns' medians the least: what else the machine did can only have added to it."""
    return float(min(row["latency_ms"]))


def kind_of(recipe: str) -> str:
    """The first of the recipes that have the same optimiser and batch size."""

    def kind(keys: dict[str, Any]) -> tuple[Any, Any]:
        return keys.get("optimizer"), keys.get("batch_size")

    return next(name for name, keys in RECIPES.items() if kind(keys) == kind(RECIPES[recipe]))


def recipe_of(row: dict[str, Any]) -> str:
    """The best for the network as far as that is known, or the preset's."""
    return str(row.get("recipe", next(iter(RECIPES))))


def fastest(row: dict[str, Any], recipe: str) -> tuple[str, float]:
    """In which numbers a network trains fastest by a recipe, and images a second then, the median.

    Raises:
        KeyError: If its pace is not known.
    """
    found = row["paces"][kind_of(recipe)]
    paces = {precision: statistics.median(turns) for precision, turns in found.items() if turns}
    return max(paces.items(), key=lambda pace: pace[1])


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("do", choices=("pace", "tune", "train", "latency", "report"))
    parser.add_argument("--data", default="data")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--kernels", type=Path, help="JSON: name to family and kernel")
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--recipes", nargs="+", choices=tuple(RECIPES), default=list(RECIPES))
    parser.add_argument("--tuning-seconds", type=float, default=25.0)
    parser.add_argument("--set", nargs="+", default=(), metavar="recipe.KEY=VALUE", dest="keys")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--folder", type=Path, default=Path("compare"))
    parser.add_argument("--output", type=Path, default=Path("compare.json"))
    parser.add_argument("--figure", type=Path, help="of the report: a PNG")
    args = parser.parse_args()
    kernels = json.loads(args.kernels.read_text()) if args.kernels else {}
    comparison = Comparison(args.output, args.data, args.folder, kernels, args.keys)
    names = [*args.networks, *kernels]
    match args.do:
        case "pace":
            comparison.pace(names, args.recipes)
        case "tune":
            comparison.tune(names, args.recipes, args.tuning_seconds)
        case "train":
            comparison.train(names, args.seconds, args.seeds)
        case "latency":
            comparison.latency(names)
        case "report":
            comparison.report()
            if args.figure:
                comparison.draw(args.seconds, args.figure)


if __name__ == "__main__":
    main()
