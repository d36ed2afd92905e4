"""The controller of several workers hears each to its last word. Both are real processes."""

import subprocess
import sys

import pytest

CREW = """
import multiprocessing, time
from betanas.errors import RunError
from betanas.jobs.crew import Crew
from betanas.study.loading import load_definition

class Reporter:
    def progress(self, news):
        {hears}

def work(relay, team):
    if multiprocessing.current_process().name == "betanas-1":
        relay.progress({{"trial": 0}})
        relay.may_begin()
    else:
        {other}

Crew(load_definition("digits"), "sqlite:///none.db", None, Reporter(), work, [[], []]).run()
"""


@pytest.mark.parametrize(
    ("hears", "other", "told"),
    [
        # It ends while the controller is busy with the first one.
        ("time.sleep(3)", "time.sleep(1); raise RunError('the disk is full')", "the disk is full"),
        # An error of the controller's own is not taken for a worker's end.
        ("raise OSError(28, 'No space left')", "relay.may_begin()", "[Errno 28] No space left"),
    ],
)
def test_no_error_is_lost(hears: str, other: str, told: str) -> None:
    script = CREW.format(hears=hears, other=other)
    ended = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.splitlines()[-1].endswith(told)
