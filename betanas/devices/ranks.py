"""The processes of one training and what they say to each other."""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

# The second line behind the controller, which ends a hung training sooner and names the rank.
COLLECTIVE_TIMEOUT = timedelta(seconds=120)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a rank knows before a step.

    Attributes:
        progress: Share of the budget that is spent; rank 0's counts.
        failed: Whether its loss is no longer finite; any rank's counts.
        save: Whether a checkpoint is due; rank 0's counts.
        stop: Whether the controller wants no more of this training; rank 0's counts.
    """

    progress: float = 0.0
    failed: bool = False
    save: bool = False
    stop: bool = False


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among its peers, as torchrun's environment tells.

    Attributes:
        rank: 0 to size - 1; rank 0 keeps the clock and writes the result.
        size: Processes that train together; collectives cost nothing when it is 1.
        device: Where this process computes.
        local_rank: The same as ``rank`` among the processes of this machine.
    """

    rank: int
    size: int
    device: torch.device
    local_rank: int = 0

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
        return cls(rank, size, place, local_rank)

    def leave(self) -> None:
        """Leaves the group; every rank must have finished its last collective."""
        if self.size > 1:
            dist.destroy_process_group()

    def agree(self, wishes: "Wishes") -> "Wishes":
        """One small collective before each step: rank 0's wishes, and anybody's failure.

        Returns:
            The same on all ranks.
        """
        if self.size == 1:
            return wishes
        own = [wishes.progress, wishes.save, wishes.stop] if self.rank == 0 else [0.0, 0.0, 0.0]
        news = torch.tensor([*own, wishes.failed], dtype=torch.float64)
        dist.all_reduce(news, op=dist.ReduceOp.MAX)
        progress, save, stop, failed = news.tolist()
        return Wishes(progress, bool(failed), bool(save), bool(stop))

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
        shared = [b for b in model.buffers() if b.is_floating_point() and b.ndim == 1]
        if not shared:
            return
        flat = torch.cat(shared)
        dist.all_reduce(flat)
        means = torch.split(flat / self.size, [len(b) for b in shared])
        for buffer, mean in zip(shared, means, strict=True):
            buffer.copy_(mean)

    def gather(self, own: Tensor) -> list[Tensor]:
        """Each rank's tensor, in their order; all of one shape, and on the CPU."""
        if self.size == 1:
            return [own]
        gathered = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(gathered, own)
        return gathered

    def share(self, data: bytes, source: int = 0) -> bytes:
        """One rank's bytes, on all ranks."""
        if self.size == 1:
            return data
        length = torch.tensor([len(data)])
        dist.broadcast(length, src=source)
        shared = torch.empty(int(length), dtype=torch.uint8)
        if self.rank == source and data:
            shared = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        if len(shared):
            dist.broadcast(shared, src=source)
        return bytes(shared.numpy())

    def random_state(self) -> Tensor:
        """State of torch's global generator of this rank's device, for what draws from that."""
        if self.device.type == "cuda":
            return torch.cuda.get_rng_state(self.device)
        return torch.get_rng_state()

    def set_random_state(self, state: Tensor) -> None:
        """Takes up what ``random_state`` returned."""
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state, self.device)
        else:
            torch.set_rng_state(state)

    @property
    def device_name(self) -> str:
        """What this rank computes on, in words."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"

    def synchronize(self) -> None:
        """Waits until the device has done all it was asked to."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
