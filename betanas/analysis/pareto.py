"""Which trials are worth their cost: nothing else is both cheaper and better."""

from collections.abc import Sequence

from betanas.analysis.clusters import complete_trials
from betanas.trial import TrialRecord

COSTS = ("num_params", "macs", "activation_bytes")
LATENCY = "latency_seconds"  # after ``betanas latency``


def known_costs(records: Sequence[TrialRecord]) -> tuple[str, ...]:
    """``COSTS``, and the measured latency where there is one."""
    return (*COSTS, LATENCY) if any(LATENCY in r.audit for r in records) else COSTS


def pareto_front(records: Sequence[TrialRecord], cost: str) -> list[TrialRecord]:
    """The complete trials that no other one beats in value at equal or lower cost.

    Args:
        records: All trials of the study.
        cost: One of ``COSTS``, or another figure of the audit in which less is better.

    Returns:
        By rising cost, and so by rising value; of equals the earliest.
    """
    known = [(cost_of(r, cost), r) for r in complete_trials(records)]
    priced = [(c, r) for c, r in known if c is not None]
    front: list[TrialRecord] = []
    for _, record in sorted(priced, key=lambda x: (x[0], -(x[1].value or 0.0), x[1].number)):
        if not front or (record.value or 0.0) > (front[-1].value or 0.0):
            front.append(record)
    return front


def cost_of(record: TrialRecord, cost: str) -> float | None:
    """A trial's cost by name; None where it was not measured."""
    value = getattr(record, cost) if cost in COSTS else record.audit.get(cost)
    return None if value is None else value if cost in COSTS else float(value)
