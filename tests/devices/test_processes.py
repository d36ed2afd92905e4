"""A polite kill reaches a command wherever it strikes."""

import subprocess
import sys

STRUCK = """
import signal, sys, time, weakref

from betanas.cli import commands, main
from betanas.cli.options import ends_well


class Thing:
    pass


@commands().command("work")
@ends_well
def work():
    thing = Thing()
    seen = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
    del thing  # the interpreter drops what a callback raises
    time.sleep(30)


sys.argv = ["betanas", "work"]
main()
"""


STRUCK_EARLY = """
import signal, sys

import betanas.cli


class Strikes:
    def find_spec(self, name, *_):
        if name == sys.argv[2]:
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)


sys.meta_path.insert(0, Strikes())
signal.signal(signal.SIGINT, signal.default_int_handler)
betanas.cli.main()
"""


def test_ctrl_c_while_the_command_line_is_imported() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", STRUCK_EARLY, "--version", "typer"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted\n")


def test_a_sigterm_during_a_callback_of_the_interpreter_is_not_lost() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", STRUCK], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr == "interrupted; the same command goes on from here\n"
