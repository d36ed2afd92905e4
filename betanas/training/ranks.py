"""The processes of one training and what they say to each other."""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

import torch
import torch.distributed as dist
from torch import nn

COLLECTIVE_TIMEOUT = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among its peers, as torchrun's environment tells.

    Attributes:
        rank: 0 to size - 1; rank 0 keeps the clock and writes the result.
        size: Processes that train together; collectives cost nothing when it is 1.
        device: Where this process computes.
    """

    rank: int
    size: int
    device: torch.device

    @classmethod
    def join(cls, device: str) -> Self:
        """Joins the process group; gloo carries CPU tensors, NCCL those on GPUs."""
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local_rank = int(os.environ["LOCAL_RANK"])
        place = torch.device("cuda", local_rank) if device == "cuda" else torch.device("cpu")
        if place.type == "cuda":
            torch.cuda.set_device(place)
        if size > 1:
            backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
            dist.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT)
        return cls(rank, size, place)

    def leave(self) -> None:
        """Leaves the group; every rank must have finished its last collective."""
        if self.size > 1:
            dist.destroy_process_group()

    def agree(self, progress: float, failed: bool) -> tuple[float, bool]:
        """One small collective before each step: rank 0's clock, anybody's failure.

        Args:
            progress: Share of the budget that is spent; only rank 0's counts.
            failed: Whether this rank's loss is no longer finite.

        Returns:
            Rank 0's progress, and whether any rank failed: the same on all ranks.
        """
        if self.size == 1:
            return progress, failed
        news = torch.tensor(
            [progress if self.rank == 0 else 0.0, float(failed)], dtype=torch.float64
        )
        dist.all_reduce(news, op=dist.ReduceOp.MAX)
        return float(news[0]), bool(news[1])

    def total(self, *counts: float) -> list[float]:
        """Sums each count over the ranks, exactly for whole numbers below 2**53."""
        if self.size == 1:
            return list(counts)
        sums = torch.tensor(counts, dtype=torch.float64)
        dist.all_reduce(sums)
        return [float(s) for s in sums]

    def average_buffers(self, model: nn.Module) -> None:
        """Gives all ranks the mean of their batch-norm statistics, before an evaluation."""
        if self.size == 1:
            return
        for buffer in model.buffers():
            if buffer.is_floating_point():
                dist.all_reduce(buffer)
                buffer.div_(self.size)

    def synchronize(self) -> None:
        """Waits until the device has done all it was asked to."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
