"""The choices of ``search.pruner``: who stops a trial whose training says that it is hopeless.

Off by default, as in the published search: a stopped trial saves time, but a network that learns
late is misjudged. Optuna's pruners decide, or ours of the same kind, from what the database holds,
so that every worker decides alike; trials are compared at equal shares of their budgets only.
(Successive halving's rungs grow by factors, which a handful of equal shares does not offer.)
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from optuna import Study
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.trial import FrozenTrial, TrialState

from betanas.search.foresight import LEAST_TRIALS, foresee, last_percent
from betanas.study.sections import SearchConfig
from betanas.trial import REPEATS

PACE_PERCENT = 10  # of the budget, after which the pace alone is looked at


class ModelPruner(BasePruner):
    """Stops a trial that is not expected to become the best one.

    What it will come to is foreseen from its pace, its network's costs and its best accuracy so
    far, by a model of the complete trials (``foresight.py``).

    Args:
        bound: The trial goes on while its chance to beat the best complete one is no smaller.
    """

    def __init__(self, bound: float) -> None:
        self._bound = bound

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial is to be stopped for what it has told last."""
        percent = last_percent(trial)
        if percent is None or percent >= 100:
            return False
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        complete = [
            t
            for t in ended
            if t.values and np.isfinite(t.values[0]) and REPEATS not in t.user_attrs
        ]
        foresight = foresee([trial], complete, percent)
        if foresight is None:
            return False
        best = max(t.values[0] for t in complete)
        return float(foresight.chances(best)[0]) < self._bound


def make_pruner(search: SearchConfig) -> BasePruner:
    """What ``search.pruner`` says."""
    if search.pruner == "none":
        return NopPruner()
    if search.pruner == "model":
        return ModelPruner(search.pruner_chance)
    return MedianPruner(n_startup_trials=LEAST_TRIALS, n_min_trials=LEAST_TRIALS)


class Looks:
    """Which news of one training are looks, at which a pruner decides.

    Where evaluations come at equal shares of the budget, trials are compared at those; and by
    their pace alone once before, for whoever cares.

    Args:
        evaluations: ``recipe.evaluations``.
        paces: Whether the pace counts.
    """

    def __init__(self, evaluations: int, *, paces: bool) -> None:
        self._shares = evaluations or 100
        self._waits = paces and PACE_PERCENT * self._shares < 100

    def percent(self, news: Mapping[str, Any]) -> int | None:
        """How much of the budget is spent, if the news are a look; else None."""
        if "accuracy" in news:
            share = int(news["spent"] * self._shares + 1e-9)
            return share * 100 // self._shares if share else None
        if self._waits and pace(news) is not None and news["spent"] * 100 >= PACE_PERCENT:
            self._waits = False
            return PACE_PERCENT
        return None


def pace(news: Mapping[str, Any]) -> float | None:
    """Passes over the training images that the whole budget allows at the speed so far."""
    spent, epochs = news.get("spent", 0), news.get("epoch", 0)
    return epochs / spent if spent > 0 and epochs > 0 else None
