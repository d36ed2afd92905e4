"""Where commands cannot write: folders, a full disk, and a pipe that nobody reads on."""

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from calls import Ended, invoke

TRAINED = ("--dataset", "digits", "--device", "cpu", "--set", "budget.steps=1")


def check_refused(found: Ended, message: str) -> None:
    told = found.err.splitlines()
    assert found.code == 2, found.err
    assert told[-1].startswith(f"error: {message}"), found.err
    assert not any(line.startswith("error") for line in told[:-1])
    assert found.out == ""


@pytest.mark.parametrize(
    "command",
    [
        ("train", "--model", "airbench@16", *TRAINED),
        ("benchmark", "--models", "airbench@16", *TRAINED),
        ("scale", "--family", "betanet2", "--published", "--resolutions", "64"),
        ("report", "--study", "mine.toml"),
    ],
    ids=lambda command: command[0],
)
def test_output_that_cannot_be_written(
    command: tuple[str, ...], begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(begun)
    (tmp_path / "file").write_text("mine")
    # Nobody can write into /proc/self, root neither: unlike the others it is there.
    for folder in (tmp_path / "file", tmp_path / "file" / "inside", Path("/proc/self")):
        found = invoke(*command, "--output", str(folder))
        check_refused(found, f"--output {folder} cannot be written (")
    assert (tmp_path / "file").read_text() == "mine"


def test_file_that_a_folder_takes_the_place_of(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(begun)
    taken = tmp_path / "report.html" / "mine"
    taken.mkdir(parents=True)
    found = invoke("report", "--study", "mine.toml", "--output", str(tmp_path))
    check_refused(found, f"{taken.parent}: Is a directory; move away what is there, or choose")
    assert taken.is_dir()


@pytest.mark.slow
def test_training_folder_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "training").write_text("mine")
    found = invoke("train", "--model", "airbench@16", *TRAINED, "--output", str(tmp_path))
    check_refused(found, f"{tmp_path}/training/task.json: Not a directory; move away what")


def into(stdout: int | IO[bytes], folder: Path, *arguments: str) -> Ended:
    done = subprocess.run(
        [sys.executable, "-m", "betanas", *arguments],
        cwd=folder,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=240,
        check=False,
    )
    return Ended(done.returncode, "", done.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        ("trials", "--study", "mine.toml"),
        ("trials", "--study", "mine.toml", "--csv"),
        ("status", "--study", "mine.toml", "--json"),
        ("--help",),
    ],
    ids=" ".join,
)
def test_reader_that_goes_away(arguments: tuple[str, ...], begun: Path) -> None:
    """As ``betanas trials | head -0``: in silence, and as what SIGPIPE has ended."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert into(writer, begun, *arguments) == Ended(141, "", "")
    finally:
        os.close(writer)


def test_output_onto_a_full_disk(begun: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        found = into(full, begun, "trials", "--study", "mine.toml")
    assert found.code == 1
    assert found.err.startswith("error: No space left on device; make room, and the same command")
    assert found.err.count("\n") == 1
