"""All that a study has shown, as one piece of data: what reports are written from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from betanas.analysis.clusters import Clustering
from betanas.analysis.confirmation import Confirmed
from betanas.analysis.evidence import Replicates
from betanas.analysis.finals import Finals
from betanas.analysis.front import Front
from betanas.analysis.importance import Dependence
from betanas.analysis.measure import Measure
from betanas.analysis.pareto import known_costs, pareto_front
from betanas.analysis.ranges import RangeAdvice
from betanas.analysis.scaling import ScaledCost
from betanas.analysis.status import result_json
from betanas.architecture.complexity import Complexity
from betanas.architecture.layers import Architecture
from betanas.parameters import Parameter, Value
from betanas.search.quality import ModelQuality
from betanas.search.recommend import Recommendation
from betanas.trial import TrialRecord


@dataclass(frozen=True, slots=True)
class DecodedKernel:
    """A kernel worth showing in full.

    Attributes:
        title: ``observed best`` or ``recommended best``.
        kernel: ``name -> value``, with the recipe's values that were searched beside it.
        architecture: What it decodes to at the study's resolution.
        complexity: What that costs.
    """

    title: str
    kernel: Mapping[str, Value]
    architecture: Architecture
    complexity: Complexity


@dataclass(frozen=True, slots=True)
class Findings:
    """A study, analysed.

    Attributes:
        summary: As ``betanas status`` tells it.
        facts: The study file in short, ``name -> text or number``.
        class_names: Of the data set, in label order.
        parameters: What is searched, in the family's order.
        records: All trials, by number.
        measure: What their values are.
        observed: The best trial; None if none is complete.
        recommended: What the model recommends; None if it has too little to learn from.
        networks: The best kernels in full.
        clustering: Of the best trials; None if there are too few.
        importance: ``method -> {parameter: share}``.
        dependence: Of the model, a parameter each.
        replicates: Equal architectures.
        outcomes: ``phase -> {outcome: count}``.
        scaling: The observed best kernel at other resolutions.
        range_advice: Where the best kernels press against an end of a range.
        confirmed: What trainings with other seeds say of the best; None if there are none.
        front: Of several objectives; None with one.
        finals: What longer trainings of the best say; None if there are none.
        notes: What is missing or was simplified, and why.
    """

    summary: Mapping[str, Any]
    facts: Mapping[str, str | int | float]
    class_names: tuple[str, ...]
    parameters: Sequence[Parameter]
    records: Sequence[TrialRecord]
    measure: Measure
    observed: TrialRecord | None
    recommended: Recommendation | None
    networks: tuple[DecodedKernel, ...]
    clustering: Clustering | None
    importance: Mapping[str, Mapping[str, float]]
    dependence: Sequence[Dependence]
    replicates: Replicates
    outcomes: Mapping[str, Mapping[str, int]]
    scaling: Sequence[ScaledCost]
    range_advice: Sequence[RangeAdvice] = ()
    confirmed: Confirmed | None = None
    front: Front | None = None
    finals: Finals | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        """The study's."""
        return str(self.summary["study"])

    @property
    def ranges(self) -> dict[str, tuple[Any, ...]]:
        """``name -> (low, high)``, or options."""
        return {p.name: p.range for p in self.parameters}

    @property
    def quality(self) -> ModelQuality | None:
        """Of the model, cross-validated; None if it has too little to learn from."""
        return self.recommended.quality if self.recommended else None

    def to_json(self) -> dict[str, Any]:
        """Every number, as plain data."""
        observed, quality = self.observed, self.quality
        return {
            "summary": dict(self.summary),
            "facts": dict(self.facts),
            "classes": list(self.class_names),
            "ranges": {name: list(r) for name, r in self.ranges.items()},
            "observed": None
            if observed is None
            else result_json(observed) | {"parameters": dict(observed.parameters)},
            "recommended": self.recommended.to_json() if self.recommended else None,
            "networks": [
                {
                    "title": n.title,
                    "parameters": dict(n.kernel),
                    "architecture": n.architecture.to_json(),
                    "fingerprint": n.architecture.fingerprint,
                    **asdict(n.complexity),
                }
                for n in self.networks
            ],
            "clusters": self.clustering.to_json() if self.clustering else None,
            "linkage": self.clustering.linkage.tolist() if self.clustering else None,
            "importance": {method: dict(own) for method, own in self.importance.items()},
            "partial_dependence": [
                {
                    "parameter": d.name,
                    "grid": d.values,
                    "mean": d.mean.tolist(),
                    "std": d.std.tolist(),
                }
                for d in self.dependence
            ],
            "model_quality": None
            if quality is None
            else {key: getattr(quality, key) for key in QUALITY_FIGURES},
            "replicates": {
                "noise_std": self.replicates.noise_std,
                "degrees_of_freedom": self.replicates.degrees,
                "groups": {key: list(own) for key, own in self.replicates.groups.items()},
            },
            "outcomes": {phase: dict(counts) for phase, counts in self.outcomes.items()},
            "pareto": {
                cost: [r.number for r in pareto_front(self.records, cost)]
                for cost in known_costs(self.records)
            },
            "scaling": [row.to_json() for row in self.scaling],
            "trials": [r.to_json() for r in self.records],
            "range_advice": [a.to_json() for a in self.range_advice],
            "confirmed": self.confirmed.to_json() if self.confirmed else None,
            **({"front": self.front.to_json()} if self.front else {}),
            **({"finals": self.finals.to_json()} if self.finals else {}),
            "notes": list(self.notes),
        }


QUALITY_FIGURES = ("r2", "rmse", "spearman", "coverage", "noise_std", "widening")
