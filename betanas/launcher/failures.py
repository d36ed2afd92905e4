"""Why a training failed: each rank leaves its own story, and the agent finds the cause in them."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist

from betanas.errors import DataError
from betanas.files import is_full, read_json, write_json
from betanas.trial import RESULT_FILE, Failure, TrainingResult

_PROBE_SECONDS = 120.0

# What gloo and NCCL say on the ranks that did nothing wrong when another one is gone.
_PEER_GONE = (
    "closed by peer",
    "reset by peer",
    "Broken pipe",
    "Connection refused",
    "Timed out waiting",
    "timed out",
    "remote process exited",
    "third_party/gloo",
    "ProcessGroup",
)


def write_failure(folder: Path, rank: int, error: Exception) -> bool:
    """Leaves a rank's story.

    Args:
        folder: The trial's folder.
        rank: Whose.
        error: What ended it.

    Returns:
        Whether it only missed another rank, and so is not where the failure began.
    """
    message = f"rank {rank}: {type(error).__name__}: {error}".splitlines()[0]
    peer = _peer_gone(error)
    told = {"failure": _kind(error), "message": message, "peer": peer}
    story = told | {"suspect": isinstance(error, torch.AcceleratorError)}
    write_json(folder / f"rank-{rank}.failure.json", story)
    return peer


def conclude(folder: Path, exit_codes: Mapping[int, int], nnodes: int = 1) -> None:
    """Writes the failed result of a training whose ranks have ended, unless there is a result.

    A rank's own error comes first, then a rank that was killed, then ranks that missed another.

    Args:
        folder: The trial's folder.
        exit_codes: Of the ranks that failed; negative for a signal.
        nnodes: Machines that trained together; where it began may be on another one.
    """
    if read_json(folder / RESULT_FILE) is not None:
        return
    stories = [read_json(path) for path in sorted(folder.glob("rank-*.failure.json"))]
    own = [story for story in stories if not story["peer"]]
    # The agent itself ends the ranks that are left with SIGTERM.
    killed = [r for r, code in exit_codes.items() if code < 0 and code != -signal.SIGTERM]
    if own:
        failure, message = Failure(own[0]["failure"]), own[0]["message"]
        if failure is Failure.CRASHED and own[0].get("suspect") and not gpu_answers():
            failure = Failure.DEVICE_LOST
    elif killed:
        name = signal.Signals(-exit_codes[killed[0]]).name
        message = f"rank {killed[0]} was ended by {name}"
        failure = Failure.KILLED if name == "SIGKILL" else Failure.CRASHED
    elif stories:
        failure = Failure.CRASHED if nnodes == 1 else Failure.NODE_LOST
        message = stories[0]["message"]
    else:
        rank, code = next(iter(exit_codes.items()), (0, 1))
        failure, message = Failure.CRASHED, f"rank {rank} ended with exit code {code}"
    write_result(folder, TrainingResult(value=None, failure=failure, message=message))


def gpu_answers() -> bool:
    """Whether a fresh process can compute on the GPU, after one that could not."""
    code = "import torch; torch.ones(2, device='cuda').sum().item()"
    try:
        probe = subprocess.run([sys.executable, "-c", code], timeout=_PROBE_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return False
    return probe.returncode == 0


def write_result(folder: Path, result: TrainingResult) -> None:
    """Writes the result that the controller waits for."""
    write_json(folder / RESULT_FILE, result.to_json())


# What allocations say that fail: the host's, CUDA's, cuBLAS's, cuDNN's and NCCL's.
_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "Cannot allocate memory",
    "out of memory",
    "cudaErrorMemoryAllocation",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "HOST_ALLOCATION_FAILED",
    "DEVICE_ALLOCATION_FAILED",
    "Failed to CUDA calloc",
)
# What CUDA says when it is the machine that fails, not the network.
_DEVICE_GONE = ("no CUDA-capable device", "driver shutting down", "GPU is lost", "uncorrectable")


def _kind(error: Exception) -> Failure:
    text = str(error)
    if no_memory(error):
        return Failure.OUT_OF_MEMORY
    if isinstance(error, DataError):
        return Failure.DATA
    if is_full(error) or "No space left on device" in text:
        return Failure.DISK_FULL
    return Failure.DEVICE_LOST if any(w in text for w in _DEVICE_GONE) else Failure.CRASHED


def no_memory(error: Exception) -> bool:
    """Whether a device or the machine has had too little memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError | OSError) and any(t in str(error) for t in _MEMORY)
    )


def _peer_gone(error: Exception) -> bool:
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _PEER_GONE)
    )
