"""What ``import betanas`` offers beside its commands: a study searched from a program."""

from pathlib import Path

from rich.console import Console

from betanas.cli.options import err, parse_workers
from betanas.cli.progress import SearchProgress, tracked
from betanas.jobs.load import LoadedStudy, quiet_optuna, storage_url
from betanas.jobs.optimize import SearchOptions
from betanas.jobs.workers import search
from betanas.study.loading import (
    Overrides,
    finals_override,
    load_definition,
    override_lines,
    warm_start_override,
)


def optimize(  # noqa: PLR0913 - the options of the command
    study: str | Path,
    data: str | Path | None = None,
    overrides: Overrides = (),
    trials: int | None = None,
    device: str = "auto",
    nproc_per_node: int | None = None,
    storage: str | None = None,
    progress: bool = True,
    *,
    workers: int | str = 1,
    finals: str | None = None,
    warm_start: str | Path | None = None,
) -> LoadedStudy:
    """Starts a study, or goes on with it, until its target of trials is met.

    It does what ``betanas optimize`` does, and the two may take turns or work side by side: a study
    is in its database, and whatever is interrupted goes on from there.

    Args:
        study: A built-in study's name, or a path to a TOML file.
        data: A folder of pictures, ``FOLDER/train/CLASS/*.jpg``, in place of the study's images.
        overrides: Other values of the study file's keys: ``{"budget.seconds": 30}``, or
            ``["budget.seconds=30"]`` as on the command line.
        trials: Adds so many trials of any kind; the study's own target if left out.
        device: ``auto``, ``cpu`` or ``cuda``.
        nproc_per_node: Ranks that train one model together; None lets the device decide.
        storage: Database URL; else ``BETANAS_STORAGE``, else the study file's, else
            ``sqlite:///storage/STUDY.db``.
        progress: Whether to show on stderr how it goes.
        workers: Trials that are trained at the same time, each by a worker process with an equal
            share of the cores or a GPU of its own; ``"auto"`` measures how many are worth it.
        finals: For how long the network is to be trained that is looked for, such as ``"15m"``: the
            best are then trained again, ever longer up to that; ``search.finals`` if left out.
        warm_start: Another study that a new one begins from, by name or file: see
            ``docs/warm-start.md``; ``search.warm_start`` if left out.

    Returns:
        The study.

    Raises:
        InputError: For a study, images, a device or a database that do not work.
        RunError: If no training succeeds.
    """
    asked = [
        *override_lines(overrides), *finals_override(finals), *warm_start_override(warm_start)
    ]  # fmt: skip
    definition = load_definition(study, asked, data)
    url = storage_url(definition, storage)
    console = err if progress else Console(quiet=True, force_terminal=False)
    with quiet_optuna(), SearchProgress(console) as shown:
        reporter = tracked(definition, url, shown)
        options = SearchOptions(device, nproc_per_node, trials)
        stored = search(definition, url, options, reporter, parse_workers(str(workers)))
    return LoadedStudy(definition, stored)
