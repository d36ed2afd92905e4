"""Processes that do not outlive their parent, whatever kills it, and heed a polite kill."""

import ctypes
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 1.0
_AGAIN_SECONDS = 0.05
_told: list[int] = []  # SIGTERM, each time that it came; a list, for a handler must take no lock


def die_with_parent(parent: int) -> None:
    """Has this process killed when its parent ends, even by SIGKILL.

    On Linux the kernel sees to it; elsewhere a thread watches.

    Args:
        parent: The parent's process id as the parent knew it, so that one that ended before this
            call is noticed too.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os._exit(1)


def heed_sigterm() -> None:
    """Makes SIGTERM what Ctrl-C is: the trial is given back, and the database is left in order.

    A handler may run anywhere, also where the interpreter itself calls back (weak references,
    ``__del__``); what is raised there is printed and dropped. Then it is raised again, moments
    later and from elsewhere.
    """
    _told.clear()  # what a parent has been told is no fork's
    signal.signal(signal.SIGTERM, _interrupt)
    tell = sys.unraisablehook

    def look(dropped: "sys.UnraisableHookArgs") -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGTERM))
            again.daemon = True
            again.start()
        else:
            tell(dropped)

    sys.unraisablehook = look


def was_told_to_end() -> bool:
    """Whether SIGTERM has come since ``heed_sigterm``."""
    return bool(_told)


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    _told.append(number)
    raise KeyboardInterrupt
