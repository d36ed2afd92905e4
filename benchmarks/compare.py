"""A search's best architecture beside reference networks: one recipe, one time, the test part.

    python benchmarks/compare.py --study demo --images FOLDER --seconds 900
    python benchmarks/compare.py --models best,MobileNetV2 --threads 1 --output results.json

All models train on the whole training part (the validation part included) with the study's recipe
and no early choice: the accuracy is that of the last weights on the test part, which the search
never saw and which is looked at once. FOLDER holds train/CLASS/* and test/CLASS/*.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models

import betanas
from betanas.architecture.decoding import decode
from betanas.data import load_images
from betanas.devices.ranks import Ranks
from betanas.images.placement import TrainingImages
from betanas.models.network import build_model
from betanas.study.loading import load_definition
from betanas.study.recipe import Budget
from betanas.training.trainer import Training
from betanas.trial import TrialTask

REFERENCES: dict[str, Callable[[int], nn.Module]] = {
    "MobileNetV2": lambda classes: models.mobilenet_v2(num_classes=classes),
    "EfficientNet-B0": lambda classes: models.efficientnet_b0(num_classes=classes),
}


def both_parts(folder: Path, resolution: int, cache: Path) -> TrainingImages:
    """The whole training part to learn from, the test part where validation is otherwise."""
    dataset = load_definition("pictures", data=str(folder)).dataset
    train, test = (load_images(dataset, part, resolution, cache) for part in ("train", "test"))
    images = torch.cat([torch.from_numpy(p.images.copy()) for p in (train, test)])
    labels = torch.cat([torch.from_numpy(p.labels) for p in (train, test)])
    order = torch.arange(len(images))
    first = len(train.labels)
    return TrainingImages(images, labels, order[:first], order[first:], train.mean, train.std)


def train_one(
    name: str, study: str, storage: str | None, folder: Path, seconds: float, seed: int
) -> dict[str, Any]:
    """Trains one model and looks at the test part once.

    Args:
        name: ``best``, or one of ``REFERENCES``.
        study: Gives recipe, resolution and the best trial.
        storage: Its database; None for where it is by default.
        folder: The images.
        seconds: Of training.
        seed: Of weights, order and augmentation.
    """
    loaded = betanas.load_study(study, storage=storage)
    definition = loaded.definition
    best = loaded.best()
    if best is None:
        raise SystemExit(f"study {study} has no complete trial yet")
    with tempfile.TemporaryDirectory() as place:
        images = both_parts(folder, definition.resolution, Path(place))
        classes = int(images.labels.max()) + 1
        architecture = decode(definition.search_family, best.kernel, definition.resolution, classes)
        recipe = definition.recipe_of(best.parameters)
        task = TrialTask(
            number=0,
            seed=seed,
            architecture=architecture,
            dataset=definition.dataset,
            recipe=recipe.model_copy(update={"evaluations": 0, "evaluate_every_epochs": 0}),
            budget=Budget(seconds=seconds),
            nproc_per_node=1,
            device="cpu",
            folder=place,
            cache=place,
            checkpoint_seconds=1e9,
        )
        torch.manual_seed(seed)
        model = build_model(architecture) if name == "best" else REFERENCES[name](classes)
        cpu = Ranks(0, 1, torch.device("cpu"))
        result = Training(task, images, cpu, time.time(), model).run()
    (last,) = result.history
    return {
        "model": f"trial {best.number} of {study}" if name == "best" else name,
        "test_top1": last.accuracy,
        "num_params": sum(p.numel() for p in model.parameters()),
        "train_seconds": result.train_seconds,
        "epochs": result.epochs,
        "images_per_second": result.images_per_second,
        "threads": torch.get_num_threads(),
        "seed": seed,
    }


def main() -> None:
    """Trains each model in a process of its own, one after the other, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", default="demo")
    parser.add_argument("--storage", help="the study's database")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--models", default=",".join(["best", *REFERENCES]))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON; rows are added")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        torch.set_num_threads(arguments.threads)
        row = train_one(
            arguments.models,
            arguments.study,
            arguments.storage,
            arguments.images,
            arguments.seconds,
            arguments.seed,
        )
        print(json.dumps(row))
        return
    print("| model | weights | test top-1 | epochs | images/s | training s |")
    print("|---|---|---|---|---|---|")
    for name in arguments.models.split(","):
        own = [sys.executable, __file__, "--one", "--models", name, "--images", arguments.images]
        own += ["--study", arguments.study, "--seconds", str(arguments.seconds)]
        own += ["--threads", str(arguments.threads), "--seed", str(arguments.seed)]
        own += ["--storage", arguments.storage] if arguments.storage else []
        environment = {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONWARNINGS": "ignore", **os.environ}
        out = subprocess.run(own, check=True, capture_output=True, text=True, env=environment)
        row = json.loads(out.stdout.splitlines()[-1])
        print(
            f"| {row['model']} | {row['num_params']:,} | {row['test_top1']:.2%} | "
            f"{row['epochs']:.1f} | {row['images_per_second']:.0f} | {row['train_seconds']:.0f} |",
            flush=True,
        )
        if arguments.output is not None:
            rows = json.loads(arguments.output.read_text()) if arguments.output.exists() else []
            arguments.output.write_text(json.dumps([*rows, row], indent=1))


if __name__ == "__main__":
    main()
