"""One trial over several machines, as node 0 sees it: it owns the study, the others train with it.

For each trial node 0 calls the other nodes, and when all have answered tells them the task; on
every node torchrun's agent then joins the same c10d rendezvous. See ``link.py`` for what is said
and where, and ``following.py`` for the other side.
"""

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from betanas.errors import RunError
from betanas.launcher.client import TrainerServer
from betanas.launcher.link import (
    BEAT_SECONDS,
    POLL_SECONDS,
    SILENT_SECONDS,
    Link,
    LostNodeError,
    host_store,
)
from betanas.launcher.rendezvous import WAIT_SECONDS, Node, Rendezvous
from betanas.study.definition import StudyDefinition
from betanas.trial import Failure, TrainingResult, TrialTask

_DISMISS_SECONDS = 10.0  # how long node 0 stays to tell a node that there is nothing left to do
_STORY_SECONDS = SILENT_SECONDS + 5.0  # after one node's training failed, the others may take that
_TWIN_SECONDS = 5.0  # a node that beats so long after another of its rank has come is alive


class LeadingTrainer(TrainerServer):
    """Node 0's trainer server, which has the other nodes train with it.

    Args:
        definition: The study.
        cache: Where decoded images are kept.
        node: This node.
        own: Its ``introduction``.

    Raises:
        InputError: If the rendezvous endpoint is not this machine's.
    """

    def __init__(
        self, definition: StudyDefinition, cache: Path, node: Node, own: dict[str, Any]
    ) -> None:
        self._node = node
        self._session = secrets.token_hex(16)
        self._announcement = {"session": self._session, "introduction": own}
        self._announced_at = -BEAT_SECONDS
        self._links: dict[int, Link] = {}  # of the nodes that are there, or were last
        self._came: dict[str, float] = {}  # when each session was first seen
        self._decided: set[str] = set()  # those that were taken in or sent away
        self._notes: list[str] = []
        self._store = host_store(node)
        super().__init__(definition.dataset, definition.resolution, cache)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(LostNodeError):
            self._dismiss(None if error is None else str(error) or "it was interrupted")
        self._store.close()
        super().__exit__(kind, error, trace)

    def run(
        self,
        task: TrialTask,
        on_progress: Callable[[dict[str, Any]], None] = lambda _: None,
        rendezvous: Rendezvous | None = None,
        trouble: Callable[[], str | None] = lambda: None,
    ) -> TrainingResult:
        """Trains one task on all nodes, once they are there.

        Raises:
            RunError: If a node does not come within ``WAIT_SECONDS``.
        """
        call = secrets.token_hex(16)
        self._gather(call, on_progress)
        crew = dict(self._links)
        for link in crew.values():
            link.say({"call": call, "train": task.to_json()})
        meeting = Rendezvous(0, self._node.endpoint, self._node.host, call)
        try:
            result = super().run(task, on_progress, meeting, lambda: self._trouble(crew, call))
            return self._conclude(crew, call, result)
        finally:
            for rank, link in crew.items():
                if _ended(link, call) is None and self._links[rank] is link:
                    link.say({"stop": call})

    def _gather(self, call: str, on_progress: Callable[[dict[str, Any]], None]) -> None:
        """Waits until every other node has answered a call."""
        began, told = time.monotonic(), False
        while True:
            self._attend()
            for link in self._links.values():
                link.say({"call": call})
            while self._notes:
                on_progress({"note": self._notes.pop(0)})
            here = [k for k, link in self._links.items() if link.heard.get("here") == call]
            missing = [f"node {k}" for k in range(1, self._node.nnodes) if k not in here]
            if not missing:
                return
            waited, names = time.monotonic() - began, " and ".join(missing)
            if waited > WAIT_SECONDS:
                raise RunError(
                    f"{names} did not come to {self._node.host} port {self._node.port + 1} within "
                    f"{WAIT_SECONDS:.0f} s; start the same command there, with its own --node-rank"
                )
            if waited > BEAT_SECONDS:  # who is there has answered by now
                on_progress({} if told else {"note": f"waiting for {names} ..."})
                told = True
            time.sleep(POLL_SECONDS)

    def _attend(self) -> None:
        """Takes in what other nodes say, and nodes that come."""
        if time.monotonic() - self._announced_at >= BEAT_SECONDS:
            self._announced_at = time.monotonic()
            self._store.write("node 0", self._announcement)
        for link in self._links.values():
            link.listen()
        for rank in range(1, self._node.nnodes):
            key, forged = f"node {rank}", set(self._store.forged)
            hello = self._store.read(key) or {}
            if key in self._store.forged - forged:
                self._notes.append(f"{key} is refused: what it says is signed with another token")
            if hello.get("to") == self._session and hello["session"] not in self._decided:
                self._receive(rank, hello["session"])

    def _receive(self, rank: int, session: str) -> None:
        """Takes in a node that has come, or sends it away, or leaves that for later."""
        came = self._came.setdefault(session, time.monotonic())
        former = self._links.get(rank)
        keys = f"{self._session}/{session}"
        link = Link(self._store, f"{keys}/0", f"{keys}/{rank}")
        if former is None or former.is_gone:
            if former is not None:
                former.say({"refused": f"another node {rank} has come in its place"})
            link.say({"welcome": rank})
            self._links[rank] = link
        elif former.heard_at > came + _TWIN_SECONDS:
            why = f"there is a node {rank} already; give every node its own --node-rank"
            link.say({"refused": why})
        else:
            return  # it may be the same node, which was killed and has come back
        self._decided.add(session)

    def _is_lost(self, rank: int, link: Link) -> bool:
        return link.is_gone or self._links[rank] is not link

    def _story(self, rank: int, link: Link, call: str) -> TrainingResult | None:
        """What went wrong on another node, if it began there."""
        ended = _ended(link, call)
        if ended is None and self._is_lost(rank, link):
            return TrainingResult(None, Failure.NODE_LOST, f"node {rank} went away")
        if ended is None or ended.failure in (None, Failure.NODE_LOST):
            return None
        return replace(ended, message=f"node {rank}: {ended.message}")

    def _trouble(self, crew: dict[int, Link], call: str) -> str | None:
        """Why the training on this node cannot succeed any more."""
        self._attend()
        for rank, link in crew.items():
            story = self._story(rank, link, call)
            # Its end ends the ranks of this node too; only if they hang they have to be stopped.
            if story is not None and time.monotonic() - link.changed_at > _STORY_SECONDS:
                return story.message
        return None

    def _conclude(self, crew: dict[int, Link], call: str, result: TrainingResult) -> TrainingResult:
        """Waits for the others' end; a failure is told as by the node where it began."""
        deadline = time.monotonic() + _STORY_SECONDS
        while time.monotonic() < deadline and any(
            _ended(link, call) is None and not self._is_lost(rank, link)
            for rank, link in crew.items()
        ):
            self._attend()
            time.sleep(POLL_SECONDS)
        stories = [self._story(rank, link, call) for rank, link in crew.items()]
        told = [story for story in stories if story is not None]
        if result.failure is not Failure.NODE_LOST or not told:
            return result
        first = min(told, key=lambda story: story.failure is Failure.NODE_LOST)
        return replace(result, failure=first.failure, message=first.message)

    def _dismiss(self, error: str | None) -> None:
        """Tells every node that it is over; if all went well, also one that is on its way."""
        deadline = time.monotonic() + _DISMISS_SECONDS
        while time.monotonic() < deadline:
            self._attend()
            for link in self._links.values():
                link.say({"end": error})
            there = [link for link in self._links.values() if not link.is_gone]
            is_whole = error is not None or len(there) == self._node.nnodes - 1
            if is_whole and all("done" in link.heard for link in there):
                return
            time.sleep(POLL_SECONDS)


def _ended(link: Link, call: str) -> TrainingResult | None:
    """How another node's part of a training ended, if it has."""
    if link.heard.get("ended") != call:
        return None
    return TrainingResult.from_json(link.heard["result"])
