"""Several models trained alike: the same images, recipe and budget, one row a model."""

import csv
import io
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from betanas.analysis.figures.compared import draw_accuracy_over_time, draw_costs
from betanas.analysis.figures.style import to_svg
from betanas.architecture.reference import ReferenceModel
from betanas.devices.find import find_devices
from betanas.errors import InputError
from betanas.files import make_folder, read_json, whole_file, write_json
from betanas.jobs.costs import costs_of
from betanas.jobs.model_names import plan_alike, plan_training
from betanas.jobs.train import Machine, Plan, TrainOptions, folder_name, from_weights, train
from betanas.trial import RESULT_FILE

TABLE_FILE = "benchmark.json"
FILES = (TABLE_FILE, "benchmark.csv", "benchmark.md", "costs.svg", "time.svg")
COLUMNS = (
    "model", "resolution", "num_params", "macs", "activation_bytes", "latency_ms_1",
    "latency_p95_ms_1", "latency_ms_64", "latency_p95_ms_64", "images_per_second", "top1",
    "top1_std", "top5", "top5_std", "epochs", "train_seconds",
)  # fmt: skip


def compare(
    names: Sequence[str],
    options: TrainOptions,
    seeds: int,
    folder: Path,
    machine: Machine,
    say: Callable[[str], None],
    tell: Callable[[dict[str, Any]], None],
    *,
    pretrained: bool = False,
) -> list[dict[str, Any]]:
    """Trains each model with each seed; what was trained by the same call before is taken over.

    Args:
        names: The models; the first one's study, if it has one, gives data set and recipe to all.
        options: Data set, resolution, budget, ... for all.
        seeds: Trainings of a model, seeds 0, 1, ...
        folder: Where the models and ``FILES`` go: the table and its figures.
        machine: Where to train.
        say: Told what begins, a line each.
        tell: Told of each training's news.
        pretrained: Whether torchvision's begin with their weights, where these can be had.

    Returns:
        A row a model: means over the seeds, what the network costs, with ``runs``, what each
        training came to, and ``histories``, seconds and validation accuracies of each.

    Raises:
        InputError: For a model, a data set or a device that is not there, or a folder that cannot
            be written; nothing has begun then.
        RunError: If a training fails.
    """
    if len(set(names)) < len(names):
        raise InputError(f"--models must be different, but got {','.join(names)}")
    first = plan_training(names[0], options)
    if first.note:
        say(f"note: {first.note}")
    side = first.network.resolution if options.resolution is None else options.resolution
    others = [plan_alike(name, first, side, options.storage) for name in names[1:]]
    kind = find_devices(machine.device, machine.nproc_per_node, claim=False).kind
    plans, rows = [first, *others], []
    if pretrained:
        if not any(isinstance(plan.network, ReferenceModel) for plan in plans):
            raise InputError(
                "--pretrained starts torchvision's classifiers from their weights, but "
                f"--models has none of them: {','.join(names)}; leave it out"
            )
        plans = [begun_with_weights(plan, say) for plan in plans]
    make_folder(folder)
    for plan in plans:
        runs, histories = [], []
        for seed in range(seeds):
            one = replace(plan, seed=seed)
            place = folder / folder_name(one)
            say(f"{plan.title} at R={plan.network.resolution}, seed {seed}: {place}")
            runs.append(train(one, place, machine, tell))
            histories.append(_history(place))
        say(f"{plan.title}: its latency and memory")
        costs = costs_of(plan.network, plan.recipe.batch_size, kind, place)
        rows.append(_row(plan, runs) | costs | {"histories": histories})
        write_json(folder / TABLE_FILE, {"rows": rows, "recipe": first.recipe.model_dump()})
        _write_beside(folder, rows)
    return rows


def begun_with_weights(plan: Plan, say: Callable[[str], None]) -> Plan:
    """The plan of a network of torchvision's with its weights, where they can be had."""
    if not isinstance(plan.network, ReferenceModel):
        return plan
    try:
        return from_weights(plan)
    except InputError as error:
        say(f"{plan.title} is trained from scratch: {error}")
        return plan


def _row(plan: Plan, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over a model's trainings; what does not depend on the seed as it is."""
    row: dict[str, Any] = {"model": plan.title, "name": plan.name}
    row |= {key: runs[0][key] for key in ("resolution", "num_params", "macs", "part", "pretrained")}
    for key in ("top1", "top5", "validation_top1", "train_seconds", "epochs", "images_per_second"):
        row[key] = statistics.fmean(run[key] for run in runs)
    for key in ("top1", "top5"):
        row[f"{key}_std"] = statistics.stdev(run[key] for run in runs) if len(runs) > 1 else None
    return row | {"runs": list(runs)}


def _history(place: Path) -> list[tuple[float, float]]:
    """Seconds of training and validation accuracy of each evaluation, as far as they were kept."""
    told = read_json(place / "training" / RESULT_FILE) or {}
    return [(e["train_seconds"], e["accuracy"]) for e in told.get("history", ())]


def _write_beside(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The table in forms for people and other software, and its figures."""
    texts = {
        "benchmark.csv": to_csv(rows),
        "benchmark.md": to_markdown(rows),
        "costs.svg": to_svg(draw_costs(rows)),
        "time.svg": to_svg(draw_accuracy_over_time(rows)),
    }
    for name, text in texts.items():
        with whole_file(folder / name) as file:
            file.write(text.encode())


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """A line a model, ``COLUMNS`` first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([COLUMNS, *([row[name] for name in COLUMNS] for row in rows)])
    return text.getvalue()


def to_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table as it stands in a text: accuracies in per cent, counts in millions."""
    heads = (
        "model", "R", "params (M)", "MACs (M)", "memory (MiB)", "p50 1 (ms)", "p95 1 (ms)",
        "p50 64 (ms)", "p95 64 (ms)", "images/s", "top-1 (%)", "top-5 (%)", "epochs",
        "training (s)",
    )  # fmt: skip
    lines = [" | ".join(heads), " | ".join(["---", *["---:"] * (len(heads) - 1)])]
    for row in rows:
        told = (
            row["model"],
            row["resolution"],
            f"{row['num_params'] / 1e6:.3g}",
            f"{row['macs'] / 1e6:.3g}",
            f"{row['activation_bytes'] / 2**20:.3g}",
            *(f"{row[name]:.3g}" for name in COLUMNS if name.startswith("latency")),
            f"{row['images_per_second']:.0f}",
            *(_spread(row[name], row[f"{name}_std"]) for name in ("top1", "top5")),
            f"{row['epochs']:.1f}",
            f"{row['train_seconds']:.0f}",
        )
        lines.append(" | ".join(map(str, told)))
    return "".join(f"| {line} |\n" for line in lines)


def _spread(mean: float, std: float | None) -> str:
    return f"{100 * mean:.2f}" + ("" if std is None else f" ± {100 * std:.2f}")
