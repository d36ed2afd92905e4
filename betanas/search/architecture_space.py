"""The search in somebody's own Optuna study: a space that suggests architectures, and its sampler.

space = betanas.space("betanet2", resolution=64, num_classes=10)
study = optuna.create_study(direction="maximize", sampler=betanas.Sampler(space))
study.optimize(lambda trial: train(betanas.build_model(space.suggest(trial))), n_trials=100)
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna import Study, Trial, TrialPruned
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from betanas.architecture.layers import Architecture
from betanas.architecture.limits import Rejection
from betanas.errors import InputError
from betanas.parameters import Choice, Integer, Parameter, Real, Value
from betanas.search.acquisitions import Acquisition
from betanas.search.candidates import CandidatesFunction, FeasibleCandidates
from betanas.search.plan import planned_problem
from betanas.search.problem import Problem
from betanas.search.rules import ArchitectureRules
from betanas.search.sampler import KernelSampler
from betanas.search.situation import PROPOSED
from betanas.search.strategies import STRATEGIES
from betanas.study.feasibility import memory_bytes
from betanas.study.loading import check_study
from betanas.study.sections import LimitsConfig

OUTSIDE = "outside_space"  # the reason of a kernel that breaks the ranges

# One proposal at a time in a process: the next one must see it, and both would limit the threads
# of the same linear algebra. Of the module, so that samplers can be copied and pickled.
_TURN = threading.Lock()


@dataclass(frozen=True)
class ArchitectureSpace:
    """What is searched, and the exact rules of what may be trained; made by ``betanas.space``.

    Attributes:
        rules: The parameters, the family and the limits.
    """

    rules: ArchitectureRules

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What is searched, with its ranges."""
        return self.rules.space.parameters

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's view of ``parameters``."""
        return dict(self.rules.space.distributions)

    def suggest(self, trial: Trial) -> Architecture:
        """Asks a trial for all parameters, and decodes them.

        The trial is given the user attributes ``num_params``, ``macs`` and ``fingerprint``, or
        ``reason``, why it must not be trained.

        Args:
            trial: Optuna's, of a study with any sampler; a ``FixedTrial`` will do.

        Raises:
            optuna.TrialPruned: For a kernel that is trivial, breaks a limit, or was enqueued with
                values outside the ranges.
        """
        kernel = {p.name: _suggested(trial, p) for p in self.parameters}
        if not self.rules.space.holds(kernel):  # somebody has enqueued it
            trial.set_user_attr("reason", OUTSIDE)
            raise TrialPruned(f"infeasible: {OUTSIDE}")
        verdicts = self.rules.check(self.rules.space.vector(kernel)[None, :])
        reason = verdicts.reason(0)
        if reason is not Rejection.NO_CONTRACTION:
            costs = verdicts.complexities.row(0)
            architecture = self.rules.architecture(kernel)
            trial.set_user_attr("num_params", costs.num_params)
            trial.set_user_attr("macs", costs.macs)
            trial.set_user_attr("fingerprint", architecture.fingerprint)
        if reason is not None:
            trial.set_user_attr("reason", str(reason))
            raise TrialPruned(f"infeasible: {reason}")
        return architecture

    def architecture(self, parameters: Mapping[str, Any]) -> Architecture:
        """Decodes the parameters of a trial, whatever it costs: ``study.best_params``.

        Raises:
            KernelError: For parameters that are not the family's, or that are trivial.
        """
        own = {name: value for name, value in parameters.items() if name in self.distributions}
        missing = [name for name in self.distributions if name not in own]
        if missing:
            raise InputError(f"parameters must have all of the space's, but lack {missing[0]}")
        return self.rules.architecture(own)

    def is_feasible(self, parameters: Mapping[str, Any]) -> bool:
        """Whether a kernel may be trained."""
        return bool(self.rules.check(self.rules.space.vector(parameters)[None, :]).feasible[0])


def space(
    family: str,
    resolution: int,
    num_classes: int,
    limits: Mapping[str, Any] | None = None,
    batch_size: int = 100,
    parameters: Mapping[str, Any] | None = None,
) -> ArchitectureSpace:
    """The search space of a family at one input resolution.

        >>> space("betanet2", 64, 10, parameters={"k": [2, 4], "G0": 3}).parameters[0].range
        (2.0, 4.0)

    Args:
        family: A built-in family's name, or that of one that was registered.
        resolution: Input side of the networks in pixels, from 16 to 4096.
        num_classes: Outputs of the networks.
        limits: ``num_params``, ``memory_gib``, ``scaled`` as in a study file; what is left out
            does not limit. ``memory_gib`` is a number here: GiB of a training step with Adam.
        batch_size: Images of one training step on one device; it decides the memory.
        parameters: ``name -> [low, high]``, options, or one value that is fixed, as in a study
            file; what is left out has the family's range.

    Raises:
        StudyFileError: For a family, a resolution, a limit or a range that breaks a rule.
        InputError: For a number of classes below 1.
    """
    if num_classes < 1:
        raise InputError(f"num_classes must be >= 1, but got {num_classes}")
    definition = check_study(
        {
            "family": family,
            "resolution": resolution,
            "parameters": dict(parameters or {}),
            "limits": {"memory_gib": "none", "num_params": None, **(limits or {})},
            # A study file has these too; nothing of the space depends on them.
            "dataset": {"name": "digits"},
            "budget": {"epochs": 1},
            "recipe": {"batch_size": batch_size},
        },
        name="space",
        overrides=(),
        data=None,
        shown="space",
    )
    memory, scaled = _memory(definition.limits)
    return ArchitectureSpace(planned_problem(definition, num_classes, memory, scaled).rules)


