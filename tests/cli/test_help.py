"""What every command says of itself, and what it must not import before it runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from calls import Ended, invoke, run

from betanas.cli import architecture_commands, commands, study_commands

COMMANDS = sorted(
    str(command.name or getattr(command.callback, "__name__", "")).replace("_", "-")
    for command in commands().registered_commands
)


def test_all_commands_are_there() -> None:
    assert architecture_commands.app is study_commands.app is commands()
    assert set(COMMANDS) >= {
        "optimize", "status", "trials", "best", "describe", "check", "studies", "dashboard",
    }  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_that_fits(command: str) -> None:
    ended = invoke(command, "--help")
    assert (ended.code, ended.err) == (0, "")
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", ended.out).split())
    found = re.search(rf"Example: (betanas {command}\b.*)$", text)
    assert found is not None, text
    options = re.findall(r"--[\w-]+", text[: found.start()])
    assert set(re.findall(r"--[\w-]+", found[1])) <= set(options)


def test_help_of_the_whole(tmp_path: Path) -> None:
    ended = run(tmp_path, "--help")
    assert (ended.code, ended.err) == (0, "")
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", ended.out)
    assert "betanas optimize --study digits" in ended.out


def test_version(tmp_path: Path) -> None:
    import betanas

    assert run(tmp_path, "--version") == Ended(0, f"betanas {betanas.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["optimise"], "no such command 'optimise'"),
        (["status"], "missing option '--study'; see betanas status --help"),
        (["describe", "--batch-size", "0"], "but got '0'; see betanas describe --help"),
        (["describe", "--resolution=x"], "but got 'x'; see betanas describe --help"),
        (["studies", "x"], "unexpected extra argument"),
        (["status", "--studi", "x"], "no such option: --studi"),
        (["status", "--study"], "requires an argument"),
    ],
)
def test_a_wrong_call_is_told_in_one_line(arguments: list[str], told: str) -> None:
    ended = invoke(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert re.fullmatch(r"error: [^\n]*--help\n", ended.err)
    assert told in ended.err


def test_no_command_shows_what_there_is() -> None:
    ended = invoke()
    assert ended.code == 2
    assert "optimize" in ended.out + ended.err


# -- what stays free of the heavy dependencies ---------------------------------------------------


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


HEAVY = (
    "{'torch', 'torchvision', 'optuna', 'botorch', 'gpytorch', 'sklearn', 'plotly', 'matplotlib'}"
)
REPORT = f"; import sys; print(sorted({HEAVY} & set(sys.modules)))"


@pytest.mark.parametrize("package", ["architecture", "study"])
def test_descriptions_import_nothing_heavy(package: str) -> None:
    walk = (
        f"import importlib, pkgutil, betanas, betanas.{package} as p; "
        f"[importlib.import_module(m.name) for m in pkgutil.walk_packages(p.__path__, "
        f"'betanas.{package}.')]"
    )
    assert python(walk + REPORT) == "[]"


def test_the_command_line_imports_nothing_heavy() -> None:
    modules = "betanas, betanas.trial, betanas.errors, betanas.cli.study_commands, "
    assert python(f"import {modules}betanas.cli.architecture_commands{REPORT}") == "[]"


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    for arguments in (["--help"], ["optimize", "--help"], ["studies"]):
        code = (
            f"import sys, contextlib, io; sys.argv = ['betanas', *{arguments}]\n"
            "from betanas.cli import main\n"
            "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
            f"    main()\nprint(sorted(({HEAVY} | {{'scipy.interpolate'}}) & set(sys.modules)))"
        )
        assert python(code) == "[]"


def test_a_search_on_a_cpu_begins_without_torch() -> None:
    # The trainer imports it meanwhile; the search's own process first needs it for its model.
    found = "from betanas.devices.find import find_devices; find_devices('cpu', 1)"
    modules = "betanas.jobs.workers, betanas.cli.progress"
    assert python(f"import {modules}; {found}{REPORT}") == "['optuna']"


def test_reading_a_database_imports_no_torch() -> None:
    # ``status`` and ``trials`` answer in a second because of it.
    modules = "betanas.database.stored, betanas.search.plan, betanas.analysis.status"
    assert python(f"import {modules}{REPORT}") == "['optuna']"
