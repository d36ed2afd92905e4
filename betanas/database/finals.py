"""A study's finals in its database: what was planned, and the trainings that have ended.

They are an Optuna study of their own, ``STUDY:finals``, beside the study's: its values belong to
other budgets, and no model of the search may take them for those of its trials. A training is known
by what is trained and for how long, so that plans share it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Self

import optuna
from optuna.distributions import BaseDistribution

from betanas.database.patience import patient
from betanas.database.reading import SETTINGS_KEY
from betanas.database.replicates import VOID, claim_known
from betanas.database.stored import ClaimedTrial, StoredStudy
from betanas.study.recipe import Budget, BudgetUnit
from betanas.trial import REPEATS, Phase, TrialRecord

TRAINING, BUDGET = "training", "budget"  # user attributes of a final: its name, its budget
_PLAN = "betanas:plan:"  # and a number: the user attributes of the study that hold the plans


@dataclass(frozen=True, slots=True)
class Entrant:
    """A network that the finals train.

    Attributes:
        trial: The search's trial whose kernel it has, but for its widths; None for the kernel that
            the search's model recommends.
        widths: Times that trial's widths.
        why: What it was chosen by: ``value``, ``size`` (the best of the larger ones) or ``wider``.
        value: What the search measured; None if it has not trained this very network.
        parameters: Its kernel, and the recipe's values that were searched beside it.
        macs: Multiply-adds of one image.
    """

    trial: int | None
    widths: float
    why: str
    value: float | None
    parameters: Mapping[str, Any]
    macs: int

    @property
    def title(self) -> str:
        """As people read it."""
        name = "the recommended kernel" if self.trial is None else f"trial {self.trial}"
        return name if self.widths == 1 else f"{name}, {self.widths:.3g} times as wide"


@dataclass(frozen=True, slots=True)
class Round:
    """One round of successive halving.

    Attributes:
        amount: Budget of each training.
        networks: How many are trained.
    """

    amount: float
    networks: int


@dataclass(frozen=True, slots=True)
class FinalsPlan:
    """What the finals do; fixed when they begin.

    Attributes:
        unit: Of all amounts.
        trial_amount: Budget of the search's trials.
        share: What they may cost, of the search.
        begun: How many trials the search had begun by then.
        trained: How many of them counted.
        entrants: Who is trained in the first round.
        rounds: Of growing budgets; the last one's is what the winner is wanted for.
    """

    unit: BudgetUnit
    trial_amount: float
    share: float
    begun: int
    trained: int
    entrants: tuple[Entrant, ...]
    rounds: tuple[Round, ...]

    @property
    def amount(self) -> float:
        """The budget that the winner is wanted for."""
        return self.rounds[-1].amount

    @property
    def cost(self) -> float:
        """What all trainings take together."""
        return sum(r.amount * r.networks for r in self.rounds)

    @property
    def override(self) -> str:
        """The last round's budget as ``key=value``."""
        return f"budget.{self.unit}={self.amount:.17g}"

    def budget(self, which: int) -> Budget:
        """A round's budget."""
        amount = self.rounds[which].amount
        return Budget.model_validate(
            {self.unit: amount if self.unit == "seconds" else round(amount)}
        )

    def training(self, which: int, entrant: Entrant) -> str:
        """The name of an entrant's training in a round: 16 hexadecimal digits."""
        what = [self.unit, self.rounds[which].amount, dict(entrant.parameters)]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``from_json`` gives back an equal plan."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuilds what ``to_json`` wrote."""
        entrants = tuple(Entrant(**e) for e in data["entrants"])
        rounds = tuple(Round(**r) for r in data["rounds"])
        return cls(**{**data, "entrants": entrants, "rounds": rounds})


def finals_name(study: str) -> str:
    """The name of the Optuna study, and of the folder, that a study's finals have."""
    return f"{study}:finals"  # no study file's: --model splits names there


class StoredFinals:
    """The finals of one study in its database.

    Args:
        stored: The trainings, as a study.
    """

    def __init__(self, stored: StoredStudy) -> None:
        self.stored = stored

    @classmethod
    @patient
    def load(cls, search: StoredStudy) -> Self | None:
        """Opens the finals of a study; None if it has none."""
        with suppress(KeyError):
            name = finals_name(search.study.study_name)
            study = optuna.load_study(study_name=name, storage=search.database)
            return cls(StoredStudy(search.database, study, search.settings))
        return None

    @classmethod
    @patient
    def begin(cls, search: StoredStudy) -> Self:
        """Opens the finals of a study, or begins them."""
        study = optuna.create_study(
            study_name=finals_name(search.study.study_name),
            storage=search.database,
            direction="maximize",
            load_if_exists=True,
        )
        if SETTINGS_KEY not in study.user_attrs:
            study.set_user_attr(SETTINGS_KEY, search.settings.to_json())
        return cls(StoredStudy(search.database, study, search.settings))

    @patient
    def plans(self) -> list[FinalsPlan]:
        """All that were begun, in this order."""
        known = self.stored.study.user_attrs
        numbers = sorted(int(k.removeprefix(_PLAN)) for k in known if k.startswith(_PLAN))
        return [FinalsPlan.from_json(known[f"{_PLAN}{n}"]) for n in numbers]

    def agree(
        self, goes_on: Callable[[FinalsPlan], bool], make: Callable[[], FinalsPlan]
    ) -> FinalsPlan:
        """The plan that all workers follow: the last one, or another one that one of them makes.

        Args:
            goes_on: Whether a plan that was the last one still holds.
            make: Makes another one.
        """
        with self.stored.alone("finals"):
            plans = self.plans()
            if plans and goes_on(plans[-1]):
                return plans[-1]
            plan = make()
            self._put(len(plans), plan)
            return plan

    @patient
    def _put(self, number: int, plan: FinalsPlan) -> None:
        self.stored.study.set_user_attr(f"{_PLAN}{number}", plan.to_json())

    @patient
    def claim(
        self,
        plan: FinalsPlan,
        which: int,
        entrant: Entrant,
        space: Mapping[str, BaseDistribution],
    ) -> ClaimedTrial | None:
        """Begins an entrant's training in a round, or takes it over from a worker that is gone.

        Returns:
            None if it has ended, or another worker is at it.
        """
        training = plan.training(which, entrant)
        return claim_known(
            self.stored,
            f"final/{self.stored.study._study_id}/{training}",
            {TRAINING: training},
            {
                "phase": str(Phase.FINAL),
                REPEATS: entrant.title,
                BUDGET: {plan.unit: plan.rounds[which].amount},
            },
            {name: entrant.parameters[name] for name in space},
            space,
        )

    def trained(self) -> dict[str, TrialRecord]:
        """The trainings that have ended, by name; what answers too slowly by now has, too."""
        return {
            r.audit[TRAINING]: r
            for r in self.stored.records()
            if r.state in ("complete", "fail", "pruned")
            and r.reason not in VOID
            and TRAINING in r.audit
        }
