"""Databases: what is asked of their drivers, and what they say when they cannot be opened."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from betanas.database.patience import make_tables
from betanas.errors import StorageError, without_password

_LOCK_SECONDS = 60.0  # how long a write waits for another one on SQLite
# A connection that died without a word is noticed within a minute (libpq's parameters, seconds).
_KEEP_ALIVE = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
# The same for the server, whose own defaults keep a lost worker's locks for two hours.
_SESSION = {
    "idle_in_transaction_session_timeout": "'60s'",
    "tcp_keepalives_idle": 30,
    "tcp_keepalives_interval": 10,
    "tcp_keepalives_count": 3,
}


def open_database(url: str) -> RDBStorage:
    """Opens or makes a study database.

    SQLite is put into write-ahead mode, so that a reading dashboard never stops a writing search.

    Args:
        url: Any SQLAlchemy URL.

    Raises:
        StorageError: If it cannot be reached, is no database, or is of another schema.
    """
    parsed = parse_url(url)
    options: dict[str, Any] = {"pool_pre_ping": True}
    with opening(parsed):
        if parsed.get_backend_name() == "sqlite":
            options = {"connect_args": {"timeout": _LOCK_SECONDS}}
            if parsed.database in (None, "", ":memory:"):
                shown = without_password(url)
                raise StorageError(
                    f"storage {shown} must be a file, for a study outlives its process; give "
                    "sqlite:///FILE.db"
                )
            _prepare_sqlite(Path(str(parsed.database)))
        elif parsed.get_backend_name() == "postgresql":
            options["connect_args"] = _KEEP_ALIVE
        database = make_tables(lambda: RDBStorage(url, engine_kwargs=options))
        if parsed.get_backend_name() == "postgresql":
            event.listen(database.engine, "connect", _limit_session)
            database.engine.dispose()  # connections from before that
        return database


def _limit_session(connection: DBAPIConnection, _: object) -> None:
    """Lets the server give up a worker that is gone or frozen in the middle of a transaction."""
    cursor = connection.cursor()
    for name, value in _SESSION.items():
        cursor.execute(f"SET {name} = {value}")
    cursor.close()
    connection.commit()


def parse_url(url: str) -> URL:
    """Reads a database URL; raises StorageError if it is none."""
    try:
        return make_url(url)
    except (ArgumentError, ValueError):  # a port that is no number is a ValueError
        raise StorageError(
            "storage.url must be a database URL such as sqlite:///storage/study.db, "
            f"but got {without_password(url)!r}"
        ) from None


@contextmanager
def opening(parsed: URL) -> Iterator[None]:
    """Turns what drivers say of a database into one line, without the password."""
    shown = without_password(parsed.render_as_string(hide_password=False))
    try:
        yield
    except ImportError:
        raise StorageError(
            f"storage {shown}: the driver of {parsed.drivername} is not installed; for PostgreSQL: "
            "pip install 'betanas[postgresql]', and postgresql+psycopg://..."
        ) from None
    except RuntimeError as error:  # Optuna, of another version's tables
        raise StorageError(f"storage {shown}: {str(error).splitlines()[0]}") from None
    except (SQLAlchemyError, StorageInternalError, sqlite3.Error, OSError) as error:
        told = error.__cause__ if isinstance(error, StorageInternalError) else error
        cause = str(getattr(told, "orig", None) or told).splitlines()[0]
        for password in filter(None, (parsed.password, parsed.query.get("password"))):
            cause = cause.replace(str(password), "***")
        raise StorageError(f"storage {shown} cannot be opened: {cause}") from None


def _prepare_sqlite(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _LOCK_SECONDS
    connection = sqlite3.connect(path, timeout=_LOCK_SECONDS)
    try:
        # Changing the mode does not wait for a lock, unlike all else: so we do. A file system that
        # cannot have it answers with the mode that stays: readers and writers then wait for each
        # other.
        answer = None
        while answer is None:
            try:
                answer = connection.execute("PRAGMA journal_mode=WAL").fetchone()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
    finally:
        connection.close()


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite URL; None for any other URL."""
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return None
    return Path(parsed.database)


def no_study(name: str, url: str, options: str | None = None) -> str:
    """What is said of a database without a study.

    Args:
        name: The study's.
        url: The database's.
        options: How a command line names both; by the study's name if it is not known.
    """
    begin = f"betanas optimize {options or f'--study {name}'}"
    return f"{without_password(url)} has no study {name}; begin it with: {begin}"
