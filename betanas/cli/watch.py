"""``betanas status --watch``: a study followed from outside, whoever works on it."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from betanas.analysis.status import observed_best, summarize, told_result
from betanas.cli.options import per_cent, say, short
from betanas.database.connect import sqlite_file
from betanas.database.stored import StoredStudy
from betanas.study.definition import StudyDefinition
from betanas.training.progress import NewsReader
from betanas.trial import TrialRecord

EVERY_SECONDS = 2.0
LAST = 8
_BARS = "▁▂▃▄▅▆▇█"


def follow(definition: StudyDefinition, stored: StoredStudy, url: str, console: Console) -> None:
    """Shows the study until its target is met or Ctrl-C: live on a terminal, else line by line.

    Args:
        definition: The study file.
        stored: Its database.
        url: Where that is; trainings on this machine leave their progress beside it.
        console: Where to show it.
    """
    file = sqlite_file(url)
    folder = (file.parent if file else Path("storage")).absolute() / definition.name
    live = Live(console=console, auto_refresh=False) if console.is_terminal else None
    seen: set[tuple[int, str]] = set()
    try:
        if live is not None:
            live.start()
        while True:
            records = stored.records()
            if live is not None:
                live.update(picture(definition, records, folder), refresh=True)
            else:
                for record in records:
                    if (record.number, record.state) not in seen:
                        say(line(record), console)
                    seen.add((record.number, record.state))
            if sum(r.counts for r in records) >= definition.search.trials:
                return
            time.sleep(EVERY_SECONDS)
    except KeyboardInterrupt:
        return  # the study goes on; only the watching ends
    finally:
        if live is not None:
            live.stop()


def line(record: TrialRecord) -> str:
    """One trial in one line."""
    head = f"trial {record.number:>4} {record.phase or '-':<6} {record.state:<9}"
    if record.state == "complete":
        return f"{head} {told_result(record):>8} {short(record.num_params):>6} params"
    return f"{head} {record.reason or ''}".rstrip()


def picture(definition: StudyDefinition, records: Sequence[TrialRecord], folder: Path) -> Group:
    """Progress, the best so far as a curve, what is running, and the last trials."""
    summary = summarize(definition.name, records, definition.search.trials)
    done, target, best = summary["feasible"], summary["target"], observed_best(records)
    facts = Table.grid(padding=(0, 2))
    facts.add_row("study", f"{definition.name}: {definition.family} at R={definition.resolution}")
    facts.add_row("trials", ", ".join(f"{n} {s}" for s, n in summary["trials"].items() if n) or "-")
    for kind in ("rejected", "failed"):
        if summary[kind]:
            facts.add_row(kind, Text(", ".join(f"{r} {n}" for r, n in summary[kind].items())))
    if best is not None:
        facts.add_row(
            "best", f"{told_result(best)}, trial {best.number}, {short(best.num_params)} params"
        )
        facts.add_row("so far", Text(curve(records), style="yellow"))
    for record in records:
        if record.state == "running":
            facts.add_row(f"trial {record.number}", Text(_news(folder, record.number)))
    last = [Text(line(r), style="dim") for r in records if r.state != "running"][-LAST:]
    bar = ProgressBar(total=max(target, 1), completed=min(done, target), width=48)
    return Group(facts, Text(f"{done} of {target} feasible trials"), bar, *last)


def curve(records: Sequence[TrialRecord], width: int = 48) -> str:
    """The running best as a line of blocks, the newest at the right."""
    values: list[float] = []
    for record in records:
        if record.value is not None and not record.is_replicate:
            values.append(max([record.value, *values[-1:]]))
    if not values:
        return ""
    step = max(len(values) / width, 1.0)
    shown = [values[-1 - int(i * step)] for i in range(min(width, len(values)))][::-1]
    low, high = shown[0], shown[-1]
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[int((v - low) * scale)] for v in shown)


def _news(folder: Path, number: int) -> str:
    """The last that a training on this machine told of itself."""
    try:
        told: dict[str, Any] = {}
        for news in NewsReader(folder / f"{number:05d}").read():
            told |= news
        if not told:
            return "running"
        spent, epoch = float(told.get("spent", 0.0)), float(told.get("epoch", 0.0))
    except (OSError, ValueError, TypeError):
        return "running"
    best = f", {per_cent(told['best'])} so far" if told.get("best") is not None else ""
    return f"epoch {epoch:.1f}, {100 * spent:.0f} % of its budget spent{best}"
