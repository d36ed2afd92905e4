"""Who works on what: leases in the study's own database, so that any worker may die.

A lease names its owner and ends by itself unless it is renewed. Of an owner on this machine more is
known: one that no longer runs has lost its leases at once, one that runs keeps them whatever the
clock says, one that is frozen loses them when they end. Every change of hands raises the token, and
only the bearer of the current token may record a result (fencing). Ends are told by the database's
clock, one for all machines.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cache
from pathlib import Path

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    insert,
    literal,
    literal_column,
    select,
    text,
)
from sqlalchemy import update as update_rows
from sqlalchemy.exc import IntegrityError

from betanas.database.patience import make_tables, patient
from betanas.errors import BetaNASError

LEASE_SECONDS = 120.0
RENEWAL_SECONDS = 20.0
_PAUSE_SECONDS = 0.1

_METADATA = MetaData()
_LEASES = Table(
    "betanas_leases",
    _METADATA,
    Column("resource", String(64), primary_key=True),
    Column("owner", String(255), nullable=False),
    Column("token", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("expires", Float(53), nullable=False),
)


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim on a resource.

    Attributes:
        resource: What is claimed, such as ``trial/17``.
        token: Raised at every change of hands.
        attempts: Owners that died with it.
    """

    resource: str
    token: int
    attempts: int


class LostLeaseError(BetaNASError):
    """A worker that was held up for long: another one has what it was working on."""


class Leases:
    """The leases of one database.

    Args:
        engine: The database; the table is made if it is not there.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        make_tables(lambda: _METADATA.create_all(engine))

    def claim(self, resource: str, begun_by: str | None = None) -> Lease | None:
        """Claims what nobody holds, or whose holder is gone; None if somebody does.

        Args:
            resource: What to claim.
            begun_by: Another worker that is about to claim it, if it is there still and the
                resource has no lease yet; it is given ``LEASE_SECONDS`` for that.
        """
        with self._engine.begin() as connection:
            row = connection.execute(
                select(_LEASES).where(_LEASES.c.resource == resource)
            ).one_or_none()
        if row is None:
            if begun_by in (None, current_worker()):
                # Another may have inserted it meanwhile, for itself or on our behalf.
                return self._insert(resource, current_worker()) or self.claim(resource)
            # On behalf of that worker: if it is gone or does not come, the next claim succeeds.
            self._insert(resource, str(begun_by))
            return None if _state(str(begun_by)) is not _State.DEAD else self.claim(resource)
        # A worker does one thing at a time: what is in its own name when it asks, it does not hold.
        released = row.expires == 0 or row.owner == current_worker()
        if not released and not self._has_ended(row.owner, row.expires):
            return None
        attempts = row.attempts if released else row.attempts + 1
        change = update_rows(_LEASES).where(
            _LEASES.c.resource == resource, _LEASES.c.token == row.token
        )
        with self._engine.begin() as connection:
            values = {"owner": current_worker(), "token": row.token + 1, "attempts": attempts}
            end = _now(connection) + LEASE_SECONDS
            won = connection.execute(change.values(**values, expires=end)).rowcount == 1
        return Lease(resource, row.token + 1, attempts) if won else None

    def renew(self, lease: Lease) -> bool:
        """Makes a lease last ``LEASE_SECONDS`` from now; False if it has changed hands."""
        with self._engine.begin() as connection:
            return _update(connection, lease, expires=_now(connection) + LEASE_SECONDS)

    @contextmanager
    def bearing(self, lease: Lease) -> Iterator[Connection]:
        """A transaction that only the lease's bearer gets; nobody can take it over meanwhile.

        The lease is renewed by it.

        Raises:
            LostLeaseError: If it has changed hands.
        """
        with self._engine.begin() as connection:
            if not _update(connection, lease, expires=_now(connection) + LEASE_SECONDS):
                raise LostLeaseError(f"{lease.resource} has been taken over by another worker")
            yield connection

    @contextmanager
    def held(self, resource: str) -> Iterator[None]:
        """Holds a lease for a while, shorter than ``LEASE_SECONDS``; waits for whoever has it."""
        while (lease := patient(self.claim)(resource)) is None:
            time.sleep(_PAUSE_SECONDS)
        try:
            yield
        finally:
            patient(self.release)(lease)

    def release(self, lease: Lease) -> None:
        """Gives a lease back in good order: the next owner's attempt is no retry."""
        with self._engine.begin() as connection:
            _update(connection, lease, expires=0.0)

    def forget_deleted(self, study_id: int) -> None:
        """Forgets what was leased in studies that are deleted: SQLite gives their numbers again.

        Args:
            study_id: Of a study that begins.
        """
        with self._engine.begin() as connection:
            leased = connection.execute(select(_LEASES.c.resource)).scalars().all()
            trials = set(connection.execute(text("SELECT trial_id FROM trials")).scalars())
            gone = []
            for resource in leased:
                kind, number, *_ = resource.split("/")
                if int(number) not in trials if kind == "trial" else int(number) == study_id:
                    gone += [{"gone": resource}] * (kind != "setup")
            if gone:
                which = _LEASES.c.resource == bindparam("gone")
                connection.execute(delete(_LEASES).where(which), gone)

    def count_attempt(self, lease: Lease) -> Lease:
        """Notes that what is claimed has failed its owner once more, who tries again."""
        again = replace(lease, attempts=lease.attempts + 1)
        with self._engine.begin() as connection:
            _update(connection, lease, attempts=again.attempts)
        return again

    def _has_ended(self, owner: str, expires: float) -> bool:
        state = _state(owner, expires - LEASE_SECONDS)
        if state is not _State.UNKNOWN and state is not _State.FROZEN:
            return state is _State.DEAD
        with self._engine.begin() as connection:
            return bool(
                connection.execute(select(literal(expires) < _now(connection))).scalar_one()
            )

    def _insert(self, resource: str, owner: str) -> Lease | None:
        row = {"resource": resource, "owner": owner, "token": 1, "attempts": 0}
        try:
            with self._engine.begin() as connection:
                end = _now(connection) + LEASE_SECONDS
                connection.execute(insert(_LEASES).values(**row, expires=end))
        except IntegrityError:
            return None
        return Lease(resource, 1, 0)


