"""Running the command: in real processes, or in this one where that shows the same."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from betanas.cli import commands

TINY = """
family = "betanet2"
resolution = 16

[parameters]
k = [1, 4]
K = [1, 3]
G0 = [1, 3]
E0 = [2, 3]
E1 = [2, 3]

[dataset]
name = "digits"
validation = 0.25

[recipe]
batch_size = 32
autoaugment = false
flip = false
crop_scale = [0.8, 1.0]

[budget]
steps = 4

[limits]
num_params = 12_000
memory_gib = 1

[search]
sobol_trials = 6
min_feasible = 4
trials = 7
"""


def write_study(folder: Path, name: str = "tiny", text: str = TINY) -> Path:
    """Writes a study file that runs in seconds."""
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Starts ``betanas`` in a folder, without waiting for it."""
    return subprocess.Popen(
        [sys.executable, "-m", "betanas", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "BETANAS_STORAGE"},
    )


def run(folder: Path, *arguments: str, code: int = 0) -> tuple[str, str]:
    """Runs ``betanas`` to its end; returns stdout and stderr."""
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
    return out, err


def run_json(folder: Path, *arguments: str) -> Any:
    """Runs a command with ``--json``; stdout must be one document."""
    return json.loads(run(folder, *arguments, "--json")[0])


def invoke(*arguments: str) -> Result:
    """Calls ``betanas`` in this process and in the current folder."""
    return CliRunner(env={"COLUMNS": "200", "BETANAS_STORAGE": None}).invoke(
        commands(), arguments, prog_name="betanas", catch_exceptions=False
    )


def ask(folder: Path, *arguments: str, code: int = 0) -> tuple[str, str]:
    """``run`` in this process, which has imported already what takes seconds to import.

    For commands that read and for calls that are refused: searches and trainings are real
    processes.
    """
    with chdir(folder):
        ended = invoke(*arguments)
    assert ended.exit_code == code, f"exit code {ended.exit_code}\n{ended.output}"
    return ended.stdout, ended.stderr


def ask_json(folder: Path, *arguments: str) -> Any:
    """``run_json`` in this process."""
    return json.loads(ask(folder, *arguments, "--json")[0])


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Waits until a condition holds; returns what it gave."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def free_endpoint() -> str:
    """A port on loopback that is free, as is the one after it."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return f"127.0.0.1:{port}"


def descendants(pid: int) -> list[int]:
    """All processes below one, from /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    queue = [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
