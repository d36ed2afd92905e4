"""What a forked agent and its rank are to train, told after they were forked.

Starting a process on a GPU takes seconds: so one that is ready is kept beside the training that
runs, and gets its task when it is wanted. Task and go-ahead travel through memory and a pipe that
both sides share since the fork.
"""

import json
import mmap
import os
from typing import Any

_BYTES = 2**16


class Order:
    """A request that may still come; made before the fork, used on both sides of it."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _BYTES)
        self._read, self._write = os.pipe()
        self._open = True

    def give(self, request: dict[str, Any]) -> None:
        """The server's side: says what to train, once."""
        data = json.dumps(request).encode()
        self._memory[: len(data)] = data
        self.take()

    def take(self) -> None:
        """The agent's side: from now on the pipe ends with the server's word, or the server."""
        if self._open:
            self._open = False
            os.close(self._write)

    def wait(self) -> dict[str, Any] | None:
        """The rank's side: waits for the request; None if the server has gone without one."""
        os.read(self._read, 1)
        return self.known()

    def known(self) -> dict[str, Any] | None:
        """The request, if it has come."""
        data = self._memory[:].rstrip(b"\0")
        found: dict[str, Any] | None = json.loads(data) if data else None
        return found

    def close(self) -> None:
        """The server's side, when agent and ranks are gone."""
        self.take()
        os.close(self._read)
        self._memory.close()
