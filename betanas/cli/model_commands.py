"""Commands that make a model for use: train it, compare it.

Each imports what it needs when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from betanas.cli.app import app, example
from betanas.cli.options import (
    DeviceOption,
    JsonOption,
    RanksOption,
    SetOption,
    StorageOption,
    ends_well,
    err,
    out,
    parse_ranks,
    per_cent,
    print_json,
    say,
    short,
)
from betanas.errors import InputError

MODEL_HELP = (
    "STUDY:best, STUDY:recommended, STUDY:final (the winner of its finals), STUDY:NUMBER, "
    "STUDY:front:PLACE on the Pareto front of several objectives, or STUDY:published, its "
    "family's; betanet2, betanet3, nasnet_mobile, efficientnet-b0 to -b7, or betamix's plain, "
    "plain-wide, resnet20, resnet20-narrow, resnet18-3x3, airbench or airbench-wide; a name of "
    "torchvision's, such as mobilenet_v2, or mobilenet_v2+3x3 with a first convolution for small "
    "pictures, of stride 1; or timm:NAME of timm's. @R behind it gives a resolution."
)

DatasetOption = Annotated[
    str | None,
    typer.Option(help="digits, cifar10, cifar100, fashion-mnist; else the study's own."),
]
DataOption = Annotated[
    str | None, typer.Option(help="Folder of images: FOLDER/train/CLASS/*.jpg, FOLDER/test/...")
]
ResolutionOption = Annotated[
    int | None, typer.Option(help="Input side in pixels; else the study's, or 224.")
]
EpochsOption = Annotated[
    int | None, typer.Option(help="Passes over the training images; else 100, or --set budget.*.")
]

PretrainedOption = Annotated[
    bool,
    typer.Option("--pretrained", help="Begin with torchvision's weights, but for the last layer."),
]


@app.command(epilog=example("betanas train --model digits:best --epochs 60"))
@ends_well
def train(
    model: Annotated[str, typer.Option(help=MODEL_HELP)],
    dataset: DatasetOption = None,
    data: DataOption = None,
    resolution: ResolutionOption = None,
    epochs: EpochsOption = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Of weights, order and augmentation.")
    ] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Folder for model.pt; else storage/models/MODEL.")
    ] = None,
    pretrained: PretrainedOption = False,
    nproc_per_node: RanksOption = "auto",
    nnodes: Annotated[
        str,
        typer.Option(
            metavar="MIN:MAX",
            help="Machines that may come and go while it trains; see docs/elastic.md.",
        ),
    ] = "1",
    rdzv_endpoint: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where they meet on node 0.")
    ] = None,
    node_rank: Annotated[int | None, typer.Option(help="Which node this is.")] = None,
    device: DeviceOption = "auto",
    storage: StorageOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train one model to convergence, test it, and write it to a file."""
    from betanas.jobs.model_names import plan_training
    from betanas.jobs.train import (
        CACHE,
        MODELS,
        EvaluationLines,
        Machine,
        TrainOptions,
        folder_name,
        from_weights,
    )
    from betanas.jobs.train import train as run
    from betanas.launcher.rendezvous import Rendezvous

    options = TrainOptions(dataset, data, resolution, epochs, seed, tuple(set_ or ()), storage)
    meeting = Rendezvous.elastic(nnodes, rdzv_endpoint, node_rank)
    machine = Machine(device, parse_ranks(nproc_per_node), CACHE, meeting)
    say("loading ...", err, "dim")
    plan = plan_training(model, options)
    if plan.note:
        say(f"note: {plan.note}", err, "dim")
    if pretrained:
        plan = from_weights(plan)
    folder = output or MODELS / folder_name(plan)
    say(f"trains {plan.title} at R={plan.network.resolution} into {folder}", err)
    found = run(plan, folder, machine, EvaluationLines(lambda text: say(text, err)))
    if as_json:
        print_json(found)
        return
    say(
        f"{found['model']}: {per_cent(found['top1'])} top-1, {per_cent(found['top5'])} top-5 "
        f"on the {found['part']} images; {short(found['num_params'])} parameters, "
        f"{short(found['macs'])} multiply-adds, {found['epochs']:.1f} epochs, "
        f"{found['train_seconds']:.0f} s of training"
    )
    if found["part"] == "validation":
        say(
            "note: there is no test part; its epoch was chosen on these images, which flatters", err
        )
    say(f"wrote {found['checkpoint']}", err)


