"""What a study's values are, and how they read."""

from collections.abc import Sequence
from dataclasses import dataclass

from betanas.study.sections import ACCURACY, ObjectiveConfig
from betanas.trial import TrialRecord


@dataclass(frozen=True, slots=True)
class Measure:
    """The scale of a study's values.

    Attributes:
        name: One word, for columns: ``accuracy``, ``weighed``, or ``value`` of another objective.
        title: In full: ``validation accuracy``, ``weighed value``, or the objective's name.
        in_per_cent: Whether the values, shares in [0, 1], are told in per cent.
        digits: Behind the point.
        weighs: The scale of what the value weighs against the latency; None if it weighs nothing.
    """

    name: str
    title: str
    in_per_cent: bool
    digits: int = 2
    weighs: "Measure | None" = None

    @staticmethod
    def of(objective: ObjectiveConfig, records: Sequence[TrialRecord]) -> "Measure":
        """Finds the scale of a study's values.

        Training gives shares, whatever others have written beside them; of other objectives
        what is not in [0, 1] is none.

        Args:
            objective: Of the study file.
            records: Its trials.
        """
        values = [r.accuracy for r in records if r.accuracy is not None]
        shares = all(0 <= v <= 1 for v in values)
        digits = 2 if shares or any(abs(v) >= 10 for v in values) else 4
        if objective.name == "train" or (shares and objective.name == "table"):
            found = ACCURACIES
        else:
            found = Measure("value", objective.name, shares, digits)
        if not objective.latency_weight:
            return found
        return Measure("weighed", "weighed value", in_per_cent=False, digits=4, weighs=found)

    @property
    def plain(self) -> "Measure":
        """The scale of what is measured beside the latency: its own if that is not weighed."""
        return self.weighs or self

    @property
    def scale(self) -> int:
        """What a value is multiplied with on screen."""
        return 100 if self.in_per_cent else 1

    def axis(self, what: str | None = None) -> str:
        """The label of an axis, with the unit; of ``what`` in place of the title."""
        return f"{what or self.title} (%)" if self.in_per_cent else what or self.title

    def told(self, value: float | None) -> str:
        """A value, or the deviation of one, for people."""
        if value is None:
            return "–"
        return f"{self.scale * value:.{self.digits}f}" + (" %" if self.in_per_cent else "")

    def told_difference(self, mean: float, low: float, high: float) -> str:
        """A difference of two values with its 95 % interval, for people."""
        mean, low, high = (self.scale * x for x in (mean, low, high))
        unit, form = " points" if self.in_per_cent else "", f"+.{self.digits}f"
        return f"{mean:{form}}{unit}, 95 % interval [{low:{form}}, {high:{form}}]"


ACCURACIES = Measure(ACCURACY, "validation accuracy", in_per_cent=True)
