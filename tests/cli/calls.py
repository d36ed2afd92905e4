"""Calling the command line: in this process, or in one of its own where that may matter."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import command

SQUARES = """
family = "betanet2"
resolution = 16
[parameters]
k = 2.5
[dataset]
name = "digits"
[budget]
steps = 5
[limits]
num_params = 1_000_000
memory_gib = 1
"""


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str


def run(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Ended:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BETANAS_")}
    done = subprocess.run(
        [sys.executable, "-m", "betanas", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        env={**clean, "COLUMNS": "200", **(environment or {})},
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def run_json(folder: Path, *arguments: str) -> Any:
    """One JSON document on stdout, nothing on stderr."""
    return document(run(folder, *arguments, "--json"))


def document(ended: Ended) -> Any:
    assert (ended.code, ended.err) == (0, "")
    return json.loads(ended.out)  # fails on anything beside the one document


def invoke(*arguments: str) -> Ended:
    """Runs a command in this process and in the current folder; its tracebacks fail the test."""
    result = command.invoke(*arguments)
    return Ended(result.exit_code, result.stdout, result.stderr)


def invoke_json(*arguments: str) -> Any:
    return document(invoke(*arguments, "--json"))


def write(folder: Path, text: str = SQUARES, name: str = "mine") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path
