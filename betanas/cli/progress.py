"""How a running search looks: a live panel on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from betanas.analysis.front import find_front
from betanas.analysis.status import observed_best, summarize, told_result
from betanas.cli.options import err, per_cent, say, short
from betanas.database.finals import BUDGET
from betanas.database.folders import trials_folder
from betanas.database.stored import StoredStudy
from betanas.jobs.tracking import Tracked, trackers
from betanas.study.amounts import amount_text
from betanas.study.definition import StudyDefinition
from betanas.trial import REPEATS, SEED_INDEX, STOPPED_EARLY, Phase, TrialRecord


class SearchProgress:
    """Follows a search on stderr; a context manager.

    Args:
        console: Where to show it.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._began = time.monotonic()
        self._recorded_here: list[TrialRecord] = []
        self._records: list[TrialRecord] = []
        self._running: dict[int, dict[str, Any]] = {}  # news of each trial
        self._placement = ""
        self._opening = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def begins(self, definition: StudyDefinition, stored: StoredStudy, opening: int) -> None:
        """Says what is known already, and starts the live panel."""
        self._definition, self._stored, self._opening = definition, stored, opening
        self._records = stored.records()
        done = summarize(definition.name, self._records, definition.search.trials)
        verb = "goes on" if self._records else "begins"
        self._say(
            f"study {definition.name} {verb}: {done['feasible']} of {done['target']} trials, "
            f"{definition.family} at R={definition.resolution}, "
            f"{len(stored.settings.classes)} classes, {_opening_words(opening, definition, stored)}"
        )
        self._began = time.monotonic()
        if self._live is not None:
            self._live.start()

    def proposed(self, record: TrialRecord) -> None:
        """A training begins."""
        what = "final" if record.phase == Phase.FINAL else "trial"
        self._running[record.number] = {"title": f"{what} {record.number}"}
        self._refresh()

    def progress(self, news: dict[str, Any]) -> None:
        """A training told of itself, or there is something to note."""
        if "note" in news:
            self._say(news["note"])
        placement = news.get("placement")
        if placement is not None and placement != self._placement:
            self._placement = placement
            self._say(f"images: {placement}")
        if "supernet" in news:
            self._running.setdefault(news["trial"], {"title": f"supernet {news['trial']}"})
        trial = self._running.get(news.get("trial", -1))
        if trial is None:
            return
        trial |= news
        if "gone" in news:
            del self._running[news["trial"]]
        self._refresh()

    def recorded(self, record: TrialRecord) -> None:
        """A trial has ended."""
        self._running.pop(record.number, None)
        self._records = self._stored.records()  # others may work on the study, too
        self._recorded_here.append(record)
        self._say(self._line(record))
        self._refresh()

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _line(self, record: TrialRecord) -> str:
        head = f"trial {record.number:>4} {record.phase or '-':<6}"
        if record.phase == Phase.FINAL:
            ((unit, amount),) = record.audit[BUDGET].items()
            head = f"final {record.number:>4} {record.audit[REPEATS]}, {amount_text(unit, amount)}:"
        elif record.is_replicate:
            repeats = record.audit.get(REPEATS)
            what = f"trial {repeats}" if isinstance(repeats, int) else repeats
            head += f" {what}, seed {record.audit.get(SEED_INDEX)}:"
        if record.rejected:
            took = "" if record.latency_ms is None else f", measured {record.latency_ms:.2f} ms"
            return f"{head} rejected: {record.reason}{took}"
        cost = f"{short(record.num_params):>6} params {short(record.macs):>6} macs"
        if record.reason == STOPPED_EARLY:
            return f"{head} {cost}  stopped early after {record.train_seconds:.1f} s"
        if record.state == "fail":
            return f"{head} {cost}  failed: {record.reason} {record.audit.get('message', '')}"
        return (
            f"{head} {cost}  {told_result(record):>8} in {record.epochs:.1f} epochs, "
            f"{record.train_seconds:.1f} s{self._star(record)}"
        )

    def _star(self, record: TrialRecord) -> str:
        """Says of a trial that it is the best so far, or on the front of several objectives."""
        if record.is_replicate:
            return ""
        front = find_front(tuple(record.values), self._records)
        if front is not None:
            return " *front*" if record in front.trials else ""
        best = observed_best(self._records)
        return " *best*" if best is not None and best.number == record.number else ""

    def _rate(self) -> float:
        """Trials a second that count and were trained here, since the search began."""
        here = sum(r.counts for r in self._recorded_here)
        return here / max(time.monotonic() - self._began, 1e-9)

    def _seconds_left(self, feasible: int, target: int) -> float | None:
        return max(target - feasible, 0) / self._rate() if self._rate() else None

    def _refresh(self) -> None:
        if self._live is None:
            return
        search = self._definition.search
        feasible = sum(r.counts for r in self._records)
        rows = Table.grid(padding=(0, 2))
        left = self._seconds_left(feasible, search.trials)
        best = observed_best(self._records)
        opens = len(self._records) < self._opening
        strategy = search.strategy if self._definition.is_one_shot else search.sampler
        phase = "opening" if opens else strategy
        rows.add_row("phase", phase, f"{feasible} of {search.trials} feasible trials")
        if best is not None:
            rows.add_row("best", told_result(best), f"trial {best.number}")
        if left is not None:
            rate = f"{3600 * self._rate():.0f} trials an hour"
            rows.add_row("left", f"about {_duration(left)}", rate)
        for _, news in sorted(self._running.items()):
            spent = float(news.get("spent", 0.0))
            rows.add_row(
                str(news["title"]),
                per_cent(news.get("best")),
                f"epoch {news.get('epoch', 0):.1f}, {100 * (1 - spent):.0f} % of budget left",
                ProgressBar(total=1.0, completed=spent, width=24),
            )
            if "supernet" in news:
                told = f"loss {news['loss']:.3f}, {news['runtime_ms']:.3f} ms"
                rows.add_row("", told, str(news["supernet"]))
        self._live.update(Group(Text(), rows))


class ConfirmProgress(SearchProgress):
    """Follows repeated trainings on stderr, a line each."""

    def begins(self, definition: StudyDefinition, stored: StoredStudy, opening: int) -> None:
        """Says what is about to happen."""
        self._definition, self._stored, self._opening = definition, stored, opening
        self._records = stored.records()
        self._live = None
        done = sum(r.is_replicate and r.state == "complete" for r in self._records)
        self._say(f"study {definition.name}: trains its best again, {done} trainings are done")


def tracked(definition: StudyDefinition, url: str, progress: SearchProgress) -> Tracked:
    """Progress that the study file's trackers are told of as well."""
    makers = trackers(definition, trials_folder(url, definition.name))
    return Tracked(progress, makers, lambda text: say(f"warning: {text}", err, "yellow"))


def _opening_words(opening: int, definition: StudyDefinition, stored: StoredStudy) -> str:
    """What the search opens with."""
    if definition.is_one_shot:
        return "each chosen by a supernet"
    named, told = list(definition.search.start), stored.settings.warm_start
    points = opening - len(named)
    if told is not None:
        given = len(told["opening"])
        points -= given
        named += [f"{given} of the best kernels of {told['study']}"] if given else []
    return " and ".join([*([", ".join(named)] if named else []), f"{points} Sobol points first"])


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    if hours >= 2:
        return f"{hours:.1f} h"
    return f"{minutes:.0f} min" if minutes >= 2 else f"{seconds:.0f} s"
