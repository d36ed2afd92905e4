"""Signs of life: what each rank tells of itself, and how the controller notices a hung one.

A heartbeat is a file of a few bytes that a rank maps into its memory: a beat costs less than a
microsecond, so there is one before and after everything that may block. A thread beats apart from
the work, which tells a stopped process from one that waits for it.
"""

import mmap
import os
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_LAYOUT = struct.Struct("=ddqqd")  # alive, worked, beats, steps, longest silence
_ALIVE = struct.Struct("=d")  # the first of them, which the thread writes
_THREAD_SECONDS = 1.0
_FIRST_STEP_SECONDS = 300.0  # start-up and the first step may take that long
_SLOW_FACTOR = 3.0  # a network whose every step is slow is not hung: so often its longest silence


class Heartbeat:
    """A rank's own.

    Args:
        folder: The trial's folder.
        rank: Which rank.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        path = folder / f"rank-{rank}.beat"
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(_LAYOUT.pack(time.monotonic(), time.monotonic(), 0, 0, 0.0))
        temporary.replace(path)
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _LAYOUT.size)
        self._beats, self._last, self._longest = 0, time.monotonic(), 0.0
        threading.Thread(target=self._live, daemon=True).start()

    def beat(self, steps: int) -> None:
        """Says that this rank works on, ``steps`` steps after the start."""
        now = time.monotonic()
        if steps:  # the first step is long for other reasons
            self._longest = max(self._longest, now - self._last)
        self._beats, self._last = self._beats + 1, now
        # Not pack_into: it clears the place first, and the controller may look in between.
        self._map[:] = _LAYOUT.pack(now, now, self._beats, steps, self._longest)

    def alive(self) -> None:
        """Says that this process runs, whatever its work is at."""
        self._map[: _ALIVE.size] = _ALIVE.pack(time.monotonic())

    def _live(self) -> None:
        while True:
            time.sleep(_THREAD_SECONDS)
            self.alive()


@dataclass(frozen=True, slots=True)
class _Beat:
    """A heartbeat as the controller reads it; times are the machine's monotonic seconds."""

    rank: int
    alive: float
    worked: float
    beats: int
    steps: int
    longest: float

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls(int(path.stem.removeprefix("rank-")), *_LAYOUT.unpack(path.read_bytes()))


class HungRank:
    """Notices when a rank, or the launch, shows no sign of life any more.

    Args:
        folder: The trial's folder.
        stall_seconds: Silence that is borne; of a network whose steps are slow, three times the
            longest silence that its ranks came back from.
    """

    def __init__(self, folder: Path, stall_seconds: float) -> None:
        self._folder, self._stall_seconds = folder, stall_seconds
        self._began = time.monotonic()

    def message(self) -> str | None:
        """Which rank hangs, in words; None while all is well."""
        # A heartbeat that is read while it is written may say anything, but not twice.
        return self._verdict() and self._verdict()

    def _verdict(self) -> str | None:
        now = time.monotonic()
        beats = [_Beat.read(path) for path in self._folder.glob("rank-*.beat")]
        if not beats:
            borne = max(self._stall_seconds, _FIRST_STEP_SECONDS)
            if now - self._began > borne:
                return f"no rank began within {borne:.0f} s of its launch"
            return None
        stopped = min(beats, key=lambda b: b.alive)
        if now - stopped.alive > self._stall_seconds:
            return self._words(stopped, now - stopped.alive)
        # Whoever waits for another has come further: the one that hangs has the fewest beats.
        behind = min(beats, key=lambda b: (b.beats, b.worked))
        borne = max(self._stall_seconds, _SLOW_FACTOR * max(b.longest for b in beats))
        if behind.steps == 0:
            borne = max(borne, _FIRST_STEP_SECONDS)
        if now - max(b.worked for b in beats) > borne:
            return self._words(behind, now - behind.worked)
        return None

    def _words(self, beat: _Beat, silent: float) -> str:
        return (
            f"rank {beat.rank} gave no sign of life for {silent:.0f} s, "
            f"after {beat.steps} training steps"
        )
