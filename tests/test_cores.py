"""Cores: a process that is pinned knows it."""

import os
import subprocess
import sys

import pytest

from betanas.cores import available_cores, core_shares, multiplies_bf16, pin

PINNED = """
import os
os.sched_setaffinity(0, {{{}}})
from betanas.cores import available_cores
print(available_cores())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux pins processes")
def test_a_pinned_process_counts_what_it_may_use() -> None:
    core = min(os.sched_getaffinity(0))
    run = [sys.executable, "-c", PINNED.format(core)]
    assert int(subprocess.run(run, check=True, capture_output=True, text=True).stdout) == 1
    assert available_cores() == len(os.sched_getaffinity(0))


def test_bf16_is_known_as_torch_knows_it() -> None:
    torch = pytest.importorskip("torch")
    known = torch.cpu.get_capabilities()
    assert multiplies_bf16() == bool(known.get("avx512_bf16") or known.get("amx_bf16"))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux pins processes")
def test_shares_are_equal_disjoint_and_held_to() -> None:
    mine = os.sched_getaffinity(0)
    for workers in range(1, len(mine) + 1):
        shares = core_shares(workers)
        assert [len(share) for share in shares] == [len(mine) // workers] * workers
        taken = [core for share in shares for core in share]
        assert len(set(taken)) == len(taken)
        assert mine.issuperset(taken)
    try:
        pin(core_shares(len(mine))[0])
        assert available_cores() == 1
        pin([])
        assert available_cores() == 1, "nothing named, nothing changed"
    finally:
        os.sched_setaffinity(0, mine)
