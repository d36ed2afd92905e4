"""Findings as tables: what stands in the report and in the CSV files beside it."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from betanas.analysis.clusters import Cluster, Clustering
from betanas.analysis.confirmation import Confirmed
from betanas.analysis.evidence import history_of, supernet_history
from betanas.analysis.finals import Finals
from betanas.analysis.findings import QUALITY_FIGURES, Findings
from betanas.analysis.front import Front
from betanas.analysis.pareto import COSTS, cost_of, known_costs, pareto_front
from betanas.analysis.scaling import ScaledCost
from betanas.architecture.layers import Architecture, Layer
from betanas.architecture.supernet import network_text
from betanas.search.recommend import Recommendation
from betanas.study.amounts import amount_text
from betanas.study.sections import ACCURACY, LATENCY
from betanas.trial import TrialRecord

Cell = str | int | float | None
TRIAL_COLUMNS = (
    "number", "state", "phase", "value", "reason", "num_params", "macs", "activation_bytes",
    "fingerprint", "train_seconds", "epochs",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below named columns."""

    columns: tuple[str, ...]
    rows: list[list[Cell]]

    def to_csv(self) -> str:
        """Comma-separated values, a header first."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([self.columns, *self.rows])
        return text.getvalue()


def all_tables(findings: Findings) -> dict[str, Table]:
    """Every table of a report, by the name of its CSV file."""
    tables = {
        "trials": trials_table(findings.records, findings.ranges),
        "kernels": kernels_table(findings),
        "rejections": outcomes_table(findings.outcomes),
        "pareto": pareto_table(findings.records),
        "replicates": replicates_table(findings),
        "histories": histories_table(findings.records),
        "scaling": _table(
            ("resolution", "num_params", "macs", "activation_bytes", "layers"),
            (
                [s.resolution, s.num_params, s.macs, s.activation_bytes, s.layers]
                for s in findings.scaling
            ),
        ),
    }
    for network in findings.networks:
        key = "layers_" + network.title.split()[0]
        tables[key] = layers_table(network.architecture)
    if findings.clustering is not None:
        tables["clusters"] = cluster_table(findings.clustering, findings.recommended)
        tables["cluster_trials"] = _table(
            ("trial", "cluster"),
            zip(findings.clustering.numbers, map(int, findings.clustering.labels), strict=True),
        )
    if findings.importance:
        tables["importance"] = _table(
            ("parameter", *findings.importance),
            (
                [name, *(own.get(name) for own in findings.importance.values())]
                for name in findings.ranges
            ),
        )
    if findings.dependence:
        tables["partial_dependence"] = _table(
            ("parameter", "value", "mean", "std"),
            (
                [d.name, value, float(mean), float(std)]
                for d in findings.dependence
                for value, mean, std in zip(d.values, d.mean, d.std, strict=True)
            ),
        )
    if findings.front is not None:
        tables |= front_tables(findings.front)
    if findings.confirmed is not None:
        tables |= confirmed_tables(findings.confirmed)
    if findings.finals is not None:
        tables["finals"] = finals_table(findings.finals)
    if any(map(supernet_history, findings.records)):
        tables |= supernet_tables(findings.records)
    if findings.quality is not None:
        quality = findings.quality
        tables["model_quality"] = _table(
            ("figure", "value"), ([key, getattr(quality, key)] for key in QUALITY_FIGURES)
        )
        tables["cross_validation"] = _table(
            ("measured", "predicted", "std"),
            (
                list(map(float, row))
                for row in zip(quality.measured, quality.predicted, quality.std, strict=True)
            ),
        )
    return tables


def _table(columns: tuple[str, ...], rows: Iterable[Sequence[Cell]]) -> Table:
    return Table(columns, [list(row) for row in rows])


def curves_table(curves: Mapping[str, Sequence[ScaledCost]]) -> Table:
    """What one kernel costs by each rule of scaling, ``rule -> rows``; a row a side."""
    costs = ("num_params", "macs", "activation_bytes", "layers", "latency_ms")
    return _table(
        ("rule", "resolution", *costs),
        (
            [rule, row.resolution, *(getattr(row, cost) for cost in costs)]
            for rule, rows in curves.items()
            for row in rows
        ),
    )


def trials_table(records: Sequence[TrialRecord], names: Iterable[str]) -> Table:
    """All trials, a column for each of these parameters; the latency where it is an objective."""
    names = tuple(names)
    weighed = [ACCURACY] if any(r.is_weighed for r in records) else []
    timed = [LATENCY] if any(r.latency_ms or LATENCY in r.values for r in records) else []
    return _table(
        (*TRIAL_COLUMNS, *weighed, *timed, *names),
        (
            [
                *(getattr(r, c) for c in TRIAL_COLUMNS),
                *(r.accuracy for _ in weighed),
                *(r.values.get(name, r.latency_ms) for name in timed),
                *(r.parameters.get(n) for n in names),
            ]
            for r in records
        ),
    )


def kernels_table(findings: Findings) -> Table:
    """The best kernels side by side, a row a parameter, what they reach and cost below."""
    networks = findings.networks
    rows: list[list[Cell]] = [
        [name, *(n.kernel[name] for n in networks)] for name in findings.ranges
    ]
    values: dict[str, Cell] = {}
    if findings.observed is not None:
        values["observed best"] = findings.observed.value
    if findings.recommended is not None:
        values["recommended best"] = findings.recommended.predicted_value
    rows.append([findings.measure.name, *(values.get(n.title) for n in networks)])
    rows += [[cost, *(getattr(n.complexity, cost) for n in networks)] for cost in COSTS]
    return Table(("parameter", *(n.title for n in networks)), rows)


def cluster_table(clustering: Clustering, recommended: Recommendation | None) -> Table:
    """The published Tables 5 and 6: the recommended kernel beside the clusters' means.

    Of a choice, the option that most of a cluster's trials have, and how many do unless all do.
    """
    clusters = clustering.clusters
    columns = ["parameter", *(f"cluster {c.label}" for c in clusters)]
    rows: list[list[Cell]] = [
        [name, *(_typical(c, name) for c in clusters)] for name in clusters[0].mean_parameters
    ]
    rows.append(["mean evaluation", *(c.mean_value for c in clusters)])
    rows.append(["trials", *(c.size for c in clusters)])
    if recommended is not None:
        columns.insert(1, "recommended")
        for row in rows:
            row.insert(1, recommended.parameters.get(str(row[0])))
        rows[-2][1] = recommended.predicted_value
    return Table(tuple(columns), rows)


def _typical(cluster: Cluster, name: str) -> Cell:
    value, share = cluster.mean_parameters[name], cluster.option_shares.get(name, 1.0)
    return value if share == 1 else f"{value} ({share:.0%})"


def outcomes_table(outcomes: Mapping[str, Mapping[str, int]]) -> Table:
    """What became of the trials of each phase, a row a phase and outcome."""
    return _table(
        ("phase", "outcome", "trials"),
        (
            [phase, kind, count]
            for phase, counts in outcomes.items()
            for kind, count in counts.items()
        ),
    )


def pareto_table(records: Sequence[TrialRecord]) -> Table:
    """The fronts, a row a trial on each."""
    costs = known_costs(records)
    return _table(
        ("front", "trial", "value", *costs),
        (
            [cost, r.number, r.value, *(cost_of(r, c) for c in costs)]
            for cost in costs
            for r in pareto_front(records, cost)
        ),
    )


def front_tables(front: Front) -> dict[str, Table]:
    """The trials that no other one beats, and how the hypervolume has grown."""
    return {
        "front": _table(
            ("place", "trial", *front.objectives),
            (
                [place, r.number, *(r.values[name] for name in front.objectives)]
                for place, r in enumerate(front.trials)
            ),
        ),
        "hypervolume": _table(("trial", "hypervolume"), front.history),
    }


def replicates_table(findings: Findings) -> Table:
    """Architectures that were trained more than once, a row a training."""
    values = {r.number: r.value for r in findings.records}
    return _table(
        ("fingerprint", "trial", "value"),
        (
            [fingerprint, number, values[number]]
            for fingerprint, numbers in findings.replicates.groups.items()
            for number in numbers
        ),
    )


def histories_table(records: Sequence[TrialRecord]) -> Table:
    """Every evaluation of every training."""
    columns = ("epoch", "steps", "train_seconds", "accuracy", "train_loss")
    return _table(
        ("trial", *columns),
        ([r.number, *(e.get(c) for c in columns)] for r in records for e in history_of(r)),
    )


def supernet_tables(records: Sequence[TrialRecord]) -> dict[str, Table]:
    """Supernets at each evaluation, and what decided of each of their blocks then."""
    points = [(r.number, p) for r in records for p in supernet_history(r)]
    columns = ("steps", "accuracy", "loss", "runtime_ms")
    return {
        "supernets": _table(
            ("trial", *columns, "network"),
            ([n, *(p[c] for c in columns), network_text(p["choices"])] for n, p in points),
        ),
        "supernet_gates": _table(
            ("trial", "steps", "block", "gate", "value"),
            (
                [number, p["steps"], block, gate, value]
                for number, p in points
                for block, gates in p["gates"].items()
                for gate, value in gates.items()
            ),
        ),
    }


def confirmed_tables(found: Confirmed) -> dict[str, Table]:
    """Models that were trained again, and how surely each beats each other."""
    columns = (
        "num_params", "macs", "searched", "mean", "std", "failed", "probability_best",
    )  # fmt: skip
    return {
        "confirmed": _table(
            ("model", *columns),
            ([m.title, *(getattr(m, column) for column in columns)] for m in found.models),
        ),
        "confirmed_pairs": _table(
            ("better", "other", "difference", "low", "high", "probability"),
            ([d.better, d.other, d.mean, d.low, d.high, d.probability] for d in found.differences),
        ),
    }


def finals_table(found: Finals) -> Table:
    """The trainings of the finals: a row a network, a column a budget; those ahead come first."""
    plan, rounds = found.plan, range(len(found.plan.rounds))
    columns = (plan.trial_amount, *(r.amount for r in plan.rounds))
    networks = {e.title: e for which in reversed(rounds) for e in found.ranked(which)}
    networks |= {e.title: e for e in plan.entrants if e.title not in networks}
    fields = [{e.title for e in found.field(which)} for which in rounds]
    return _table(
        ("network", "macs", *(f"value ({amount_text(plan.unit, a)})" for a in columns)),
        (
            [
                title,
                e.macs,
                e.value,
                *(found.value(which, e) if title in fields[which] else None for which in rounds),
            ]
            for title, e in networks.items()
        ),
    )


def chances_table(found: Confirmed) -> Table:
    """With which probability each model is the best, and beats each other one."""
    return _table(
        ("model", "is the best", *(f"beats {m.title}" for m in found.models)),
        (
            [m.title, m.probability_best, *(found.probability(m, o) for o in found.models)]
            for m in found.models
        ),
    )


def layers_table(architecture: Architecture) -> Table:
    """The published Tables A1 and A3: equal layers in a row are one row with mean ratios."""

    def shape(layer: Layer) -> tuple[Any, ...]:
        return layer.block, layer.in_channels, layer.out_channels, layer.stride

    groups: list[list[Layer]] = []
    for layer in architecture.layers:
        if groups and shape(groups[-1][0]) == shape(layer):
            groups[-1].append(layer)
        else:
            groups.append([layer])
    return _table(
        ("block", "in", "out", "expansion", "stride", "SE ratio", "side", "repeats"),
        (
            [
                str(group[0].block),
                group[0].in_channels,
                group[0].out_channels,
                sum(y.expansion_ratio for y in group) / len(group),
                group[0].stride,
                sum(y.se_ratio for y in group) / len(group),
                group[0].out_resolution,
                len(group),
            ]
            for group in groups
        ),
    )
