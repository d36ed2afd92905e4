"""A recipe improved one key after the other, in equal trainings of one network.

    python benchmarks/recipes.py --data FOLDER --network airbench-wide --epochs 16
    python benchmarks/recipes.py --data FOLDER --seconds 60 --set batch_size=500 --only crop mixing

It begins with the preset ``short``. Of each key the values are tried in turn, the others being the
best so far, and a value stays that reaches more on validation images. The test part is never read.
What was trained is in the output file, a JSON line each, and is not trained again.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, Self

from betanas.architecture.decoding import decode
from betanas.architecture.families import FAMILIES
from betanas.data import describe_dataset
from betanas.launcher.client import TrainerServer
from betanas.study.recipe import Budget, DatasetConfig, Recipe
from betanas.trial import TrialTask

Keys = dict[str, Any]

RESOLUTION = 32
# What is tried, in this order; a value may be several keys that belong together.
TRIED: dict[str, list[Keys]] = {
    "crop": [
        {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0), "crop_padding": 0.0625},
        {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0), "crop_padding": 0.125},
        {"crop_padding": 0.125},
    ],
    "label_smoothing": [{"label_smoothing": v} for v in (0.1, 0.2)],
    "muon_learning_rate": [{"muon_learning_rate": v} for v in (0.05, 0.2, 0.3)],
    "learning_rate": [{"learning_rate": v} for v in (2e-3, 4e-3, 1.6e-2)],
    "momentum": [{"momentum": v} for v in (0.8, 0.9)],
    "warm_up": [{"warm_up": v} for v in (0.1, 0.2)],
    "weight_decay": [{"weight_decay": v} for v in (1e-4, 1e-3)],
    "weight_average": [{"weight_average": v} for v in (0.9, 0.99)],
    "batch_size": [{"batch_size": v} for v in (200, 1000, 2000)],
    "mixing": [{"cutmix": 0.5}, {"cutmix": 1.0}, {"mixup": 0.2}],
    "autoaugment": [{"autoaugment": True}, {"autoaugment": True, "autoaugment_after": 10.0}],
}  # fmt: skip


class Trainings:
    """Trains with a recipe, unless the file knows already what that reaches.

    Args:
        network: A member of BetaMix.
        budget: Of each training.
        device: Where.
        data: Folder of ``train/CLASS/*``.
        file: JSON lines.
        seeds: A recipe's value is the mean of these.
    """

    def __init__(
        self, network: str, budget: Budget, device: str, data: str, file: Path, seeds: list[int]
    ) -> None:
        self._network, self._budget, self._device = network, budget, device
        self._dataset = DatasetConfig(name="imagefolder", root=data)
        self._file, self._seeds = file, seeds
        lines = file.read_text().splitlines() if file.exists() else []
        self._known = {_key(row): row for row in map(json.loads, lines)}
        self._folder = file.with_suffix("").absolute()

    def __enter__(self) -> Self:
        self._server = TrainerServer(self._dataset, RESOLUTION, self._folder / "cache")
        self._server.wait()
        classes = describe_dataset(self._dataset).num_classes
        family = FAMILIES["betamix"]
        self._architecture = decode(family, family.members[self._network], RESOLUTION, classes)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def accuracy(self, recipe: Keys) -> float:
        """What the recipe reaches on validation images, the mean of the seeds."""
        return sum(self._train(recipe, seed) for seed in self._seeds) / len(self._seeds)

    def _train(self, recipe: Keys, seed: int) -> float:
        spent = {self._budget.unit: self._budget.amount}
        row = {"network": self._network, "budget": spent, "seed": seed, "recipe": recipe}
        row = json.loads(json.dumps(row))
        if _key(row) not in self._known:
            began = time.monotonic()
            result = self._server.run(self._task(recipe, seed))
            row |= {
                "accuracy": result.value, "epochs": round(result.epochs, 1),
                "seconds": round(result.train_seconds, 2),
                "images_per_s": round(result.images_per_second),
                "wall_s": round(time.monotonic() - began, 1), "message": result.message,
            }  # fmt: skip
            with self._file.open("a") as lines:
                lines.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
            self._known[_key(row)] = row
        return float(self._known[_key(row)]["accuracy"] or 0.0)

    def _task(self, recipe: Keys, seed: int) -> TrialTask:
        number = len(self._known)
        return TrialTask(
            number=number,
            seed=seed,
            architecture=self._architecture,
            dataset=self._dataset,
            recipe=Recipe(**{"preset": "short", **recipe}),
            budget=self._budget,
            nproc_per_node=1,
            device=self._device,
            folder=str(self._folder / str(number)),
            cache=str(self._folder / "cache"),
        )


def _key(row: Keys) -> str:
    names = ("network", "budget", "seed", "recipe")
    return json.dumps({name: row[name] for name in names}, sort_keys=True)


def improve(trainings: Trainings, recipe: Keys, names: list[str]) -> Keys:
    """The best recipe found, one key after the other."""
    best = trainings.accuracy(recipe)
    for name in names:
        before = recipe  # of this key the values are alternatives
        for keys in TRIED[name]:
            if (found := trainings.accuracy(before | keys)) > best:
                best, recipe = found, before | keys
                print(f"# {name}: {keys} reaches {found:.4f}", flush=True)
    return recipe


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", required=True)
    parser.add_argument("--network", default="plain-wide", choices=FAMILIES["betamix"].members)
    parser.add_argument("--device", default="cpu")
    spent = parser.add_mutually_exclusive_group(required=True)
    spent.add_argument("--epochs", type=int)
    spent.add_argument("--seconds", type=float)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="to begin with")
    parser.add_argument("--only", nargs="*", default=list(TRIED), choices=list(TRIED))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--output", type=Path, default=Path("recipes.jsonl"))
    args = parser.parse_args()
    budget = Budget(epochs=args.epochs, seconds=args.seconds)
    given = dict(item.split("=", 1) for item in args.set)
    recipe = {key: json.loads(value) for key, value in given.items()}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with Trainings(
        args.network, budget, args.device, args.data, args.output, args.seeds
    ) as trainings:
        best = improve(trainings, recipe, args.only)
    print(json.dumps({"best": best}))


if __name__ == "__main__":
    main()
