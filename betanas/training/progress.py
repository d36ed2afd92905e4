"""The news of a training: lines that rank 0 adds to a file, and the controller reads."""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from betanas.trial import PROGRESS_FILE

_TELL_SECONDS = 0.5


class NewsWriter:
    """Rank 0's side.

    Args:
        folder: The trial's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._file = (folder / PROGRESS_FILE).open("a", encoding="utf-8")
        self._last = 0.0

    def tell(self, **news: float | str) -> None:
        """Adds a line."""
        self._file.write(json.dumps(news) + "\n")
        self._file.flush()

    def tell_sometimes(self, **news: float) -> None:
        """Adds a line if the last one of these is half a second old."""
        now = time.monotonic()
        if now - self._last >= _TELL_SECONDS:
            self._last = now
            self.tell(**news)


class NewsReader:
    """The controller's side: each complete line once.

    Args:
        folder: The trial's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / PROGRESS_FILE
        self._read = 0

    def read(self) -> list[dict[str, Any]]:
        """The lines that were added since the last call; not those that a full disk has cut off."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        told = []
        for line in whole.splitlines():
            with suppress(ValueError):
                told.append(json.loads(line))
        return told
