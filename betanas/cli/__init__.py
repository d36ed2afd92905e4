"""The command line: parse, call one function, print. Heavy imports wait until a command runs."""

import os
import signal
import warnings
from types import FrameType
from typing import NoReturn


def main() -> None:
    """The ``betanas`` command."""
    # Spinning threads make everything 20 times slower as soon as a core has other work too; the
    # variable is read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch|optuna")
    signal.signal(signal.SIGTERM, _interrupt)
    from betanas.cli import (  # noqa: F401 - they register
        analysis_commands,
        architecture_commands,
        confirm_commands,
        study_commands,
    )
    from betanas.cli.app import app

    app(prog_name="betanas")


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    """A polite kill is Ctrl-C: the trial is given back, and the database is left in order."""
    raise KeyboardInterrupt
