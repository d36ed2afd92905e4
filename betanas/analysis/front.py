"""Several objectives: the trials that no other one beats, and how their front has grown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from betanas.analysis.clusters import complete_trials
from betanas.arrays import FloatArray
from betanas.search.front import as_points, hypervolumes, non_dominated, reference_values
from betanas.trial import Phase, TrialRecord

TITLES = {
    "accuracy": "accuracy",
    "latency": "latency (ms)",
    "num_params": "parameters",
    "macs": "multiply-adds",
    "activation_bytes": "activation memory (bytes)",
}


@dataclass(frozen=True, slots=True)
class Front:
    """What a study with several objectives has reached.

    Attributes:
        objectives: Their names, the accuracy first.
        trials: On the Pareto front, by falling accuracy; of trials with equal values the first.
        reference: ``objective -> value`` from which the hypervolume counts.
        history: ``(trial number, hypervolume after it)`` of each complete trial, in accuracy times
            the natural logarithms of the costs (``search/front.py``).
    """

    objectives: tuple[str, ...]
    trials: tuple[TrialRecord, ...]
    reference: Mapping[str, float]
    history: tuple[tuple[int, float], ...]

    @property
    def hypervolume(self) -> float:
        """Of the front as it is."""
        return self.history[-1][1]

    def to_json(self) -> dict[str, Any]:
        """Plain data, as ``status`` and the report tell it."""
        return {
            "objectives": list(self.objectives),
            "front": [
                {"number": r.number, "values": dict(r.values), "parameters": dict(r.parameters)}
                for r in self.trials
            ],
            "reference_point": dict(self.reference),
            "hypervolume": self.hypervolume,
            "hypervolume_history": [{"number": n, "hypervolume": v} for n, v in self.history],
        }


def find_front(
    objectives: Sequence[str],
    records: Sequence[TrialRecord],
    reference: Mapping[str, float] | None = None,
) -> Front | None:
    """The front of a study with several objectives.

    Args:
        objectives: Their names, the accuracy first.
        records: All trials; replicates of others are left out.
        reference: As the study has recorded it; None before.

    Returns:
        None for a study with one objective, or without a complete trial.
    """
    complete = [r for r in complete_trials(records) if set(objectives) <= r.values.keys()]
    complete.sort(key=lambda r: r.number)
    if len(objectives) < 2 or not complete:
        return None
    found = first_reference(objectives, complete) if reference is None else reference
    points = _points(objectives, [r.values for r in complete])
    front = [r for r, there in zip(complete, non_dominated(points), strict=True) if there]
    grown = hypervolumes(points, _points(objectives, [found])[0])
    return Front(
        tuple(objectives),
        tuple(sorted(front, key=lambda r: (-r.values[objectives[0]], r.number))),
        dict(found),
        tuple(zip([r.number for r in complete], map(float, grown), strict=True)),
    )


def first_reference(objectives: Sequence[str], records: Sequence[TrialRecord]) -> dict[str, float]:
    """The reference point that the trials which open a study give, or all if none of them does.

    Args:
        objectives: Their names, the accuracy first.
        records: All trials, of which one at least is complete.
    """
    complete = complete_trials(records)
    first = [r for r in complete if r.phase in (Phase.START, Phase.SOBOL)]
    return reference_values(objectives, [r.values for r in first or complete])


def _points(objectives: Sequence[str], values: Sequence[Mapping[str, float]]) -> FloatArray:
    """Trials as ``search/front.py`` sees them, ``n x q``."""
    table = [[own[name] for name in objectives] for own in values]
    return as_points(np.array(table, dtype=np.float64))
