"""What is written for others to read."""

import json
from pathlib import Path

from betanas.files import finite, write_new, write_whole


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
