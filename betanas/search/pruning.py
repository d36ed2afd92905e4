"""The choices of ``search.pruner``: who stops a trial whose accuracies on the way are hopeless.

Off by default, as in the published search: a stopped trial saves time, but a network that learns
late is misjudged. Optuna's own pruners decide, from what the database holds, so that every worker
decides alike; trials are compared at equal shares of their budgets only. (Successive halving's
rungs grow by factors, which a handful of equal shares does not offer.)
"""

from collections.abc import Callable, Mapping
from typing import Any

from optuna.pruners import BasePruner, MedianPruner, NopPruner

_TRIALS_FIRST = 10  # complete trials before the first one is stopped

PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "none": NopPruner,
    "median": lambda: MedianPruner(n_startup_trials=_TRIALS_FIRST, n_min_trials=_TRIALS_FIRST),
}


def percent_spent(news: Mapping[str, Any], evaluations: int) -> int | None:
    """How much of its budget a trial has spent when it tells of an evaluation; else None.

    Where evaluations come at equal shares of the budget, trials are compared at those.
    """
    if "accuracy" not in news:
        return None
    shares = evaluations or 100
    share = int(news["spent"] * shares + 1e-9)
    return share * 100 // shares if share else None
