"""What a trial's value is: objectives, ours and others', by name.

``[objective] name`` of a study file chooses one. Search, leases, records, resuming, status and
report are the same for all; an objective measures one architecture at a time.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from betanas.plugins import Registry
from betanas.study.definition import StudyDefinition
from betanas.study.sections import ranked_names
from betanas.trial import TrainingResult, TrialTask

GROUP = "betanas.objectives"
Tell = Callable[[Mapping[str, Any]], None]


class Objective(ABC):
    """Measures architectures for one worker of a study: subclass it, and register the class.

    It is opened once a worker, as a context manager, before the study begins: what it lacks, it
    says then, by an ``InputError``.

    Args:
        definition: The study file.
        cache: A folder that all workers and studies here share.
    """

    def __init__(self, definition: StudyDefinition, cache: Path) -> None:
        self.definition, self.cache = definition, cache

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Gives back what it holds, if anything."""
        return

    @abstractmethod
    def run(self, task: TrialTask, tell: Tell) -> TrainingResult:
        """Measures one architecture.

        All randomness must come from ``task.seed``: a worker that is killed leaves its trial to
        another one, which runs the same task again. ``task.folder`` is the trial's own; what an
        earlier attempt left there may be used.

        Args:
            task: What to measure: ``architecture``, ``seed``, ``number``, and how one would train.
            tell: To be called at least every few seconds, with what there is to say: ``spent``, the
                share of the work that is done; ``accuracy`` and ``best``, a value on the way and
                the best so far, and ``epoch``, passes over the training images so far, by which
                ``search.pruner`` may give the trial up: ``task.is_stopped`` then.

        Returns:
            The value, more is better, with its audit; or why there is none. Where ``task.latency``
            asks for it, with the latency, too. A value that is not finite ends the worker, and
            the trial is given back.
        """


def _train(definition: StudyDefinition, cache: Path) -> Objective:
    """``train``: its torch is far, and only imported when it is wanted."""
    module = import_module("betanas.launcher.objective")
    made: Objective = module.TrainObjective.local(definition, cache)
    return made


def _table(definition: StudyDefinition, cache: Path) -> Objective:
    """``table``: results that are known."""
    made: Objective = import_module("betanas.measures.table").TableObjective(definition, cache)
    return made


def _naswot(definition: StudyDefinition, cache: Path) -> Objective:
    """``naswot``: how an untrained network tells images apart."""
    made: Objective = import_module("betanas.measures.scored").NaswotObjective(definition, cache)
    return made


def _synflow(definition: StudyDefinition, cache: Path) -> Objective:
    """``synflow``: what reaches the logits of an untrained network."""
    made: Objective = import_module("betanas.measures.scored").SynflowObjective(definition, cache)
    return made


def _rank(definition: StudyDefinition, cache: Path) -> Objective:
    """``rank(...)``: several scores as one, by their places among random networks."""
    made: Objective = import_module("betanas.measures.ranked").RankObjective(definition, cache)
    return made


_BUILT_IN = {
    "train": _train,
    "table": _table,
    "naswot": _naswot,
    "synflow": _synflow,
    "rank(...)": _rank,
}
_REGISTRY: Registry[Callable[[StudyDefinition, Path], Objective]] = Registry(
    "objective.name", GROUP, _BUILT_IN, lambda make: make
)


def register_objective(name: str, make: Callable[[StudyDefinition, Path], Objective]) -> None:
    """Makes an objective known, for the rest of this process.

    Args:
        name: What study files call it.
        make: From a study and a cache folder to the objective: its class, mostly.

    Raises:
        InputError: If one of ours has the name.
    """
    _REGISTRY.register(name, make)


def find_objective(name: str) -> Callable[[StudyDefinition, Path], Objective]:
    """What makes the objective of that name; raises InputError naming those that exist."""
    return _rank if ranked_names(name) else _REGISTRY.find(name)
