"""The command line: parse, call one function, print. Heavy imports wait until a command runs."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING

from betanas.devices.processes import heed_sigterm
from betanas.errors import without_password

if TYPE_CHECKING:
    from typer import Typer


def main() -> None:
    """The ``betanas`` command."""
    try:
        _main()
    except KeyboardInterrupt:  # while modules are imported, before a command looks out for it
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _main() -> None:
    _hide_password()
    # Spinning threads make everything 20 times slower as soon as a core has other work too; the
    # variable is read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch|optuna")
    heed_sigterm()
    _end_unread_in_silence()
    commands()(prog_name="betanas")


def _end_unread_in_silence() -> None:
    """Has all that rich prints, help too, end as the commands do whose output nobody reads on."""
    from rich.console import Console

    from betanas.cli.options import end_unread

    def end(self: Console) -> None:  # noqa: ARG001 - rich's, and named as it is there
        end_unread()

    Console.on_broken_pipe = end  # type: ignore[method-assign]


def commands() -> Typer:
    """The root of the command line with all commands in it."""
    from betanas.cli import (  # noqa: F401 - they register
        analysis_commands,
        architecture_commands,
        confirm_commands,
        export_commands,
        model_commands,
        optimize_commands,
        predict_commands,
        scale_commands,
        score_commands,
        study_commands,
    )
    from betanas.cli.app import app

    return app


def _hide_password() -> None:
    """Begins anew without a password on the command line, where all users of a machine see it."""
    arguments = list(sys.orig_argv)
    for i, argument in enumerate(arguments):
        option, _, url = argument.partition("=")
        width = 1 if url else 2
        url = url or "".join(arguments[i + 1 : i + 2])
        if option == "--storage" and without_password(url) != url:
            print(
                "note: a password on the command line is for everybody to see; "
                "export BETANAS_STORAGE=URL instead of --storage URL",
                file=sys.stderr,
            )
            os.environ["BETANAS_STORAGE"] = url
            os.execv(sys.executable, arguments[:i] + arguments[i + width :])  # noqa: S606
