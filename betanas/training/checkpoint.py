"""Checkpoints of one training: whole files, tensors and plain numbers only, the last two kept."""

import io
import json
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from betanas.devices.ranks import Ranks
from betanas.files import TEMPORARY, whole_file
from betanas.trial import TrialTask

CHECKPOINT_FILE = "checkpoint.pt"
_PREVIOUS_FILE = "checkpoint.previous.pt"
BEST_FILE = "best.pt"
# A checkpoint waits until it costs at most this share of the time since the last one.
_SHARE = 0.02


class Checkpoints:
    """Those of one training: as often as asked for, unless that would cost too much.

    Args:
        task: Where they lie, and how many seconds apart.
        ranks: This process among its peers, all of whom call the methods together.
        writes: Whether this rank writes its machine's.
    """

    def __init__(self, task: TrialTask, ranks: Ranks, *, writes: bool) -> None:
        self._task, self._ranks, self._writes = task, ranks, writes
        self._cost = 0.0
        self.begin()

    def begin(self) -> None:
        """The time to the first one counts from now."""
        self._written = time.monotonic()

    @property
    def are_due(self) -> bool:
        """Whether it is time for the next one."""
        wait = max(self._task.checkpoint_seconds, self._cost / _SHARE)
        return time.monotonic() - self._written >= wait

    def write(self, state: dict[str, Any], own: dict[str, torch.Tensor]) -> None:
        """Writes the next one.

        Args:
            state: What is the same on all ranks.
            own: What is each rank's own; ``read`` gives a list of all ranks' for each.
        """
        began = time.monotonic()
        gathered = {name: self._ranks.gather(value) for name, value in own.items()}
        if self._writes:
            identity = {"task": json.dumps(self._task.identity)}
            write_checkpoint(Path(self._task.folder), identity | state | gathered)
        self._written = time.monotonic()
        self._cost = self._written - began

    def read(self) -> dict[str, Any] | None:
        """Gives all ranks what rank 0 finds in its folder: other nodes have none, or an older one.

        Where ranks come and go, it is what the machine has that has come furthest, and the others
        take over its best weights so far, too.

        Returns:
            What ``write`` was given in a training of the very same task; None to begin anew.
        """
        ranks, folder = self._ranks, Path(self._task.folder)
        found = read_checkpoint(folder) if self._writes else None
        if found is not None and found["task"] != json.dumps(self._task.identity):
            found = None
        if ranks.size == 1:
            return found
        source = 0
        if self._task.is_elastic:
            seen = ranks.gather(torch.tensor(-1 if found is None else found["images"]))
            source = int(torch.stack(seen).argmax())
            self._share_best(source)
        gives = ranks.rank == source and found is not None
        return _unpacked(ranks.share(_packed(found) if gives else b"", source))

    def _share_best(self, source: int) -> None:
        ranks, best = self._ranks, Path(self._task.folder) / BEST_FILE
        gives = ranks.rank == source and best.exists()
        weights = ranks.share(best.read_bytes() if gives else b"", source)
        if weights and self._writes and ranks.rank != source:
            with whole_file(best) as file:
                file.write(weights)


def write_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Writes a checkpoint that is there in whole or not at all, whatever is killed when.

    Args:
        folder: The trial's folder; the checkpoint before stays there as a second one.
        state: Tensors, numbers, strings, and dicts, lists and tuples of them.
    """
    newest, previous = folder / CHECKPOINT_FILE, folder / _PREVIOUS_FILE
    with whole_file(newest, keep_as=previous) as file:
        torch.save(state, file)


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Reads the newest checkpoint that is sound; None where there is none."""
    for name in (CHECKPOINT_FILE, _PREVIOUS_FILE):
        path = folder / name
        if not path.exists():
            continue
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file may make its reader raise anything
            warnings.warn(f"{path} is damaged and passed over: {error}", stacklevel=2)
            continue
        assert isinstance(state, dict)  # noqa: S101 - what write_checkpoint was given
        return state
    return None


def _packed(state: dict[str, Any] | None) -> bytes:
    packed = io.BytesIO()
    torch.save(state, packed)
    return packed.getvalue()


def _unpacked(packed: bytes) -> dict[str, Any] | None:
    if not packed:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(packed), map_location="cpu", weights_only=True)
    return state


def remove_checkpoints(folder: Path, *, keep_newest: bool = False) -> None:
    """Removes a training's checkpoints, and what killed writers left."""
    (folder / _PREVIOUS_FILE).unlink(missing_ok=True)
    for path in folder.glob(f"{CHECKPOINT_FILE}.*{TEMPORARY}"):
        path.unlink(missing_ok=True)
    if not keep_newest:
        (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