@app.command(epilog=example("betanas benchmark --models digits:best,mobilenet_v2 --dataset digits"))
@ends_well
def benchmark(
    models: Annotated[str, typer.Option(help=f"With commas between, each of: {MODEL_HELP}")],
    dataset: DatasetOption = None,
    data: DataOption = None,
    resolution: ResolutionOption = None,
    epochs: EpochsOption = None,
    time: Annotated[
        str | None, typer.Option(metavar="15m", help="Time of each training, in place of epochs.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How often each model is trained.")] = 1,
    output: Annotated[
        Path, typer.Option(help="Folder for the models, the table and its figures.")
    ] = Path("storage/benchmark"),
    pretrained: PretrainedOption = False,
    nproc_per_node: RanksOption = "auto",
    device: DeviceOption = "auto",
    storage: StorageOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train several models with one recipe on one data set, and compare them in one table."""
    from betanas.jobs.compare import FILES, compare
    from betanas.jobs.train import CACHE, EvaluationLines, Machine, TrainOptions

    options = TrainOptions(
        dataset, data, resolution, epochs, overrides=tuple(set_ or ()), storage=storage
    )
    if time is not None:
        options = replace(options, budget=_time_budget(time, epochs))
    machine = Machine(device, parse_ranks(nproc_per_node), CACHE)

    def tell_line(text: str) -> None:
        say(text, err)

    say("loading ...", err, "dim")
    names = [name.strip() for name in models.split(",")]
    lines = EvaluationLines(tell_line)
    rows = compare(names, options, seeds, output, machine, tell_line, lines, pretrained=pretrained)
    if as_json:
        print_json({"rows": rows, "files": [str(output / name) for name in FILES]})
        return
    _print_rows(rows)
    say(f"wrote {', '.join(str(output / name) for name in FILES)}", err)


def _time_budget(time: str, epochs: int | None) -> str:
    """``--time`` as an override of a study file's keys."""
    from betanas.study.amounts import parse_amount

    if epochs is not None:
        raise InputError("benchmark takes either --time or --epochs")
    try:
        budget = parse_amount(time, "seconds")
    except ValueError as error:
        raise InputError(f"--time {error}") from None
    return (
        f"budget.{budget.unit}={budget.amount if budget.unit == 'seconds' else int(budget.amount)}"
    )


def _print_rows(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("model")
    columns = (
        "R", "params", "macs", "memory", "ms", "p95", "ms/64", "top-1", "std", "top-5", "epochs",
        "images/s", "train s",
    )  # fmt: skip
    for name in columns:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row["model"],
            str(row["resolution"]),
            short(row["num_params"]),
            short(row["macs"]),
            f"{row['activation_bytes'] / 2**20:.3g} MiB",
            f"{row['latency_ms_1']:.3g}",
            f"{row['latency_p95_ms_1']:.3g}",
            f"{row['latency_ms_64']:.3g}",
            per_cent(row["top1"]),
            per_cent(row["top1_std"]),
            per_cent(row["top5"]),
            f"{row['epochs']:.1f}",
            f"{row['images_per_second']:.0f}",
            f"{row['train_seconds']:.0f}",
        )
    out.print(table)
    parts = {row["part"] for row in rows}
    say(
        f"accuracies on the {' and '.join(sorted(parts))} images; milliseconds of an answer, "
        f"median and 95th percentile of 1 image, median of 64, on {rows[0]['latency_device']}; "
        "memory: activations of a training step"
    )
