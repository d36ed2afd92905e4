"""One trial over several machines, as node 0 sees it: it owns the study, the others train with it.

Node 0 listens on the port after the rendezvous', where every other node comes, says who it is and
waits. For each trial node 0 sends them the task; on every node torchrun's agent then joins the same
c10d rendezvous. See ``link.py`` for what is said, and ``following.py`` for the other side.
"""

import ipaddress
import select
import socket
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from betanas.errors import InputError, RunError
from betanas.launcher.client import TrainerServer
from betanas.launcher.link import WAIT_SECONDS, Link
from betanas.launcher.rendezvous import Node, Rendezvous
from betanas.study.definition import StudyDefinition
from betanas.trial import Failure, TrainingResult, TrialTask

_DISMISS_SECONDS = 10.0  # how long node 0 stays to tell a node that there is nothing left to do
_STORY_SECONDS = 10.0  # after one node's training failed, how long the others may take to end
_TAKEN_SECONDS = 60.0  # by then a link to a node that is gone has been noticed
_POLL_SECONDS = 0.1


@dataclass(slots=True)
class _Visitor:
    """A connection that is not a member yet."""

    link: Link
    came: float
    hello: Any = None


@dataclass(slots=True)
class _Member:
    """Another node that is there."""

    link: Link
    ended: TrainingResult | None = None  # its part of the trial that is trained
    ended_at: float = 0.0

    @property
    def is_awaited(self) -> bool:
        """Whether it may yet tell how its part of the trial ended."""
        return self.ended is None and self.link.alive


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
        self._node, self._own = node, own
        self._listener = _listen(node)
        self._visitors: list[_Visitor] = []
        self._members: dict[int, _Member] = {}
        super().__init__(definition.dataset, definition.resolution, cache)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        told = str(error) or "it was interrupted"
        self._dismiss(None if error is None else told)
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
        self._gather(on_progress)
        run_id = uuid.uuid4().hex
        for member in self._members.values():
            member.ended = None
            member.link.send({"train": task.to_json(), "run_id": run_id})
        meeting = Rendezvous(0, self._node.endpoint, self._node.host, run_id)
        try:
            result = super().run(task, on_progress, meeting, self._trouble)
        except OSError:
            self._hang_up()
            raise
        return self._conclude(result)

    def _gather(self, on_progress: Callable[[dict[str, Any]], None]) -> None:
        """Waits until every other node is there."""
        self._attend(0.0)
        deadline, told = time.monotonic() + WAIT_SECONDS, False
        while missing := self._missing():
            names = " and ".join(f"node {rank}" for rank in missing)
            if time.monotonic() > deadline:
                raise RunError(
                    f"{names} did not come to {self._node.host} port {self._node.port + 1} within "
                    f"{WAIT_SECONDS:.0f} s; start the same command there, with its own --node-rank"
                )
            on_progress({} if told else {"note": f"waiting for {names} ..."})
            told = True
            self._attend(_POLL_SECONDS)

    def _missing(self) -> list[int]:
        here = {rank for rank, member in self._members.items() if member.link.alive}
        return [rank for rank in range(1, self._node.nnodes) if rank not in here]

    def _attend(self, seconds: float) -> None:
        """Takes in what other nodes say, and nodes that come; waits so long if nobody does."""
        links = [m.link for m in self._members.values() if m.link.alive]
        links += [v.link for v in self._visitors if v.hello is None]
        awaited: list[Link | socket.socket] = [self._listener, *links]
        select.select(awaited, [], [], seconds)
        with suppress(OSError):
            self._visitors.append(_Visitor(Link(self._listener.accept()[0]), time.monotonic()))
        for member in self._members.values():
            for message in member.link.receive():
                if "ended" in message:
                    member.ended = TrainingResult.from_json(message["ended"])
                    member.ended_at = time.monotonic()
        self._visitors = [v for v in self._visitors if not self._is_received(v)]

    def _is_received(self, visitor: _Visitor) -> bool:
        """Makes a visitor a member, or sends it away; False while that is not decided."""
        link = visitor.link
        for message in link.receive():
            visitor.hello = message.get("hello", {})
        is_late = time.monotonic() - visitor.came > _TAKEN_SECONDS
        if not link.alive or (visitor.hello is None and is_late):
            link.close()
            return True
        if visitor.hello is None:
            return False
        wrong = _differences(self._own, visitor.hello)
        rank = visitor.hello.get("node_rank")
        if not isinstance(rank, int) or not 0 < rank < self._node.nnodes:
            wrong.append(f"node_rank must be in [1, {self._node.nnodes - 1}], but is {rank}")
        elif not wrong and rank in self._members and self._members[rank].link.alive:
            if not is_late:  # it may be the same node, which was killed and has come back
                return False
            wrong.append(f"there is a node {rank} already; give every node its own --node-rank")
        if wrong:
            link.send({"refused": "; ".join(wrong)})
            link.close()
        else:
            self._members[rank] = _Member(link)
        return True

    def _trouble(self) -> str | None:
        """Why the training on this node cannot succeed any more."""
        self._attend(0.0)
        for rank, member in sorted(self._members.items()):
            if member.ended is None:
                if not member.link.alive:
                    return f"node {rank} went away"
            elif member.ended.failure and time.monotonic() - member.ended_at > _STORY_SECONDS:
                return f"node {rank}: {member.ended.message}"
        return None

    def _conclude(self, result: TrainingResult) -> TrainingResult:
        """Waits for the others' end; a failure is told as by the node where it began."""
        deadline = time.monotonic() + _STORY_SECONDS
        while time.monotonic() < deadline and any(m.is_awaited for m in self._members.values()):
            self._attend(_POLL_SECONDS)
        self._hang_up()
        if result.failure is not Failure.NODE_LOST:
            return result
        for rank, member in sorted(self._members.items()):
            there = member.ended
            if there is not None and there.failure not in (None, Failure.NODE_LOST):
                told = f"node {rank}: {there.message}"
                return replace(result, failure=there.failure, message=told)
        return result

    def _hang_up(self) -> None:
        """Stops the nodes that still train."""
        for member in self._members.values():
            if member.ended is None:
                member.link.close()

    def _dismiss(self, error: str | None) -> None:
        """Tells every node that it is over, also one that is on its way."""
        deadline = time.monotonic() + _DISMISS_SECONDS
        self._attend(0.0)
        while error is None and self._missing() and time.monotonic() < deadline:
            self._attend(_POLL_SECONDS)
        for member in self._members.values():
            member.link.send({"end": error})
            member.link.close()
        self._listener.close()


def _listen(node: Node) -> socket.socket:
    host, port = node.control
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        address = str(found[4][0])
        # Debian gives a machine's own name an address that no other machine reaches.
        hidden = ipaddress.ip_address(address).is_loopback and host not in (address, "localhost")
        listener = socket.create_server(("" if hidden else address, port), family=found[0])
    except OSError as error:
        raise InputError(
            f"--rdzv-endpoint {node.endpoint}: node 0 cannot listen on {host} port {port} "
            f"({error.strerror or error}); name an address of this machine, and a port that is "
            "free as is the one after it"
        ) from None
    listener.settimeout(0.0)
    return listener


def _differences(own: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What must be the same on all nodes, and is not."""
    return [
        f"{key} is {own.get(key)} on node 0, but {other.get(key)} on this node"
        for key in sorted(own | other)
        if key != "node_rank" and own.get(key) != other.get(key)
    ]
