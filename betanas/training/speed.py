"""How fast a trained network answers: measured in its trial, outside of the budget."""

import json
from collections.abc import Callable
from dataclasses import asdict

import torch

from betanas.devices.ranks import Ranks
from betanas.models.latency import measure_latency
from betanas.study.recipe import LatencyConfig
from betanas.trial import TrialLatency, TrialTask


def trial_latency(
    task: TrialTask, wanted: LatencyConfig, ranks: Ranks, beat: Callable[[], None]
) -> TrialLatency:
    """Times the task's network on the device that has trained it, warm, in float32.

    Rank 0 measures, while all others wait for it.

    Args:
        task: Whose network.
        wanted: Images of a pass, and threads of a CPU.
        ranks: This process among its peers.
        beat: Called before each pass.

    Returns:
        The same on all ranks.
    """
    told = _measured(task, wanted, ranks, beat) if ranks.rank == 0 else None
    shared = ranks.share(json.dumps(told and asdict(told)).encode())
    return TrialLatency(**json.loads(shared))


def _measured(
    task: TrialTask, wanted: LatencyConfig, ranks: Ranks, beat: Callable[[], None]
) -> TrialLatency:
    threads = torch.get_num_threads()
    torch.set_num_threads(wanted.threads)
    try:
        found = measure_latency(task.architecture, wanted.batch_size, task.device, beat)
    finally:
        torch.set_num_threads(threads)
    return TrialLatency(
        p50_ms=1000 * found.seconds,
        p95_ms=1000 * found.p95,
        runs=found.runs,
        batch_size=wanted.batch_size,
        threads=wanted.threads,
        device=ranks.device_name,
    )
