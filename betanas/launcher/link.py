"""What nodes say to each other: signed JSON in a ``TCPStore`` that node 0 hosts.

Each start of node 0 draws a session A; whenever node k reaches node 0 it draws a session B.

    node 0   {"session": A, "introduction": what node 0 trains}
    node k   {"session": B, "to": A}, until there is an answer
    A/B/0    {"welcome": k} or {"refused": why}; then for each trial {"call": id},
             {"call": id, "train": task} and, if it goes wrong, {"stop": id}; {"end": why or null}
    A/B/k    {"here": id} and {"ended": id, "result": result} for each trial; {"done": true} after
             the end, {"left": true} when it goes for another reason

A key holds what was said last, said again every second as a sign of life. A message is signed for
its key and numbered: without the token nobody makes one up, and one that was read on the network
passes for no other node's, trial's or moment's. Whoever reaches the store may still read it, and
take things away.
"""

import hmac
import ipaddress
import json
import os
import socket
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from betanas.data import DatasetFacts
from betanas.devices.find import Devices
from betanas.errors import InputError, RunError
from betanas.launcher.rendezvous import WAIT_SECONDS, Node
from betanas.study.definition import StudyDefinition

POLL_SECONDS = 0.05
BEAT_SECONDS = 1.0
SILENT_SECONDS = 15.0  # a node that has not beaten for so long is gone

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 30  # a host that has not answered for so long is frozen or gone
_SIGNATURE = 64  # hexadecimal digits of SHA-256
_NOTHING = b"-"


class LostNodeError(RunError):
    """Node 0, which has the store, is gone."""


class SignedStore:
    """Messages by key, in a ``TCPStore`` that anybody on the network may write to.

    Args:
        host: Where node 0 is reached.
        node: This node.
        address: Where other nodes reach this one.
        listener: On node 0, where the store lives until it is closed: what it listens on.

    Attributes:
        address: Where other nodes reach this one.
        forged: The keys under which was, when last read, what is not signed with the token.
    """

    def __init__(
        self, host: str, node: Node, address: str, listener: socket.socket | None = None
    ) -> None:
        from torch.distributed import (  # type: ignore[attr-defined] # noqa: PLC0415 - slow
            TCPStore,
        )

        self._store = TCPStore(
            host,
            node.port + 1,
            is_master=listener is not None,
            wait_for_workers=False,
            timeout=timedelta(seconds=_CONNECT_SECONDS),
            master_listen_fd=listener.detach() if listener else None,
        )
        self._token, self._number = node.token.encode(), 0
        self.address, self.forged = address, set[str]()

    def close(self) -> None:
        """Hangs up."""
        del self._store

    def write(self, key: str, message: dict[str, Any]) -> None:
        """Puts a message in the place of the one before; raises LostNodeError."""
        self._number += 1
        body = json.dumps({**message, "number": self._number})
        with _lost_if_it_fails():
            self._store.set(key, self._sign(key, body.encode()) + body)

    def read(self, key: str) -> dict[str, Any] | None:
        """The message of a key; None if there is none that is signed; raises LostNodeError."""
        with _lost_if_it_fails():
            # Not ``get``, which waits for a key that is not there; this changes nothing.
            value = self._store.compare_set(key, _NOTHING.decode(), _NOTHING.decode())
        signature, body = value[:_SIGNATURE], value[_SIGNATURE:]
        self.forged.discard(key)
        if hmac.compare_digest(signature, self._sign(key, body).encode()):
            message: dict[str, Any] = json.loads(body)
            return message
        if value != _NOTHING:
            self.forged.add(key)
        return None

    def _sign(self, key: str, body: bytes) -> str:
        return hmac.digest(self._token, key.encode() + b"\n" + body, "sha256").hex()


