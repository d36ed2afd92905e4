"""What a process may have of the machine's memory: control groups as Linux has them."""

import os
from pathlib import Path

import pytest

from betanas.devices.find import available_memory

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
V1, UNLIMITED = "memory.limit_in_bytes", str(2**63 - 4096)


@pytest.mark.parametrize(
    ("told", "limits", "expected"),
    [
        ("0::/", {"memory.max": "max"}, MACHINE),
        ("0::/", {"memory.max": "5000"}, 5000),
        # A job within a slice: the tighter of the two.
        ("0::/job/step", {"job/memory.max": "4000", "job/step/memory.max": "max"}, 4000),
        # A container that knows its group by the machine's path, and sees it as the root.
        ("0::/docker/1234", {"memory.max": "3000"}, 3000),
        ("5:cpu:/a\n4:memory:/b", {f"memory/b/{V1}": "2000", f"memory/a/{V1}": "1"}, 2000),
        ("4:cpu,memory:/b", {f"memory/b/{V1}": UNLIMITED}, MACHINE),
        ("3:cpuset:/b", {"memory/b/memory.max": "1"}, MACHINE),
    ],
)
def test_the_tightest_limit_counts(
    tmp_path: Path, told: str, limits: dict[str, str], expected: int
) -> None:
    (tmp_path / "told").write_text(f"{told}\n")
    for name, limit in limits.items():
        file = tmp_path / "controllers" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{limit}\n")
    assert available_memory(tmp_path / "told", tmp_path / "controllers") == expected


def test_without_control_groups_it_is_the_machines(tmp_path: Path) -> None:
    assert available_memory(tmp_path / "none", tmp_path) == MACHINE
