"""The objective ``train``: validation accuracy after a training under the study's budget."""

from pathlib import Path
from types import TracebackType
from typing import Self

from betanas.launcher.client import TrainerServer
from betanas.objectives import Objective, Tell
from betanas.study.definition import StudyDefinition
from betanas.trial import TrainingResult, TrialTask


class TrainObjective(Objective):
    """Trains by a trainer server on this machine, or on several.

    Args:
        definition: The study file.
        cache: Where decoded images are kept.
        trainer: Who trains; it gets ready while the caller goes on.
    """

    def __init__(self, definition: StudyDefinition, cache: Path, trainer: TrainerServer) -> None:
        super().__init__(definition, cache)
        self._trainer = trainer

    @classmethod
    def local(cls, definition: StudyDefinition, cache: Path) -> Self:
        """On this machine alone."""
        trainer = TrainerServer(definition.dataset, definition.resolution, cache)
        return cls(definition, cache, trainer)

    def __enter__(self) -> Self:
        self._trainer.__enter__()
        try:
            self._trainer.wait()
        except BaseException as error:
            self._trainer.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the trainer and all that it has started."""
        self._trainer.__exit__(kind, error, trace)

    def run(self, task: TrialTask, tell: Tell) -> TrainingResult:
        """Trains one architecture; returns a result whatever happens to its processes."""
        return self._trainer.run(task, tell)
