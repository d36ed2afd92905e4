"""What is written for others to read."""

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from betanas.files import finite, is_full, whole_file, write_new, write_whole
from betanas.launcher.failures import write_failure


def test_numbers_that_are_none_are_none_in_json() -> None:
    told = {"loss": float("nan"), "curve": [1.0, float("inf")], "name": "x", "n": 3}
    assert json.loads(json.dumps(finite(told), allow_nan=False)) == {
        "loss": None,
        "curve": [1.0, None],
        "name": "x",
        "n": 3,
    }


def test_a_name_that_is_no_text_is_written_as_well_as_can_be(tmp_path: Path) -> None:
    file = write_whole(tmp_path / "page.html", "caf\udce9")
    assert file.read_text(encoding="utf-8") == r"caf\udce9"


def test_what_another_process_has_written_meanwhile_stays(tmp_path: Path) -> None:
    file = tmp_path / "demo.db"
    write_new(file, b"first")
    write_new(file, b"second")
    assert file.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [file]


class SmallDisk(io.RawIOBase):
    """A file on a disk that has room for so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(data)


@pytest.mark.parametrize("room", [0, 100, 10**5])
def test_a_full_disk_is_one_also_where_torch_says_something_else(tmp_path: Path, room: int) -> None:
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(b"what was there")
    with pytest.raises(OSError, match="No space left") as caught, whole_file(file):
        torch.save({str(i): torch.zeros(10**5) for i in range(3)}, SmallDisk(room))
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == b"what was there"
    write_failure(tmp_path, 0, caught.value)
    assert json.loads((tmp_path / "rank-0.failure.json").read_text())["failure"] == "disk_full"


def test_a_quota_is_a_full_disk_and_a_broken_one_is_none() -> None:
    assert is_full(OSError(errno.EDQUOT, "Disk quota exceeded"))
    assert not is_full(OSError(errno.EIO, "Input/output error"))
