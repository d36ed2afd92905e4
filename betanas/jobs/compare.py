"""Several models trained alike: the same images, recipe and budget, one row a model."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from betanas.errors import InputError
from betanas.files import write_json
from betanas.jobs.model_names import plan_alike, plan_training
from betanas.jobs.train import Machine, Plan, TrainOptions, folder_name, train

TABLE_FILE = "benchmark.json"


def compare(
    names: Sequence[str],
    options: TrainOptions,
    seeds: int,
    folder: Path,
    machine: Machine,
    say: Callable[[str], None],
    tell: Callable[[dict[str, Any]], None],
) -> list[dict[str, Any]]:
    """Trains each model with each seed; what was trained by the same call before is taken over.

    Args:
        names: The models; the first one's study, if it has one, gives data set and recipe to all.
        options: Data set, resolution, budget, ... for all.
        seeds: Trainings of a model, seeds 0, 1, ...
        folder: Where the models and ``benchmark.json`` go.
        machine: Where to train.
        say: Told what begins, a line each.
        tell: Told of each training's news.

    Returns:
        A row a model: means over the seeds, with ``runs``, what each training came to.

    Raises:
        InputError: For a model, a data set or a device that is not there; nothing has begun then.
        RunError: If a training fails.
    """
    if len(set(names)) < len(names):
        raise InputError(f"--models must be different, but got {','.join(names)}")
    first = plan_training(names[0], options)
    side = first.network.resolution if options.resolution is None else options.resolution
    others = [plan_alike(name, first, side, options.storage) for name in names[1:]]
    rows = []
    for plan in (first, *others):
        runs = []
        for seed in range(seeds):
            one = replace(plan, seed=seed)
            place = folder / folder_name(one)
            say(f"{plan.title} at R={plan.network.resolution}, seed {seed}: {place}")
            runs.append(train(one, place, machine, tell))
        rows.append(_row(plan, runs))
        write_json(folder / TABLE_FILE, {"rows": rows, "recipe": first.recipe.model_dump()})
    return rows


def _row(plan: Plan, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over a model's trainings; what does not depend on the seed as it is."""
    row: dict[str, Any] = {"model": plan.title, "name": plan.name}
    row |= {key: runs[0][key] for key in ("resolution", "num_params", "macs", "part")}
    for key in ("top1", "top5", "validation_top1", "train_seconds", "epochs", "images_per_second"):
        row[key] = statistics.fmean(run[key] for run in runs)
    row["top1_std"] = statistics.stdev(run["top1"] for run in runs) if len(runs) > 1 else None
    return row | {"runs": list(runs)}
