"""How far a study can be believed: what was rejected, and what differs between replicates."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from betanas.trial import TrialRecord


def history_of(record: TrialRecord) -> list[Mapping[str, Any]]:
    """The evaluations of one training, in order; empty if none was recorded."""
    return list(record.audit.get("history") or ())


def supernet_history(record: TrialRecord) -> list[Mapping[str, Any]]:
    """What a trial's supernet was at each evaluation, in order; empty if it had none."""
    return list((record.audit.get("supernet") or {}).get("history") or ())


def outcomes_by_phase(records: Sequence[TrialRecord]) -> dict[str, dict[str, int]]:
    """``phase -> {outcome: count}``; the outcome of a rejected or failed trial is its reason."""
    phases: dict[str, Counter[str]] = {}
    for record in records:
        outcome = record.reason if record.state in ("pruned", "fail") else record.state
        phases.setdefault(record.phase or "not begun", Counter())[str(outcome)] += 1
    return {phase: dict(counts.most_common()) for phase, counts in phases.items()}


@dataclass(frozen=True, slots=True)
class Replicates:
    """Architectures that were trained more than once; they differ by the training's noise alone.

    Attributes:
        groups: ``fingerprint -> trial numbers`` of each.
        noise_std: Pooled standard deviation of their values; None without a replicate.
        degrees: Degrees of freedom behind it: trainings less architectures.
    """

    groups: dict[str, tuple[int, ...]]
    noise_std: float | None
    degrees: int


def find_replicates(records: Sequence[TrialRecord]) -> Replicates:
    """Finds equal architectures among the complete trials: different kernels may decode to one."""
    values: dict[str, list[tuple[int, float]]] = {}
    for r in records:
        if r.state == "complete" and r.value is not None and r.fingerprint is not None:
            # Under another recipe it is another experiment.
            recipe = [r.parameters[n] for n in sorted(r.parameters) if n not in r.kernel]
            same = " ".join([r.fingerprint, *(f"{value:g}" for value in recipe)])
            values.setdefault(same, []).append((r.number, r.value))
    repeated = {key: group for key, group in values.items() if len(group) > 1}
    squares, degrees = 0.0, 0
    for group in repeated.values():
        measured = np.array([v for _, v in group])
        squares += float(np.sum((measured - measured.mean()) ** 2))
        degrees += len(group) - 1
    return Replicates(
        {key: tuple(n for n, _ in group) for key, group in repeated.items()},
        float(np.sqrt(squares / degrees)) if degrees else None,
        degrees,
    )