def _update(connection: Connection, lease: Lease, **values: float | ColumnElement[float]) -> bool:
    mine = (_LEASES.c.resource == lease.resource, _LEASES.c.token == lease.token)
    return connection.execute(update_rows(_LEASES).where(*mine).values(**values)).rowcount == 1


_CLOCKS = {
    "postgresql": "extract(epoch FROM clock_timestamp())",
    "mysql": "unix_timestamp(now(6))",
    "mariadb": "unix_timestamp(now(6))",
}


def _now(connection: Connection) -> ColumnElement[float]:
    """Seconds since 1970 by the database's clock; an SQLite file's is this machine's."""
    clock = _CLOCKS.get(connection.dialect.name)
    return literal(time.time()) if clock is None else literal_column(clock, Float(53))


@cache
def _boot() -> str:
    identity = Path("/proc/sys/kernel/random/boot_id")
    return identity.read_text().strip() if identity.exists() else "-"


class _State(Enum):
    """What is known of an owner from here."""

    UNKNOWN = auto()  # it is on another machine
    DEAD = auto()
    FROZEN = auto()
    RUNS = auto()


def _stat(pid: int) -> tuple[str, str]:
    """State and start time of a process of this machine; raises ProcessLookupError."""
    if not Path("/proc/self/stat").exists():
        with suppress(PermissionError):
            os.kill(pid, 0)
        return "R", "-"
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        raise ProcessLookupError(pid) from None
    state, *fields = stat.rpartition(")")[2].split()
    return state, fields[18]


@cache
def _processes() -> str:
    """Which processes are to be seen from here: a container sees its own only."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return "-"


def _booted() -> float:
    """When this machine has started, seconds since 1970."""
    uptime = Path("/proc/uptime")
    return time.time() - float(uptime.read_text().split()[0]) if uptime.exists() else 0.0


def current_worker() -> str:
    """This process, as leases name it: host, boot and container, process id and start time."""
    pid = os.getpid()
    return f"{socket.gethostname()}|{_boot()}/{_processes()}|{pid}|{_stat(pid)[1]}"


def _state(owner: str, renewed: float = 0.0) -> _State:
    """What is known of an owner, which has last renewed its lease then, seconds since 1970.

    Machines and containers may have one host name. Another boot than ours is this machine before
    its restart only where the lease was not renewed after that.
    """
    host, place, pid, started = owner.rsplit("|", 3)
    boot, _, processes = place.partition("/")  # leases of older versions name no container
    if host != socket.gethostname():
        return _State.UNKNOWN
    if boot != _boot():
        return _State.UNKNOWN if renewed > _booted() else _State.DEAD
    if processes not in ("", _processes()):
        return _State.UNKNOWN
    try:
        state, since = _stat(int(pid))
    except ProcessLookupError:
        return _State.DEAD
    if since != started or state == "Z":
        return _State.DEAD
    return _State.FROZEN if state in "Tt" else _State.RUNS
