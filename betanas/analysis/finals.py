"""What the finals have found: the best trained again for longer, by successive halving.

The best of a short trial are small networks; with more time larger ones overtake them. A third of
a round's networks are trained again, three times as long, up to the time that the winner is wanted
for (Jamieson and Talwalkar, 2016, "Non-stochastic Best Arm Identification and
Hyperparameter Optimization", algorithm 1).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from betanas.analysis.cells import per_cent
from betanas.analysis.correlation import RankCorrelation, rank_correlation
from betanas.analysis.status import told_result
from betanas.database.finals import BUDGET, Entrant, FinalsPlan, StoredFinals
from betanas.database.stored import StoredStudy
from betanas.study.amounts import amount_text
from betanas.trial import TrialRecord

LARGER = 1.3  # times the multiply-adds of another one
MIN_NETWORKS = 5  # with two values, from which on their rank correlation is told


@dataclass(frozen=True, slots=True)
class BudgetCorrelation:
    """How well a shorter training ranks networks by what a longer one reaches.

    Attributes:
        short: Budget of the shorter one.
        long: Budget of the longer one.
        networks: That have both.
        ranks: Their rank correlation.
    """

    short: float
    long: float
    networks: int
    ranks: RankCorrelation

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "short": self.short,
            "long": self.long,
            "networks": self.networks,
            "spearman": self.ranks.spearman,
            "low": self.ranks.low,
            "high": self.ranks.high,
        }


@dataclass(frozen=True, slots=True)
class Finals:
    """A plan, and what has ended of it.

    Attributes:
        plan: What is to be trained.
        trained: What has ended, by the name of the training.
    """

    plan: FinalsPlan
    trained: Mapping[str, TrialRecord]

    def result(self, which: int, entrant: Entrant) -> TrialRecord | None:
        """An entrant's training in a round, if it has ended."""
        return self.trained.get(self.plan.training(which, entrant))

    def value(self, which: int, entrant: Entrant) -> float | None:
        """What it reached there, if it has."""
        record = self.result(which, entrant)
        return None if record is None else record.value

    def field(self, which: int) -> tuple[Entrant, ...]:
        """Who is trained in a round; nobody before all of the round before have ended."""
        if which == 0:
            return self.plan.entrants
        before = self.field(which - 1)
        if not before or any(self.result(which - 1, e) is None for e in before):
            return ()
        return self._advancing(which - 1)[: self.plan.rounds[which].networks]

    def _advancing(self, which: int) -> tuple[Entrant, ...]:
        """Those of a round that have a value, in the order in which they may go on.

        In turn the best, and the best of those larger than the leader: what is larger gains more
        by more time, and would never get it by its value alone.
        """
        left = list(self.ranked(which))
        order = left[:1]
        larger = [e for e in left if e.macs >= LARGER * left[0].macs]
        while left := [e for e in left if e not in order]:
            behind = [e for e in larger if e in left]
            order.append(behind[0] if behind and len(order) % 2 else left[0])
        return tuple(order)

    def ranked(self, which: int) -> tuple[Entrant, ...]:
        """Those of a round that have a value, best first."""
        values = [(self.value(which, e), e) for e in self.field(which)]
        known = [(value, e) for value, e in values if value is not None]
        return tuple(e for _, e in sorted(known, key=lambda pair: -pair[0]))

    @property
    def is_done(self) -> bool:
        """Whether the last round has ended; one without anybody left has."""
        for which in range(len(self.plan.rounds)):
            entrants = self.field(which)
            if any(self.result(which, e) is None for e in entrants):
                return False
        return True

    @property
    def last(self) -> int | None:
        """The last round in which somebody has a value."""
        rounds = range(len(self.plan.rounds))
        return max((which for which in rounds if self.ranked(which)), default=None)

    @property
    def winner(self) -> Entrant | None:
        """The best of the last round in which somebody has a value."""
        return None if self.last is None else self.ranked(self.last)[0]

    @property
    def won(self) -> tuple[Entrant, TrialRecord] | None:
        """The winner, and its longest training."""
        if self.last is None or self.winner is None:
            return None
        record = self.result(self.last, self.winner)
        return None if record is None else (self.winner, record)

    @property
    def correlations(self) -> list[BudgetCorrelation]:
        """Of every two budgets, the trials' own among them, that enough networks have both of."""
        amounts = [self.plan.trial_amount, *(r.amount for r in self.plan.rounds)]
        values = [{e.title: e.value for e in self.plan.entrants}]
        values += [
            {e.title: self.value(which, e) for e in self.field(which)}
            for which in range(len(self.plan.rounds))
        ]
        found = []
        for j, long in enumerate(values):
            for i, short in enumerate(values[:j]):
                both = [
                    (short[title], value)
                    for title, value in long.items()
                    if value is not None and short.get(title) is not None
                ]
                if len(both) < MIN_NETWORKS:
                    continue
                ranks = rank_correlation([s or 0.0 for s, _ in both], [v for _, v in both])
                if ranks is not None:
                    found.append(BudgetCorrelation(amounts[i], amounts[j], len(both), ranks))
        return found

    def to_json(self) -> dict[str, Any]:
        """The ``finals`` of every command that tells them."""
        told = None
        if (won := self.won) is not None:
            winner, record = won
            told = {
                "trial": winner.trial,
                "widths": winner.widths,
                "title": winner.title,
                "amount": record.audit[BUDGET][self.plan.unit],
                "value": record.value,
                "search_value": winner.value,
                "num_params": record.num_params,
                "macs": record.macs,
                "parameters": dict(winner.parameters),
            }
        return {
            "unit": self.plan.unit,
            "amount": self.plan.amount,
            "trial_amount": self.plan.trial_amount,
            "cost": self.plan.cost,
            "done": self.is_done,
            "winner": told,
            "rounds": [
                {
                    "amount": r.amount,
                    "networks": r.networks,
                    "trainings": [
                        {
                            "trial": e.trial,
                            "widths": e.widths,
                            "why": e.why,
                            "value": self.value(which, e),
                            "state": found.state if (found := self.result(which, e)) else None,
                        }
                        for e in self.field(which)
                    ],
                }
                for which, r in enumerate(self.plan.rounds)
            ],
            "correlations": [c.to_json() for c in self.correlations],
        }

    def lines(self) -> list[str]:
        """What they say, for people."""
        plan = self.plan

        def said(amount: float) -> str:
            return amount_text(plan.unit, amount)

        found: list[str] = []
        if (won := self.won) is None:
            found.append(f"for {said(plan.amount)} of training: no training has a value yet")
        else:
            winner, record = won
            line = (
                f"for {said(plan.amount)} of training: {winner.title}, "
                f"{told_result(record)} validation after "
                f"{said(record.audit[BUDGET][plan.unit])}"
            )
            if winner.value is not None:
                known = winner.value
                short = f"{known:.4f}" if record.is_weighed else per_cent(known)
                line += f" ({short} after {said(plan.trial_amount)})"
            found.append(line if self.is_done else f"{line}; the finals are not over")
        found += [
            f"rank correlation of {said(c.short)} with {said(c.long)}: {c.ranks.spearman:.2f} "
            f"(95 % interval {c.ranks.low:.2f} to {c.ranks.high:.2f}, {c.networks} networks)"
            for c in self.correlations
        ]
        return found


def finals_of(search: StoredStudy) -> Finals | None:
    """A study's latest finals; None if it has none."""
    stored = StoredFinals.load(search)
    plans = stored.plans() if stored else []
    return Finals(plans[-1], stored.trained()) if stored and plans else None
