"""Checkpoints of one training: whole files, tensors and plain numbers only, the last two kept."""

import io
import warnings
from pathlib import Path
from typing import Any

import torch

from betanas.files import TEMPORARY, whole_file

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


def pack(state: dict[str, Any]) -> bytes:
    """A checkpoint's state as bytes, for another rank."""
    packed = io.BytesIO()
    torch.save(state, packed)
    return packed.getvalue()


def unpack(packed: bytes) -> dict[str, Any] | None:
    """What ``pack`` was given; None for no bytes."""
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
