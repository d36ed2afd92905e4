"""Lets one process do what all of them need, while the others wait for it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl


@contextmanager
def exclusive(path: Path) -> Iterator[bool]:
    """Holds the lock file ``path`` while the block runs; the system frees it if a process dies.

    Yields:
        True if no other process is in the block; False where the system cannot lock (the folder
        is read-only, or its file system knows no locks). What the block does must then be
        wasteful at worst, not wrong.
    """
    if sys.platform == "win32":
        yield False
        return
    try:
        file = path.open("ab")
    except OSError:
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            held = True
        except OSError:
            held = False
        yield held
