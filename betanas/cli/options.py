"""The options that commands share, and how every command ends."""

import errno
import functools
import json
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn, ParamSpec

import typer
from rich.console import Console

from betanas.errors import BetaNASError, InputError, without_password
from betanas.files import FULL, finite

StudyOption = Annotated[
    str, typer.Option("--study", help="A built-in study's name, or a path to a TOML file.")
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="Database URL; else $BETANAS_STORAGE, else the study file's, "
        "else sqlite:///storage/STUDY.db.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key of the study file; repeatable."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")]
RanksOption = Annotated[
    str, typer.Option(metavar="N|auto", help="Ranks that train one model together.")
]
WorkersOption = Annotated[
    str,
    typer.Option(
        metavar="N|auto",
        help="Workers that train a trial each at the same time, on equal shares of the cores or a "
        "GPU each; auto measures how many are worth it.",
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda|cuda:N,...",
        help="Where to train; auto and cuda take the GPUs that no other search of yours has.",
    ),
]

MOST_IMAGES = 100_000  # of a batch
_UNREAD = 128 + 13  # what a shell says of a command that SIGPIPE has ended
_PLAIN_WIDTH = 160  # columns where no terminal says how many there are

out = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
err = Console(stderr=True, width=None if sys.stderr.isatty() else _PLAIN_WIDTH)


def say(text: str, console: Console = out, style: str | None = None) -> None:
    """Prints one line as it is, however long; but no password of a database."""
    console.print(
        without_password(text), style=style, highlight=False, markup=False, soft_wrap=True
    )


def end_unread() -> NoReturn:
    """Ends in silence when nobody reads on (``betanas trials | head``), as SIGPIPE would end it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):  # what is left in them is written at the very end
        os.dup2(nowhere, stream.fileno())
    sys.exit(_UNREAD)


P = ParamSpec("P")

_FULL = dict.fromkeys(FULL, "make room, and the same command goes on from here")
_FORBIDDEN = dict.fromkeys(
    (errno.EACCES, errno.EPERM, errno.EROFS), "allow it, or choose another place"
)
_IN_THE_WAY = dict.fromkeys(
    (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG),
    "move away what is there, or choose another place",
)
# What the user can do about files that no command has looked at before it began to work.
_CURES = _FULL | _FORBIDDEN | _IN_THE_WAY


def ends_well(command: Callable[P, None]) -> Callable[P, None]:
    """Turns errors of ours and of files into one line and an exit code, and Ctrl-C into 130."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except BetaNASError as error:
            say(f"error: {error}", err, "red")
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            say("interrupted; the same command goes on from here", err)
            raise typer.Exit(130) from None
        except BrokenPipeError:
            end_unread()
        except OSError as error:
            if error.errno not in _CURES or (error.filename is None and error.errno not in _FULL):
                raise
            place = "" if error.filename is None else f"{error.filename2 or error.filename}: "
            say(f"error: {place}{error.strerror}; {_CURES[error.errno]}", err, "red")
            raise typer.Exit(1 if error.errno in _FULL else 2) from None

    return run


def parse_ranks(nproc_per_node: str) -> int | None:
    """A number of ranks; None for ``auto``."""
    return _number_or_auto("--nproc-per-node", nproc_per_node)


def parse_workers(workers: str) -> int | None:
    """A number of workers; None for ``auto``."""
    return _number_or_auto("--workers", workers)


def _number_or_auto(option: str, text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"{option} must be auto or >= 1, but got {text!r}")
    return int(text)


def print_json(data: Any) -> None:
    """One JSON document, and nothing else, on stdout."""
    sys.stdout.write(json.dumps(finite(data), indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def per_cent(value: float | None) -> str:
    """An accuracy as people read it; a value that cannot be one as it is."""
    if value is None:
        return "-"
    return f"{100 * value:.2f} %" if abs(value) <= 1 else f"{value:.2f}"


def short(number: float | None) -> str:
    """A count with a unit: 8.86M."""
    if number is None:
        return "-"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:g}"
