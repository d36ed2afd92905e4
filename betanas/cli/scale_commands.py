"""The command that makes a kernel's network larger, and says what that costs.

It imports what it needs when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from betanas.cli.app import app, example
from betanas.cli.begun import load_begun, trial_kernel
from betanas.cli.options import (
    MOST_IMAGES,
    DeviceOption,
    JsonOption,
    SetOption,
    StorageOption,
    ends_well,
    err,
    out,
    print_json,
    say,
    short,
)
from betanas.errors import InputError

if TYPE_CHECKING:
    from betanas.analysis.scaling import Growth, Rule, ScaledCost
    from betanas.architecture.family import Family, Kernel
    from betanas.jobs.scaling import ScaledUp


@app.command(
    epilog=example("betanas scale --family betanet2 --published --compare --max-params 30000000")
)
@ends_well
def scale(
    study: Annotated[str | None, typer.Option(help="Take the kernel from this study.")] = None,
    trial: Annotated[
        int | None, typer.Option(help="The study's trial of this number; else its best.")
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="betanet2, betanet3, efficientnet, ...")
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="The family's published kernel.")
    ] = False,
    resolutions: Annotated[
        str, typer.Option(help="Input sides in pixels: 64,128 or 64,96,...,1024.")
    ] = "64,96,...,1024",
    rule: Annotated[
        str,
        typer.Option(
            metavar="plain|tamed|compound",
            help="plain: the kernel at another R; tamed: k grows with R, widths slower than R; "
            "compound: depth, width and R of the network at --base-resolution, as EfficientNet.",
        ),
    ] = "plain",
    compare: Annotated[
        bool, typer.Option("--compare", help="All rules beside each other.")
    ] = False,
    base_resolution: Annotated[
        int | None, typer.Option(help="Where the kernel is from; else the study's R, or 224.")
    ] = None,
    k_growth: Annotated[
        float, typer.Option(help="Tamed: of k for each doubling of R; 1 keeps the depth.")
    ] = 1.0,
    width_growth: Annotated[
        float, typer.Option(help="Tamed: power of R that widths are proportional to.")
    ] = 0.5,
    multipliers: Annotated[
        str, typer.Option(help="Compound: of depth, width and R for a rise of phi by 1.")
    ] = "1.2,1.1,1.15",
    max_params: Annotated[int | None, typer.Option(help="Weights of the largest.")] = None,
    max_macs: Annotated[int | None, typer.Option(help="Multiply-adds of the largest.")] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option(help="Milliseconds of an answer of the largest, measured here.")
    ] = None,
    latency: Annotated[
        bool, typer.Option("--latency", help="Measure the latency at every R, here.")
    ] = False,
    latency_batch: Annotated[
        int, typer.Option(min=1, max=MOST_IMAGES, help="Images of one answer.")
    ] = 1,
    device: DeviceOption = "auto",
    classes: Annotated[
        int | None,
        typer.Option(max=1_000_000_000, help="Number of classes; else the study's, or 100."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(max=MOST_IMAGES, help="Images of a training step; else the study's, or 100."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the curves as a page, figure and table.")
    ] = None,
    storage: StorageOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what one kernel costs at many resolutions, and the largest network that fits."""
    from betanas.analysis.scaling import Ceiling, Rule, Scaling, parse_resolutions
    from betanas.files import make_folder
    from betanas.jobs.scaling import ScaleOptions, scale_up, write_scaling

    sides, wanted = parse_resolutions(resolutions), _rule(rule)
    growth = _growth(k_growth, width_growth, multipliers)
    source = (
        _published(family, published)
        if study is None
        else _of_study(study, trial, family, published, storage, set_)
    )
    base = source.resolution if base_resolution is None else base_resolution
    options = ScaleOptions(
        sides,
        source.batch_size if batch_size is None else batch_size,
        Ceiling(max_params, max_macs, max_latency_ms),
        latency,
        device,
        latency_batch,
    )

    def run(by: Rule) -> ScaledUp:
        number = source.classes if classes is None else classes
        scaling = Scaling(source.family, source.kernel, number, by, base, growth)
        return scale_up(scaling, options, lambda row: say(_timed(by, row), err, "dim"))

    if output is not None:
        make_folder(output, "figures")
    others = [r for r in Rule if r is not wanted and not Scaling.refusal(source.family, r)]
    found = [run(by) for by in [wanted, *(others if compare else [])]]
    files = (
        []
        if output is None
        else write_scaling(found, f"{source.title} from R={base}", base, output)
    )
    if as_json:
        told: dict[str, Any] = found[0].to_json() | {"files": [str(file) for file in files]}
        print_json(told | _comparison(found) if compare else told)
        return
    _print_curves(found, options.batch_size)
    for line in [_largest(f) for f in found] if options.ceiling.limits else []:
        say(line)
    if files:
        say(f"wrote {files[0]} and {len(files) - 1} files beside it", err)