def candidates_func(
    space: ArchitectureSpace, acquisition: Acquisition = "qLogNEI", seed: int = 0
) -> FeasibleCandidates:
    """A ``candidates_func`` for Optuna's ``BoTorchSampler`` that proposes feasible kernels only.

    Args:
        space: What ``betanas.space`` gave; the study's objective asks for its parameters, by
            ``space.suggest(trial)``, and for no others.
        acquisition: As ``betanas.Sampler`` takes it.
        seed: Of the kernels that are compared; ``BoTorchSampler``'s own decides the rest.

    Raises:
        InputError: For an unknown acquisition function.
    """
    return FeasibleCandidates(space.rules.space, space.rules, acquisition, seed)


class Sampler(KernelSampler):
    """BetaNAS's search as a sampler for a plain Optuna study that maximises one value.

    First come points of a Sobol sequence, of which ``space.suggest`` prunes the infeasible ones, so
    that the rules' whole space is covered; then every proposal is feasible. It depends on the
    study's content, the seed and the trial's number alone: after a restart the same study goes on,
    several threads or processes may work on it, and trials of others are lived with. What the
    objective asks of a trial beside the space's parameters comes from another sampler, and is not
    learnt from here.

    Args:
        space: What ``betanas.space`` gave.
        seed: Of all randomness.
        strategy: What proposes after the first phase, as ``search.sampler`` of a study file, or a
            ``candidates_func`` of Optuna's ``BoTorchSampler``, whose draws are moved into the
            feasible set; ``botorch`` if it is left out.
        sobol_trials: Trials of the first phase in any case.
        min_feasible: It goes on until so many of its points are feasible.
        independent_sampler: For parameters that are not the space's; Optuna's TPE if left out.
        start: Kernels to try before all others, such as ``family.members.values()``.
        acquisition: A BoTorch acquisition function by its name, as ``search.acquisition``, or what
            makes one from (model, observed inputs, pending inputs, seed); see ``docs/api.md``.

    Raises:
        InputError: For an unknown strategy or acquisition function, or if so little is feasible
            that the first phase would not end.
    """

    def __init__(
        self,
        space: ArchitectureSpace,
        seed: int = 0,
        strategy: str | CandidatesFunction = "botorch",
        sobol_trials: int = 20,
        min_feasible: int = 10,
        independent_sampler: BaseSampler | None = None,
        start: Sequence[Mapping[str, Value]] = (),
        acquisition: Acquisition | None = None,
    ) -> None:
        if isinstance(strategy, str) and strategy not in STRATEGIES:
            known = ", ".join(STRATEGIES)
            raise InputError(f"strategy must be one of {known}, but got {strategy!r}")
        for name, least, value in (
            ("seed", 0, seed),
            ("sobol_trials", 1, sobol_trials),
            ("min_feasible", 2, min_feasible),
        ):
            if value < least:
                raise InputError(f"{name} must be >= {least}, but got {value}")
        inner = space.rules.space
        for kernel in start:
            if not inner.holds(kernel):
                raise InputError(f"start must have kernels inside the space, but got {kernel!r}")
        named = tuple(tuple(inner.vector(kernel).tolist()) for kernel in start)
        problem = Problem(inner, space.rules, seed, sobol_trials, min_feasible, named)
        problem.check_feasible()
        super().__init__(problem, strategy, acquisition)
        self._independent = independent_sampler or TPESampler(seed=seed)

    def reseed_rng(self) -> None:
        """Called by Optuna for each thread; proposals of the space have no generator of ours."""
        self._independent.reseed_rng()

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Proposes one whole kernel, and notes it for whoever proposes the next one meanwhile."""
        if study.directions != [StudyDirection.MAXIMIZE]:
            raise InputError(
                "betanas.Sampler maximises one value, but the study has "
                f"{', '.join(d.name.lower() for d in study.directions)}; make it with "
                'optuna.create_study(direction="maximize", ...)'
            )
        with _TURN:
            kernel = super().sample_relative(study, trial, search_space)
            # Optuna writes a parameter when the objective asks for it, which may be much later.
            study._storage.set_trial_system_attr(trial._trial_id, PROPOSED, kernel)  # noqa: SLF001
        return kernel

    def sample_independent(
        self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        """A parameter that the objective asks for beside the space's."""
        return self._independent.sample_independent(study, trial, name, distribution)


def _suggested(trial: Trial, parameter: Parameter) -> Any:
    """A trial's value of one parameter."""
    if isinstance(parameter, Choice):
        return trial.suggest_categorical(parameter.name, parameter.options)
    assert isinstance(parameter, Real)  # noqa: S101 - the only other kind
    name, low, high = parameter.name, parameter.low, parameter.high
    if isinstance(parameter, Integer):
        return trial.suggest_int(name, int(low), int(high), log=parameter.log)
    return trial.suggest_float(name, low, high, log=parameter.log)


def _memory(limits: LimitsConfig) -> tuple[int | None, int | None]:
    """Both limits of memory in bytes; a limit that only a study can hold is refused."""
    if limits.latency_ms is not None:
        raise InputError(
            f"space: limits.latency_ms = {limits.latency_ms:g} needs a study, which times "
            "operators and measures trials; leave it out"
        )
    scaled = limits.scaled.memory_gib if limits.scaled else "none"
    for place, limit in (("limits.memory_gib", limits.memory_gib), ("limits.scaled", scaled)):
        if limit == "auto":
            raise InputError(f"space: {place} must be a number of GiB here, but got 'auto'")
    return memory_bytes(limits.memory_gib, 0), memory_bytes(scaled, 0)
