"""Several workers of one study on this machine: started, shown and ended as one.

Each is a process of its own that works on the study as any ``betanas optimize`` does, on its share
of the processor's cores or with a GPU of its own. The controller trains nothing: it says who may
begin another trial, passes on what the workers tell, and starts one again that was killed. What
they find is in the database, so whatever is killed here loses nothing.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from betanas.cores import pin
from betanas.database.stored import StoredStudy
from betanas.devices.processes import die_with_parent, heed_sigterm, was_told_to_end
from betanas.errors import BetaNASError, RunError
from betanas.jobs.optimize import Team
from betanas.jobs.trials import Reporter
from betanas.study.definition import StudyDefinition
from betanas.trial import TrialRecord

MAX_DEATHS = 3  # of workers in one place, one after the other, without a trial between
_END_SECONDS = 30.0  # for giving a trial back

_FORK = multiprocessing.get_context("fork")


@dataclass
class _Worker:
    """A worker, and what is known of it.

    Attributes:
        place: Which share of the machine it has, from 0.
        process: Its process.
        link: What it tells and asks.
        asks: Whether it waits for a word whether it may begin a trial.
        has_turn: Whether it has been told to, and has not asked again since.
        trial: The number of the one that it trains.
    """

    place: int
    process: Any
    link: Connection
    asks: bool = False
    has_turn: bool = False
    trial: int | None = None

    @property
    def name(self) -> str:
        """As people count."""
        return f"worker {self.place + 1}"


class Crew:
    """The workers of a study on this machine.

    Args:
        definition: The study file.
        url: Its database.
        more_trials: Trials of any kind to add; None works towards ``search.trials``.
        reporter: Who is told how it goes.
        work: What each does, but for its reporter and team.
        shares: The cores of each, so many as there are workers; empty ones are not pinned.
    """

    def __init__(
        self,
        definition: StudyDefinition,
        url: str,
        more_trials: int | None,
        reporter: Reporter,
        work: "partial[StoredStudy]",
        shares: Sequence[Sequence[int]],
    ) -> None:
        self._definition, self._url, self._more_trials = definition, url, more_trials
        self._reporter, self._work, self._shares = reporter, work, shares
        self._workers: list[_Worker] = []
        self._deaths = [0] * len(shares)
        self._stored: StoredStudy | None = None
        self._done = 0
        self._told: set[str] = set()

    def run(self) -> StoredStudy:
        """Has them work until there is nothing more to begin.

        Raises:
            BetaNASError: Of any worker that cannot go on; the others then end too.
            RunError: If workers are killed again and again.
        """
        try:
            for place in range(len(self._shares)):
                self._start(place)
            while self._workers:
                self._attend()
        except BaseException:
            self._end()
            raise
        return self._stored or StoredStudy.load(self._url, self._definition.name)

    def _start(self, place: int) -> None:
        if self._stored is not None:
            self._stored.disconnect()
        ours, theirs = _FORK.Pipe()
        job = (theirs, self._shares[place], len(self._shares), os.getpid(), self._work)
        process = _FORK.Process(target=_run_worker, args=job, name=f"betanas-{place + 1}")
        self._workers.append(_Worker(place, process, ours))  # first: this may be interrupted
        process.start()
        theirs.close()

    def _attend(self) -> None:
        """Waits for a word or the end of any worker, and sees to it."""
        ready = wait([h for w in self._workers for h in (w.link, w.process.sentinel)])
        for worker in list(self._workers):
            ended = worker.process.exitcode is not None  # before it is heard: to its last word
            if ended or worker.link in ready or worker.process.sentinel in ready:
                self._hear(worker)
            if ended:
                self._has_ended(worker)
        self._answer()

    def _hear(self, worker: _Worker) -> None:
        """Takes in all that a worker has told by now."""
        while True:
            try:
                if not worker.link.poll():
                    return
                what, *details = worker.link.recv()
            except (EOFError, OSError):  # it is on its way out
                worker.process.join()
                return
            getattr(self, f"_on_{what}")(worker, *details)

    def _on_begins(self, _: _Worker, opening: int) -> None:
        if self._stored is None:
            self._stored = StoredStudy.load(self._url, self._definition.name)
            self._reporter.begins(self._definition, self._stored, opening)

    def _on_proposed(self, worker: _Worker, record: TrialRecord) -> None:
        worker.trial = record.number
        self._reporter.proposed(record)

    def _on_progress(self, _: _Worker, news: dict[str, Any]) -> None:
        if "trial" not in news:  # of the study: all workers say so
            if str(news) in self._told:
                return
            self._told.add(str(news))
        self._reporter.progress(news)

    def _on_recorded(self, worker: _Worker, record: TrialRecord) -> None:
        worker.trial = None
        self._done += 1
        self._deaths[worker.place] = 0
        self._reporter.recorded(record)

    def _on_asks(self, worker: _Worker) -> None:
        worker.asks, worker.has_turn = True, False

    def _on_fails(self, _: _Worker, error: BetaNASError) -> None:
        raise error

    def _answer(self) -> None:
        """Lets those begin that are wanted; others wait whether a trial ends without counting."""
        asking = [w for w in self._workers if w.asks]
        if not asking or self._stored is None:
            return
        done, target = self._done, self._more_trials
        if target is None:
            done, target = self._stored.counted(), self._definition.search.trials
        for worker in asking:
            busy = sum(w.has_turn for w in self._workers)
            if done < target <= done + busy:
                continue
            worker.asks, worker.has_turn = False, done < target
            with suppress(OSError):  # it has been killed: its end is seen to next
                worker.link.send(worker.has_turn)

    def _has_ended(self, worker: _Worker) -> None:
        """Lets a worker go, and puts another one in its place if it was killed."""
        self._workers.remove(worker)
        worker.link.close()
        code = worker.process.exitcode
        if worker.trial is not None:
            self._reporter.progress({"trial": worker.trial, "gone": True})
        if code == 0:
            return
        if code > 0:
            raise RunError(f"{worker.name} ended with exit code {code}; see above")
        how = f"{worker.name} was ended by {signal.Signals(-code).name}"
        self._deaths[worker.place] += 1
        if self._deaths[worker.place] < MAX_DEATHS:
            self._reporter.progress({"note": f"{how}; another one takes its place"})
            self._start(worker.place)
            return
        told = f"{how}, {MAX_DEATHS} times without a trial between"
        if not self._workers:
            raise RunError(
                f"{told}, and no worker is left; if memory is short, give fewer --workers or a "
                "smaller limits.memory_gib"
            )
        self._reporter.progress({"note": f"warning: {told}; the others go on"})

    def _end(self) -> None:
        """Has all workers give back their trials; does not wait for it if this is interrupted."""
        started = [w.process for w in self._workers if w.process.pid is not None]
        for process in started:
            process.terminate()
        try:
            for process in started:
                process.join(_END_SECONDS)
        finally:
            for process in started:
                process.kill()
                process.join()


class _Relay:
    """A worker's reporter: tells the controller.

    Args:
        link: To the controller.
    """

    def __init__(self, link: Connection) -> None:
        self._link = link

    def begins(self, definition: StudyDefinition, stored: StoredStudy, opening: int) -> None:
        """The study is open."""
        self._link.send(("begins", opening))

    def proposed(self, record: TrialRecord) -> None:
        """Passes it on."""
        self._link.send(("proposed", record))

    def progress(self, news: dict[str, Any]) -> None:
        """Passes it on."""
        self._link.send(("progress", news))

    def recorded(self, record: TrialRecord) -> None:
        """Passes it on."""
        self._link.send(("recorded", record))

    def fails(self, error: BetaNASError) -> None:
        """Says why this worker, and with it the search, cannot go on."""
        self._link.send(("fails", error))

    def may_begin(self) -> bool:
        """Waits for the word whether another trial is wanted of this worker."""
        self._link.send(("asks",))
        return bool(self._link.recv())


def _run_worker(
    link: Connection, cores: Sequence[int], size: int, parent: int, work: "partial[StoredStudy]"
) -> None:
    """What a worker's process does."""
    os.setsid()  # Ctrl-C reaches the controller alone, which then decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    heed_sigterm()
    die_with_parent(parent)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # a live view's may be in their place
    pin(cores)
    torch.set_num_threads(1)  # more do not survive a fork, if the controller has ever used them
    relay = _Relay(link)
    try:
        try:
            _check_gradients()
            work(relay, team=Team(size, relay.may_begin))
        except BetaNASError as error:
            relay.fails(error)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # there is nothing left to give back
    except (KeyboardInterrupt, Exception):
        # What is cut off anywhere may complain of something else on its way out.
        if not was_told_to_end():
            raise
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(128 + signal.SIGTERM)


def _check_gradients() -> None:
    """Raises RunError in a fork of a process whose threads for gradients the fork lacks."""
    x = torch.ones(1, requires_grad=True)
    try:
        torch.autograd.grad(x.sum(), x)
    except RuntimeError as error:
        raise RunError(
            "several workers are forks of this process, and it has computed gradients in threads "
            "that they lack; run betanas optimize --workers, or begin with them in a new process"
        ) from error
