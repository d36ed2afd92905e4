"""One kernel of a study: what it reached, what it builds, and how it becomes a model."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from betanas.architecture.decoding import decode
from betanas.architecture.layers import Architecture
from betanas.jobs.model import Model, load_model
from betanas.jobs.train import (
    CACHE,
    MODELS,
    EvaluationLines,
    Machine,
    TrainOptions,
    folder_name,
    plan_kernel,
    train,
)
from betanas.search.recommend import Recommendation
from betanas.study.definition import StudyDefinition
from betanas.study.loading import Overrides
from betanas.study.recipe import kernel_of
from betanas.trial import TrialRecord


@dataclass(frozen=True)
class ChosenKernel:
    """A study's trial, or the kernel that its model recommends.

    All that ``origin`` knows is an attribute here, too: ``study.best().macs``,
    ``study.recommended().predicted_std``.

    Attributes:
        definition: The study file of the study whose kernel it is.
        num_classes: Of that study's images.
        number: The trial's number; None for a recommended kernel, which no trial need have had.
        value: The trial's value; of a recommended kernel what the model expects.
        parameters: The kernel, and the recipe's values that were searched beside it.
        origin: The whole record of the trial, or the recommendation.
        which: What ``--model STUDY:...`` calls it where it is neither a trial nor recommended.
        budget: How long it is to train, ``key=value``, where that is known.
    """

    definition: StudyDefinition = field(repr=False)
    num_classes: int = field(repr=False)
    number: int | None
    value: float | None
    parameters: Mapping[str, Any]
    origin: TrialRecord | Recommendation = field(repr=False)
    which: str | None = field(default=None, repr=False)
    budget: str | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls, definition: StudyDefinition, num_classes: int, origin: TrialRecord | Recommendation
    ) -> Self:
        """A trial that has a kernel, or what a study's model recommends."""
        if isinstance(origin, TrialRecord):
            number, value = origin.number, origin.value
        else:
            number, value = None, origin.predicted_value
        return cls(definition, num_classes, number, value, dict(origin.parameters), origin)

    def __getattr__(self, name: str) -> Any:
        if name == "origin" or name.startswith("__"):  # asked for while a copy is being made
            raise AttributeError(name)
        return getattr(self.origin, name)

    @property
    def architecture(self) -> Architecture:
        """The network at the study's resolution; raises TrivialKernelError if there is none."""
        family, kernel = self.definition.search_family, kernel_of(self.parameters)
        return decode(family, kernel, self.definition.resolution, self.num_classes)

    def train(
        self,
        epochs: int | None = None,
        *,
        resolution: int | None = None,
        seed: int = 0,
        overrides: Overrides = (),
        folder: str | Path | None = None,
        device: str = "auto",
        nproc_per_node: int | None = None,
        progress: bool = True,
    ) -> Model:
        """Trains the network to convergence with the study's recipe, as ``betanas train`` does.

        The best epoch is chosen on the validation images; the test images, where there are any, are
        looked at once. What was interrupted goes on; what was trained before is loaded.

        Args:
            epochs: Passes over the training images at most; 100 if nothing says otherwise, and of
                a study's finals the time that they were held for.
            resolution: Input side in pixels; the study's if left out.
            seed: Of weights, order and augmentation.
            overrides: Of the study file's keys, as ``betanas.optimize`` takes them.
            folder: Where ``model.pt`` goes; ``storage/models/NAME`` if left out.
            device: ``auto``, ``cpu`` or ``cuda``.
            nproc_per_node: Ranks on this machine; None lets the device decide.
            progress: Whether to tell of it on stderr, a line now and then.

        Returns:
            The trained model; what it reached is in its ``facts``.

        Raises:
            InputError: For images, a device or a folder that do not work.
            RunError: If the training fails.
        """
        options = TrainOptions(resolution=resolution, epochs=epochs, seed=seed, overrides=overrides)
        if self.budget is not None:
            options = replace(options, budget=self.budget)
        study, number = self.definition.name, self.number
        which, title = ("recommended",) * 2 if number is None else (str(number), f"trial {number}")
        if self.which is not None:
            which = title = self.which
        plan = plan_kernel(
            self.definition, f"{study}:{which}", f"{study} {title}", self.parameters, options
        )
        place = MODELS / folder_name(plan) if folder is None else Path(folder)
        tell: Callable[[dict[str, Any]], None] = (
            EvaluationLines(partial(print, file=sys.stderr)) if progress else lambda _: None
        )
        machine = Machine(device, nproc_per_node, CACHE)
        return load_model(train(plan, place, machine, tell)["checkpoint"])
