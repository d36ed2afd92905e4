"""Which GPUs this process has for itself: a lock file each, which the system frees at its end."""

import os
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout

_claims: dict[str, FileLock] = {}


def claim_gpu(gpu: str) -> bool:
    """Claims a GPU for as long as this process lives; False if another one of the user's has it.

    Args:
        gpu: Its identity, as ``CUDA_VISIBLE_DEVICES`` takes it.
    """
    if gpu in _claims:
        return True
    folder = Path(tempfile.gettempdir()) / f"betanas-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = FileLock(folder / f"{gpu}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    _claims[gpu] = lock
    return True


def claimed_gpus() -> dict[str, str]:
    """The environment variable that shows a trainer process this process's GPUs and no others."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(_claims)} if _claims else {}
