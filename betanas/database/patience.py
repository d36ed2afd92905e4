"""A database that goes away for a while must not end a search."""

import functools
import logging
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    PendingRollbackError,
)

logger = logging.getLogger(__name__)

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 30.0

_TABLE_PAUSES_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.6)

P = ParamSpec("P")
T = TypeVar("T")


def patient(ask: Callable[P, T]) -> Callable[P, T]:
    """Repeats what a database could not answer, after ever longer pauses, for as long as it takes.

    Only for what may be done twice: reads, and writes that give the same row again.
    """

    @functools.wraps(ask)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        pause = FIRST_WAIT_SECONDS
        while True:
            try:
                return ask(*args, **kwargs)
            except (DBAPIError, PendingRollbackError, StorageInternalError) as error:
                told = error.__cause__ if isinstance(error, StorageInternalError) else error
                if not _may_pass(told):
                    raise
                cause = str(getattr(told, "orig", None) or told).splitlines()[0]
                logger.warning("the database does not answer (%s); again in %g s", cause, pause)
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_WAIT_SECONDS)

    return run


def _may_pass(error: BaseException | None) -> bool:
    """Whether waiting helps: a lost connection or a lock, not a table of another shape."""
    if isinstance(error, PendingRollbackError):  # what a session says after a lost connection
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    return isinstance(error, OperationalError | InterfaceError) and "no such" not in str(error.orig)


def make_tables(make: Callable[[], T]) -> T:
    """Calls what makes tables, again if another worker made the same ones at the same moment."""
    for pause in _TABLE_PAUSES_SECONDS:
        try:
            return make()
        except DBAPIError as error:
            if "already exists" not in str(error.orig) and not isinstance(error, IntegrityError):
                raise
            time.sleep(pause)
    return make()
