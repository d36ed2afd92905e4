"""What nodes say to each other, and the connection that carries it: one JSON object a line.

    node k to 0: {"hello": its introduction}
    node 0 to k: {"refused": why} or {"train": task, "run_id": id} or {"end": why or null}
    node k to 0: {"ended": result}

Hanging up is the one way to stop a training on another node, which then ends its ranks and comes
back. So every node may be killed and started again at any moment.
"""

import json
import socket
from contextlib import suppress
from typing import Any

from betanas.data import DatasetFacts
from betanas.devices.find import Devices
from betanas.launcher.rendezvous import Node
from betanas.study.definition import StudyDefinition

WAIT_SECONDS = 600.0  # how long nodes wait for each other, at the start and after a loss

_SEND_SECONDS = 10.0
_LONGEST_BYTES = 2**24  # a task has some ten thousand; whoever sends more is not one of us
# A machine that is gone without a word is noticed within half a minute.
_KEEP_ALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))


class Link:
    """One end of a connection.

    Args:
        connection: The socket, connected; the link owns it.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE:
            if hasattr(socket, name):
                self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._unread = b""
        self.alive = True

    @property
    def address(self) -> str:
        """This end's address, as the other end reaches it."""
        return str(self._socket.getsockname()[0])

    def fileno(self) -> int:
        """The socket's, for ``select``."""
        return self._socket.fileno()

    def send(self, message: dict[str, Any]) -> None:
        """Sends one message; a peer that is gone is found out by ``alive``."""
        if not self.alive:
            return
        try:
            self._socket.settimeout(_SEND_SECONDS)
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.close()

    def receive(self) -> list[dict[str, Any]]:
        """The messages that have come, without waiting; ``alive`` tells whether more may come."""
        while self.alive:
            try:
                self._socket.settimeout(0.0)
                data = self._socket.recv(2**16)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self._unread += data
            if not data or len(self._unread) > _LONGEST_BYTES:
                self.close()
        *lines, self._unread = self._unread.split(b"\n")
        try:
            messages = [json.loads(line) for line in lines]
        except ValueError:
            self.close()
            return []
        return [message for message in messages if isinstance(message, dict)]

    def close(self) -> None:
        """Hangs up."""
        self.alive = False
        with suppress(OSError):
            self._socket.close()


def introduction(
    node: Node, devices: Devices, definition: StudyDefinition, facts: DatasetFacts
) -> dict[str, Any]:
    """What a node says of itself; but for its rank, it must be the same on all nodes."""
    told = {
        "node_rank": node.node_rank,
        "nnodes": node.nnodes,
        "nproc_per_node": devices.nproc_per_node,
        "device": devices.kind,
        "study": definition.name,
        "images": facts.fingerprint,
        **definition.meaning(),
    }
    plain: dict[str, Any] = json.loads(json.dumps(told))
    return plain
