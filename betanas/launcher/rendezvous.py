"""Which machines train a trial together, and where they meet: torchrun's options, checked."""

import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from betanas.errors import InputError

WAIT_SECONDS = 600.0  # how long nodes wait for each other, at the start and after a loss
_PAUSE_SECONDS = 0.5
_TOKEN_LENGTH = 16  # characters; who listens to the network may try short ones at leisure


@dataclass(frozen=True, slots=True)
class Node:
    """This machine among those that train every trial together.

    Attributes:
        nnodes: How many machines.
        node_rank: Which one this is; 0 leads: it owns the study, the others train with it.
        host: Address of node 0 that the others reach.
        port: Where torchrun's rendezvous listens on node 0 during a trial; on ``port + 1`` node 0
            tells the others what to train.
        token: What all nodes know and nobody else; who signs with it is one of them.
    """

    nnodes: int
    node_rank: int
    host: str
    port: int
    token: str = field(repr=False)

    @classmethod
    def from_options(
        cls, nnodes: int, endpoint: str | None, node_rank: int | None, token: str
    ) -> Self | None:
        """What ``--nnodes``, ``--rdzv-endpoint`` and ``--node-rank`` say; None for one machine.

        Args:
            nnodes: Of the options.
            endpoint: Of the options.
            node_rank: Of the options.
            token: ``BETANAS_TOKEN``, which only more than one machine needs.

        Raises:
            InputError: If they contradict each other.
        """
        if nnodes < 1:
            raise InputError(f"--nnodes must be >= 1, but got {nnodes}")
        place = _checked_place(nnodes, endpoint, node_rank)
        if place is None:
            return None
        if len(token.strip()) < _TOKEN_LENGTH:
            raise InputError(
                f"--nnodes {nnodes} needs the environment variable BETANAS_TOKEN, the same on "
                f"every node, of at least {_TOKEN_LENGTH} characters, such as openssl rand -hex 32 "
                f"prints, but it has {len(token.strip())}"
            )
        return cls(nnodes, *place, token.strip())

    @property
    def endpoint(self) -> str:
        """Where torchrun's agents meet."""
        return _endpoint(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """How the agents of one training find each other.

    Attributes:
        node_rank: Which node asks.
        endpoint: ``HOST:PORT`` of node 0; port 0 takes any that is free.
        address: Where the other nodes reach this one.
        run_id: The training's own, the same on all nodes.
        nnodes: How many nodes an elastic training may have, at least and at most.
    """

    node_rank: int = 0
    endpoint: str = "127.0.0.1:0"
    address: str = "127.0.0.1"
    run_id: str = "trial"
    nnodes: tuple[int, int] = (1, 1)

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``from_json`` gives back an equal rendezvous."""
        return asdict(self)

    @classmethod
    def elastic(cls, nnodes: str, endpoint: str | None, node_rank: int | None) -> Self:
        """What the options say for a training whose nodes may come and go.

        Args:
            nnodes: ``N`` or ``MIN:MAX``.
            endpoint: Of the options.
            node_rank: Of the options; each node has its own, which one in its place takes over.

        Raises:
            InputError: If they contradict each other, or node 0's address cannot be found.
        """
        low, _, high = nnodes.partition(":")
        high = high or low
        if not (low.isdecimal() and high.isdecimal() and 1 <= int(low) <= int(high)):
            raise InputError(
                f"--nnodes must be N or MIN:MAX with 1 <= MIN <= MAX, but got {nnodes!r}"
            )
        place = _checked_place(int(high), endpoint, node_rank)
        if place is None:
            return cls()
        rank, host, port = place
        address = host if rank == 0 else _own_address(host, port)
        return cls(rank, _endpoint(host, port), address, nnodes=(int(low), int(high)))

    def wait_for_host(self, seconds: float = WAIT_SECONDS) -> None:
        """Waits until node 0 listens: its images may take longer than torch waits for it, 60 s.

        What becomes of one that does not come torch says when it tries.
        """
        host, _, port = self.endpoint.rpartition(":")
        deadline = time.monotonic() + seconds
        while self.node_rank > 0 and time.monotonic() < deadline:
            with suppress(OSError):
                socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
                return
            time.sleep(_PAUSE_SECONDS)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuilds what ``to_json`` wrote."""
        return cls(**{**data, "nnodes": tuple(data["nnodes"])})


def _endpoint(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _checked_place(
    nnodes: int, endpoint: str | None, node_rank: int | None
) -> tuple[int, str, int] | None:
    """The node's rank, and host and port of node 0; None for one machine."""
    if nnodes == 1:
        for option, value in (("--rdzv-endpoint", endpoint), ("--node-rank", node_rank)):
            if value is not None:
                raise InputError(f"{option} {value} needs --nnodes >= 2, but got --nnodes 1")
        return None
    if endpoint is None or node_rank is None:
        missing = "--rdzv-endpoint HOST:PORT" if endpoint is None else "--node-rank RANK"
        raise InputError(f"--nnodes {nnodes} needs {missing}, on every node")
    if not 0 <= node_rank < nnodes:
        raise InputError(
            f"--node-rank must be in [0, {nnodes - 1}] with --nnodes {nnodes}, but got {node_rank}"
        )
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65534:
        raise InputError(
            "--rdzv-endpoint must be HOST:PORT of node 0 with a port in [1, 65534], "
            f"such as host0:29400, but got {endpoint!r}"
        )
    return node_rank, host.strip("[]"), int(port)


def _own_address(host: str, port: int) -> str:
    """By which this machine sends to another, and so is reached from there."""
    try:
        kind, _, _, _, there = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(kind, socket.SOCK_DGRAM) as probe:
            probe.connect(there)  # of a datagram's socket: nothing is sent
            return str(probe.getsockname()[0])
    except OSError as error:
        raise InputError(f"--rdzv-endpoint: {host} is not found from here: {error}") from None