@dataclass(frozen=True, slots=True)
class _Source:
    """What is scaled, and what holds of it unless an option says otherwise."""

    title: str
    family: Family
    kernel: Kernel
    resolution: int = 224
    classes: int = 100
    batch_size: int = 100


def _of_study(
    study: str,
    trial: int | None,
    family: str | None,
    published: bool,
    storage: str | None,
    set_: list[str] | None,
) -> _Source:
    """A study's trial."""
    if family is not None:
        raise InputError("scale takes either --family or --study")
    if published:
        raise InputError("scale --study takes the study's kernel, not --published")
    definition, stored = load_begun(study, storage, set_)
    return _Source(
        definition.name,
        definition.search_family,
        trial_kernel(stored, trial),
        definition.resolution,
        len(stored.settings.classes),
        definition.recipe.batch_size,
    )


def _published(family: str | None, published: bool) -> _Source:
    """The published kernel of a family that is named."""
    from betanas.architecture.families import find_family

    if family is None:
        raise InputError("scale takes either --family or --study")
    chosen = find_family(family)
    if not published:
        raise InputError("scale --family takes --published; other kernels come from --study")
    return _Source(chosen.name, chosen, dict(chosen.published))


def _comparison(found: list[ScaledUp]) -> dict[str, Any]:
    return {"comparison": {str(f.rule): f.to_json() for f in found}}


def _rule(text: str) -> Rule:
    from betanas.analysis.scaling import Rule

    if text not in set(Rule):
        raise InputError(f"--rule must be plain, tamed or compound, but got {text!r}")
    return Rule(text)


def _growth(k: float, width: float, multipliers: str) -> Growth:
    """The rules' numbers; three of them stand in one option."""
    from betanas.analysis.scaling import Growth

    try:
        alpha, beta, gamma = map(float, multipliers.split(","))
    except ValueError:
        raise InputError(
            f"--multipliers takes three numbers such as 1.2,1.1,1.15, but got {multipliers!r}"
        ) from None
    return Growth(k, width, alpha, beta, gamma)


def _timed(rule: Rule, row: ScaledCost) -> str:
    return f"{rule} R={row.resolution}: {row.latency_ms:.2f} ms"


def _largest(found: ScaledUp) -> str:
    """The largest that fits, for people."""
    row = found.largest
    if row is None:
        return f"{found.rule}: nothing fits"
    told = f"{short(row.num_params)} parameters, {short(row.macs)} multiply-adds"
    told += "" if row.latency_ms is None else f", {row.latency_ms:.2f} ms"
    return f"{found.rule}: the largest that fits is R={row.resolution} with {told}"


def _print_curves(curves: list[ScaledUp], batch_size: int) -> None:
    """A row a side; several rules stand beside each other, in fewer words."""
    from rich.table import Table

    several = len(curves) > 1
    timed = any(row.latency_ms is not None for c in curves for row in c.rows)
    names = ["params", "macs", "layers"]
    names += [] if several else [f"activations ({batch_size} images)"]
    names += ["latency ms"] if timed else []
    table = Table(box=None, pad_edge=False)
    table.add_column("resolution", justify="right")
    for curve in curves:
        for name in names:
            table.add_column(f"{curve.rule} {name}" if several else name, justify="right")
    for rows in zip(*(c.rows for c in curves), strict=True):
        cells = [str(rows[0].resolution)]
        for row in rows:
            memory, ms = row.activation_bytes, row.latency_ms
            cells += [short(row.num_params), short(row.macs), str(row.layers)]
            if not several:
                cells.append("-" if memory is None else f"{memory / 2**20:,.0f} MiB")
            if timed:
                cells.append("-" if ms is None else f"{ms:.2f}")
        table.add_row(*cells)
    out.print(table)
