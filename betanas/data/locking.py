"""Lets one process do what all of them need, while the others wait for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock


@contextmanager
def exclusive(path: Path) -> Iterator[bool]:
    """Holds the lock file ``path`` while the block runs; the system frees it if a process dies.

    Yields:
        True if no other process is in the block; False where the system cannot lock (the folder
        is read-only, or its file system knows no locks). What the block does must then be
        wasteful at worst, not wrong.
    """
    lock = FileLock(path)
    try:
        lock.acquire()
    except (OSError, NotImplementedError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
