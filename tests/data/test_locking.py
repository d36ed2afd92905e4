"""Locks between processes: held by one, and freed by the system when that one is killed."""

import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from betanas.data.locking import exclusive

_PROCESSES = multiprocessing.get_context("fork")


def hold(path: Path, told: Connection, seconds: float) -> None:
    """Another process that says when it has the lock, and when it lets go of it."""
    with exclusive(path) as alone:
        told.send(alone)
        time.sleep(seconds)
        told.send("ends")


def other(path: Path, seconds: float) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    here, there = _PROCESSES.Pipe()
    process = _PROCESSES.Process(target=hold, args=(path, there, seconds))
    process.start()
    return process, here


def test_one_waits_for_the_other(tmp_path: Path) -> None:
    process, told = other(tmp_path / "lock", 0.3)
    assert told.recv() is True
    with exclusive(tmp_path / "lock") as alone:
        assert alone
        assert told.poll(), "the other is still in its block"
    process.join()
    with exclusive(tmp_path / "lock") as again:
        assert again


def test_a_killed_process_frees_its_lock(tmp_path: Path) -> None:
    process, told = other(tmp_path / "lock", 600)
    assert told.recv() is True
    process.kill()
    with exclusive(tmp_path / "lock") as alone:
        assert alone
    process.join()


def test_where_nothing_can_be_locked_the_block_runs_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with exclusive(tmp_path / "file" / "lock") as alone:
        assert not alone


def test_an_error_in_the_block_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), exclusive(tmp_path / "lock"):
        raise OSError("full")
    with exclusive(tmp_path / "lock") as alone:
        assert alone
