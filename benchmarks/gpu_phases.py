"""The phases of gpu.py: each a function from (device, quick) to rows of plain data."""

from collections.abc import Callable, Iterator

import torch
from gpu_correctness import arithmetic, augmentation, graph, hooks, two_ranks
from gpu_searches import failures, search
from gpu_speed import ceilings, short, start_up, throughput, without_budget, workers
from gpu_tasks import Row

PHASES: dict[str, tuple[Callable[[torch.device, bool], Iterator[Row]], float]] = {
    "ceilings": (ceilings, 60),
    "augmentation": (augmentation, 60),
    "arithmetic": (arithmetic, 90),
    "graph": (graph, 90),
    "hooks": (hooks, 60),
    "two_ranks": (two_ranks, 90),
    "start_up": (start_up, 90),
    "short": (short, 60),
    "without_budget": (without_budget, 120),
    "failures": (failures, 150),
    "search": (search, 120),
    "workers": (workers, 120),
    "throughput": (throughput, 240),
}
"""``name -> (phase, the seconds it may take)``."""
