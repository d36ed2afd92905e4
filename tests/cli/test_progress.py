"""What a running search shows."""

import io
from pathlib import Path

import pytest
from faults import begun, write_definition
from rich.console import Console

from betanas.cli.progress import SearchProgress
from betanas.trial import TrialRecord


def test_all_running_trials_are_shown_until_they_end_or_their_worker_does(tmp_path: Path) -> None:
    definition = write_definition(tmp_path)
    stored = begun(definition, f"sqlite:///{tmp_path}/cheap.db")
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)

    def shown() -> str:
        screen.truncate(0)
        progress._live.refresh()
        return screen.getvalue()

    with SearchProgress(console) as progress:
        progress.progress({"note": "before it begins"})
        assert "before it begins" in screen.getvalue()
        progress.begins(definition, stored, 10)
        for number in (3, 4):
            progress.proposed(TrialRecord(number, "running"))
        progress.progress({"trial": 4, "spent": 0.25, "epoch": 1.5, "best": 0.5})
        assert "trial 3" in shown()
        assert "epoch 1.5, 75 % of budget left" in shown()
        progress.progress({"trial": 4, "gone": True})
        assert "trial 4" not in shown()
        progress.progress({"trial": 4, "spent": 0.5})
        assert "trial 4" not in shown()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_note_of_a_trial_is_a_line(terminal: bool, tmp_path: Path) -> None:
    screen = io.StringIO()
    with SearchProgress(Console(file=screen, force_terminal=terminal, width=100)) as progress:
        progress.progress({"trial": 1, "note": "it is tried again"})
    assert screen.getvalue() == "it is tried again\n"
