"""Where a study stands, from its trials alone."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from betanas.analysis.cells import per_cent
from betanas.trial import STOPPED_EARLY, TrialRecord

STATES = ("complete", "pruned", "fail", "running", "waiting")
DATA_WAIT_WARNING = 0.05  # share of the training time


def observed_best(records: Sequence[TrialRecord]) -> TrialRecord | None:
    """The search's complete trial of highest value, the earliest of equals; None without one."""
    complete = [r for r in records if r.state == "complete" and r.value is not None]
    complete = [r for r in complete if not r.is_replicate]
    return max(complete, key=lambda r: (r.value or 0.0, -r.number), default=None)


def result_json(record: TrialRecord) -> dict[str, Any]:
    """What a trial has reached: its value; what that weighs, and the latency where measured."""
    found: dict[str, Any] = {"number": record.number, "value": record.value}
    if record.is_weighed:
        found["accuracy"] = record.accuracy
    if record.latency_ms is not None:
        found["latency_ms"] = record.latency_ms
    return found


def told_result(record: TrialRecord) -> str:
    """The same for people: ``70.12 % at 1.65 ms, weighed 0.6501``."""
    told = per_cent(record.accuracy)
    if record.latency_ms is not None:
        told += f" at {record.latency_ms:.2f} ms"
    return f"{told}, weighed {record.value:.4f}" if record.is_weighed else told


def summarize(name: str, records: Sequence[TrialRecord], target: int) -> dict[str, Any]:
    """Counts what has happened.

    Args:
        name: The study's.
        records: All its trials.
        target: Non-trivial trials that it works towards.

    Returns:
        The JSON of ``betanas status``, but for what only some studies have.
    """
    states = Counter(r.state for r in records)
    best = observed_best(records)
    return {
        "study": name,
        "trials": {state: states[state] for state in STATES},
        "rejected": dict(Counter(str(r.reason) for r in records if r.rejected)),
        "failed": dict(Counter(str(r.reason) for r in records if r.state == "fail")),
        "sobol": sum(r.phase == "sobol" for r in records),
        "stopped_early": sum(r.reason == STOPPED_EARLY for r in records),
        "feasible": sum(r.counts for r in records),
        "target": target,
        "replicates": sum(r.state == "complete" and r.is_replicate for r in records),
        "best": result_json(best) if best else None,
        "warnings": [w for r in records for w in audit_warnings(r)],
    }


def audit_warnings(record: TrialRecord) -> list[str]:
    """What a user should know before trusting a trial."""
    warnings = []
    fallback = record.audit.get("fallback")
    if fallback is not None:
        warnings.append(f"trial {record.number} is a plain feasible Sobol point: {fallback}")
    waited, trained = record.audit.get("data_wait_seconds"), record.train_seconds
    if waited and trained and waited > DATA_WAIT_WARNING * trained:
        warnings.append(
            f"trial {record.number} waited for data in {waited / trained:.0%} of its training time"
        )
    return warnings