class Link:
    """One end of what two nodes say to each other.

    Args:
        store: Where it is said.
        own: The key of what this end says.
        other: The key of what the other end says.

    Attributes:
        said: What this end said last.
        heard: What the other end said last.
        heard_at: When it last gave a sign of life, in monotonic seconds.
        changed_at: When it began to say that.
    """

    def __init__(self, store: SignedStore, own: str, other: str) -> None:
        self._store, self._own, self._other = store, own, other
        self._said_at, self._number = -BEAT_SECONDS, 0
        self.said: dict[str, Any] = {}
        self.heard: dict[str, Any] = {}
        self.heard_at = self.changed_at = time.monotonic()

    @property
    def is_gone(self) -> bool:
        """Whether the other end has said that it leaves, or nothing for too long."""
        return "left" in self.heard or time.monotonic() - self.heard_at > SILENT_SECONDS

    def say(self, message: dict[str, Any]) -> None:
        """Says something from now on: at once, and again every second."""
        now = time.monotonic()
        if message != self.said or now - self._said_at >= BEAT_SECONDS:
            self.said, self._said_at = message, now
            self._store.write(self._own, message)

    def listen(self) -> dict[str, Any]:
        """What the other end says; to be called often, for it gives this end's signs of life."""
        self.say(self.said)
        message = self._store.read(self._other)
        if message is not None and message["number"] > self._number:
            self._number = message.pop("number")
            self.heard_at = time.monotonic()
            if message != self.heard:
                self.heard, self.changed_at = message, self.heard_at
        return self.heard


def host_store(node: Node) -> SignedStore:
    """Opens node 0's store.

    Raises:
        InputError: If the rendezvous endpoint is not this machine's, or a port is taken.
    """
    _listen(node, node.port)[0].close()  # the rendezvous of the trials: better known now
    listener, address = _listen(node, node.port + 1)
    return SignedStore(address, node, node.host, listener)


def reach_store(node: Node, wait_seconds: float = WAIT_SECONDS) -> SignedStore:
    """Reaches node 0's store; node 0 may yet have to start.

    Raises:
        InputError: If it cannot be reached for ``wait_seconds``.
    """
    port, deadline = node.port + 1, time.monotonic() + wait_seconds
    while True:
        try:
            # Torch's own attempt cannot be interrupted, and tells of its failure at length.
            with socket.create_connection((node.host, port), _CONNECT_SECONDS) as probe:
                address = str(probe.getsockname()[0])
            store = SignedStore(node.host, node, address)
            _limit_waiting(port)
            return store  # noqa: TRY300
        except (OSError, RuntimeError) as error:
            if time.monotonic() > deadline:
                raise InputError(
                    f"node 0 could not be reached at {node.host} port {port} for "
                    f"{wait_seconds:.0f} s ({_line(error)}); start the same command there, with "
                    "--node-rank 0"
                ) from None
        time.sleep(BEAT_SECONDS)


def introduction(
    node: Node, devices: Devices, definition: StudyDefinition, facts: DatasetFacts
) -> dict[str, Any]:
    """What must be the same on all nodes."""
    # Only node 0 proposes, and it knows what the sampler was when the study began.
    meaning = {k: v for k, v in definition.meaning().items() if k != "search.sampler"}
    told = {
        "nnodes": node.nnodes,
        "nproc_per_node": devices.nproc_per_node,
        "device": devices.kind,
        "study": definition.name,
        "images": facts.fingerprint,
        **meaning,
    }
    plain: dict[str, Any] = json.loads(json.dumps(told))
    return plain


def _listen(node: Node, port: int) -> tuple[socket.socket, str]:
    """Listens for other nodes; returns the socket, and an address at which it is reached."""
    try:
        found = socket.getaddrinfo(node.host, port, type=socket.SOCK_STREAM)[0]
        address = str(found[4][0])
        named = node.host not in (address, "localhost")
        # Debian gives a machine's own name an address that no other machine reaches.
        hidden = named and ipaddress.ip_address(address).is_loopback
        return socket.create_server(("" if hidden else address, port), family=found[0]), address
    except OSError as error:
        raise InputError(
            f"--rdzv-endpoint {node.endpoint}: node 0 cannot listen on {node.host} port {port} "
            f"({_line(error)}); name an address of this machine, and a port that is free as is "
            "the one after it"
        ) from None


def _limit_waiting(port: int) -> None:
    """Has the connection to a port fail that waits too long.

    A store's client waits for ever for the answer of a host that is frozen or gone, and nothing
    interrupts it, not even Ctrl-C; torch has no option for that.
    """
    limit = struct.pack("ll", _ANSWER_SECONDS, 0)
    for file in Path("/dev/fd").iterdir():
        with suppress(OSError):  # the one that lists this folder is closed by now
            if stat.S_ISSOCK(os.fstat(int(file.name)).st_mode):
                with socket.socket(fileno=os.dup(int(file.name))) as connection:
                    if connection.getpeername()[1] == port:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


@contextmanager
def _lost_if_it_fails() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # all that torch says of a connection
        raise LostNodeError(f"the store of node 0 is gone: {_line(error)}") from None


def _line(error: Exception) -> str:
    """What an error says, in one line."""
    told = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(told).splitlines()[0]
