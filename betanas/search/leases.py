"""Who works on what: leases in the study's own database, so that any worker may die.

A lease names its owner and ends by itself unless it is renewed. An owner on this machine that no
longer runs has lost its leases at once; one elsewhere when they end. Every change of hands raises
the token, and only the bearer of the current token may record a result (fencing).
"""

import os
import socket
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sqlalchemy import Column, Engine, Float, Integer, MetaData, String, Table, insert, select
from sqlalchemy import update as update_rows
from sqlalchemy.exc import IntegrityError

LEASE_SECONDS = 120.0
RENEWAL_SECONDS = 20.0

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


class Leases:
    """The leases of one database.

    Args:
        engine: The database; the table is made if it is not there.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        _METADATA.create_all(engine)

    def claim(self, resource: str) -> Lease | None:
        """Claims what nobody holds, or whose holder is gone; None if somebody does."""
        with self._engine.begin() as connection:
            row = connection.execute(
                select(_LEASES).where(_LEASES.c.resource == resource)
            ).one_or_none()
        if row is None:
            return self._insert(resource)
        released = row.expires == 0
        if not (released or row.expires < time.time() or _is_dead(row.owner)):
            return None
        attempts = row.attempts if released else row.attempts + 1
        change = (
            update_rows(_LEASES)
            .where(_LEASES.c.resource == resource, _LEASES.c.token == row.token)
            .values(owner=_me(), token=row.token + 1, attempts=attempts, expires=_end())
        )
        with self._engine.begin() as connection:
            won = connection.execute(change).rowcount == 1
        return Lease(resource, row.token + 1, attempts) if won else None

    def is_known(self, resource: str) -> bool:
        """Whether anybody ever claimed it."""
        with self._engine.begin() as connection:
            query = select(_LEASES.c.token).where(_LEASES.c.resource == resource)
            return connection.execute(query).one_or_none() is not None

    def renew(self, lease: Lease) -> bool:
        """Makes a lease last ``LEASE_SECONDS`` from now; False if it has changed hands."""
        return self._update(lease, expires=_end())

    def release(self, lease: Lease) -> None:
        """Gives a lease back in good order: the next owner's attempt is no retry."""
        self._update(lease, expires=0.0)

    def _insert(self, resource: str) -> Lease | None:
        row = {"resource": resource, "owner": _me(), "token": 1, "attempts": 0, "expires": _end()}
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(_LEASES).values(row))
        except IntegrityError:
            return None
        return Lease(resource, 1, 0)

    def _update(self, lease: Lease, expires: float) -> bool:
        change = (
            update_rows(_LEASES)
            .where(_LEASES.c.resource == lease.resource, _LEASES.c.token == lease.token)
            .values(expires=expires)
        )
        with self._engine.begin() as connection:
            return connection.execute(change).rowcount == 1


def _end() -> float:
    return time.time() + LEASE_SECONDS


@cache
def _boot() -> str:
    identity = Path("/proc/sys/kernel/random/boot_id")
    return identity.read_text().strip() if identity.exists() else "-"


def _started(pid: int) -> str | None:
    """When a process of this machine started, in the kernel's ticks; None if it is not there."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return "-"
    state, *fields = stat.rpartition(")")[2].split()
    return None if state == "Z" else fields[18]


def _me() -> str:
    pid = os.getpid()
    return f"{socket.gethostname()}|{_boot()}|{pid}|{_started(pid)}"


def _is_dead(owner: str) -> bool:
    """Whether an owner is known to be gone; one on another machine never is."""
    host, boot, pid, started = owner.rsplit("|", 3)
    if host != socket.gethostname():
        return False
    return boot != _boot() or _started(int(pid)) != started
