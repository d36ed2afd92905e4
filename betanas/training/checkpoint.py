"""Checkpoints of one training: whole files, tensors and plain numbers only, the last two kept."""

import io
import json
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


def shared_checkpoint(task: TrialTask, ranks: Ranks, *, writes: bool) -> dict[str, Any] | None:
    """Gives all ranks what rank 0 finds in its folder: other nodes have none, or an older one.

    Where ranks come and go, it is what the machine has that has come furthest, and the others take
    over its best weights so far, too.

    Args:
        task: Of the very training that must have written it.
        ranks: This process among its peers.
        writes: Whether this rank writes its machine's checkpoints.

    Returns:
        What ``write_checkpoint`` was given; None to begin anew.
    """
    folder = Path(task.folder)
    found = read_checkpoint(folder) if writes else None
    if found is not None and found["task"] != json.dumps(task.identity):
        found = None
    if ranks.size == 1:
        return found
    source = 0
    if task.is_elastic:
        seen = ranks.gather(torch.tensor(-1 if found is None else found["images"]))
        source = int(torch.stack(seen).argmax())
        best = folder / BEST_FILE
        gives = ranks.rank == source and best.exists()
        weights = ranks.share(best.read_bytes() if gives else b"", source)
        if weights and writes and ranks.rank != source:
            with whole_file(best) as file:
                file.write(weights)
    gives = ranks.rank == source and found is not None
    return _unpacked(ranks.share(_packed(found) if gives else b"", source))


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
