"""The searches of benchmarks/real.py: a row's sampler with a trainer, or the whole command."""

import json
import math
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna_integration import BoTorchSampler

import betanas
from betanas.cores import available_cores
from betanas.jobs.train import Machine
from betanas.launcher.client import TrainerServer
from betanas.study.definition import StudyDefinition
from betanas.trial import TrialTask, trial_seed

OPENING = 10  # feasible points
ASKED_AGAIN = 2_000  # infeasible proposals in a row, after which a peer's search ends
CLASSES = 10
WARM = ("-warm", "-shuffled")  # how the names of rows end that begin from another search
TOLD_0 = "-0"  # how a row's name ends whose sampler is told 0 for what is infeasible
LIMITS = {"num_params": 2_000_000, "macs": 25_000_000}
START = ("plain", "plain-wide", "resnet20-narrow", "airbench")  # as in study pictures

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Run:
    """One search.

    Attributes:
        row: ``family:sampler``.
        seed: Of sampler and trainings.
        folder: Where its study and trainings are.
        definition: Images, recipe, budget and limits.
        machine: Where it trains.
        study_file: What a study of the row's family says.
        source: Study file and database of another search, which the rows ``optimize-warm`` and
            ``optimize-shuffled`` begin from.
    """

    row: str
    seed: int
    folder: Path
    definition: StudyDefinition
    machine: Machine
    study_file: Path
    source: tuple[Path, str] | None = None

    @property
    def command(self) -> bool:
        """Whether ``betanas optimize`` makes it."""
        return self.row.partition(":")[2].startswith("optimize")

    @property
    def has_begun(self) -> bool:
        """Whether there is something of it on this machine."""
        return (self.began if self.command else self.folder / "searches.db").exists()

    @property
    def began(self) -> Path:
        """Where the command's begin is noted."""
        return self.folder / f"{self.row.partition(':')[2]}-{self.seed}.began"

    @property
    def storage(self) -> str:
        """The command's database, beside the folder with images that all searches share."""
        return f"sqlite:///{self.folder}-{self.row.partition(':')[2]}-{self.seed}.db"

    @property
    def name(self) -> str:
        """Of the run, in files and tables."""
        dataset = self.definition.dataset.name
        of = "" if dataset == "imagefolder" else f"{dataset}/"
        return f"{of}{self.row}@{self.definition.resolution}#{self.seed}"

    def study(self) -> optuna.Study:
        """Its study, with the sampler that the row names."""
        family, _, sampler = self.row.partition(":")
        space = betanas.space(family, self.definition.resolution, CLASSES, LIMITS)
        self.folder.mkdir(parents=True, exist_ok=True)
        return optuna.create_study(
            study_name=self.name,
            storage=f"sqlite:///{self.folder}/searches.db",
            load_if_exists=True,
            direction="maximize",
            sampler=make_sampler(sampler.removesuffix(TOLD_0), space, self.seed),
        )


def make_sampler(name: str, space: Any, seed: int) -> BaseSampler:
    """Ours, one of Optuna's, or Optuna-Integration's; its own first points are none."""
    match name:
        case "betanas":
            return betanas.Sampler(space, seed, sobol_trials=OPENING, min_feasible=OPENING)
        case "gpsampler":
            return GPSampler(seed=seed, n_startup_trials=OPENING)
        case "botorch":
            return BoTorchSampler(seed=seed, n_startup_trials=OPENING)
        case "tpe":
            return TPESampler(seed=seed, multivariate=True, n_startup_trials=OPENING)
        case "cmaes":
            return CmaEsSampler(seed=seed, n_startup_trials=OPENING)
        case "random":
            return RandomSampler(seed=seed)
    raise SystemExit(f"no sampler {name}")


def search(run: Run, minutes: float) -> None:
    """Searches until the time is over; goes on where it was stopped."""
    if run.command:
        search_by_command(run, minutes)
        return
    study, definition = run.study(), run.definition
    family = run.row.partition(":")[0]
    space = betanas.space(family, definition.resolution, CLASSES, LIMITS)
    spent = sum(t.user_attrs.get("cost", 0.0) for t in study.trials)
    opening = opening_kernels(space, run.seed)
    with TrainerServer(definition.dataset, definition.resolution, run.machine.cache) as trainer:
        trainer.wait()
        while spent < 60 * minutes:
            began = time.monotonic()
            done = [t for t in study.trials if t.state.is_finished() and t.values]
            if len(done) < len(opening) and not run.row.endswith(":betanas"):
                study.enqueue_trial(opening[len(done)])
            until = began + 60 * minutes - spent
            found = feasible_trial(study, space, until, tells_0=run.row.endswith(TOLD_0))
            if found is None:
                return
            trial, architecture = found
            task = TrialTask(
                number=trial.number,
                seed=trial_seed(run.seed, trial.number),
                architecture=architecture,
                dataset=definition.dataset,
                recipe=definition.recipe,
                budget=definition.budget,
                nproc_per_node=1,
                device="cpu",
                folder=str(run.folder / f"training-{run.began.stem}"),
                cache=str(run.machine.cache),
            )
            result = trainer.run(task)
            cost = time.monotonic() - began
            spent += cost
            trial.set_user_attr("cost", cost)
            trial.set_user_attr("images_per_second", result.images_per_second)
            study.tell(trial, result.value or 0.0)
            print(f"{run.name}: {spent:6.0f} s, {result.value}", flush=True)


def feasible_trial(
    study: optuna.Study, space: Any, until: float = math.inf, *, tells_0: bool = False
) -> tuple[optuna.Trial, Any] | None:
    """Asks until a proposal may be trained; None if none is found, or not in time.

    Args:
        study: Whose sampler is asked.
        space: What is feasible.
        until: ``time.monotonic()`` seconds, when the search is over.
        tells_0: Whether what may not be trained is told as a value of 0, not as pruned.
    """
    for _ in range(ASKED_AGAIN):
        if time.monotonic() >= until:
            return None
        trial = study.ask()
        try:
            return trial, space.suggest(trial)
        except optuna.TrialPruned:
            told: dict[str, Any] = {"state": optuna.trial.TrialState.PRUNED}
            study.tell(trial, **({"values": 0.0} if tells_0 else told))
    return None


def opening_kernels(space: Any, seed: int) -> list[dict[str, Any]]:
    """The feasible ones of the Sobol points that ours begins with."""
    own = betanas.Sampler(space, seed, sobol_trials=OPENING, min_feasible=OPENING)
    study = optuna.create_study(direction="maximize", sampler=own)
    found: list[dict[str, Any]] = []
    while len(found) < OPENING:
        asked = feasible_trial(study, space)
        assert asked is not None
        study.tell(asked[0], state=optuna.trial.TrialState.FAIL)
        found.append(dict(asked[0].params))
    return found


@dataclass(frozen=True)
class Outcome:
    """A trial that was trained to its end.

    Attributes:
        number: The trial's.
        seconds: Of the search, when it ended.
        value: Validation accuracy.
        kernel: What was trained.
    """

    number: int
    seconds: float
    value: float
    kernel: dict[str, Any]


def outcomes(run: Run) -> list[Outcome]:
    """A search's trainings, in the order in which they ended."""
    if not run.has_begun:
        return []
    if run.command:
        began = datetime.fromisoformat(run.began.read_text())
        stored = optuna.load_study(study_name=run.study_file.stem, storage=run.storage)
        ended = sorted(
            ((t.datetime_complete - began).total_seconds(), t)
            for t in stored.get_trials(states=[optuna.trial.TrialState.COMPLETE])
            if t.datetime_complete is not None
        )
        return [Outcome(t.number, seconds, t.values[0], t.params) for seconds, t in ended]
    trials = run.study().trials
    spent = accumulate(t.user_attrs.get("cost", 0.0) for t in trials)
    return [
        Outcome(t.number, seconds, t.values[0], t.params)
        for t, seconds in zip(trials, spent, strict=True)
        if t.values and "cost" in t.user_attrs
    ]


def best_so_far(found: list[Outcome]) -> Curve:
    """Seconds and values of the trials that were better than all before."""
    curve: Curve = []
    for outcome in found:
        if not curve or outcome.value > curve[-1][1]:
            curve.append((round(outcome.seconds, 1), outcome.value))
    return curve


def recommended(found: list[Outcome], seconds: float) -> Outcome | None:
    """The best of the trials that had ended by then, the first of equals."""
    return max((o for o in found if o.seconds <= seconds), key=lambda o: o.value, default=None)


def search_by_command(run: Run, minutes: float) -> None:
    """``betanas optimize`` until the time is over; one that was stopped begins anew."""
    until = run.began.with_suffix(".done")
    if until.exists():
        return
    for old in run.folder.parent.glob(f"{Path(run.storage).name}*"):
        old.unlink()
    settings = ["search.pruner=model", f"search.seed={run.seed}"]
    settings += [f"search.start={json.dumps(START)}"] if run.row.endswith("-start") else []
    if run.row.endswith(WARM):
        settings.append(f"search.warm_start={source_study(run)}")
    command = [sys.executable, "-m", "betanas", "optimize", "--study", str(run.study_file)]
    command += ["--storage", run.storage, "--device", "cpu"]
    command += ["--workers", str(available_cores()), "--nproc-per-node", "1"]
    if run.definition.dataset.name == "imagefolder":
        command += ["--data", str(run.definition.dataset.root)]
    command += [word for setting in settings for word in ("--set", setting)]
    run.folder.mkdir(parents=True, exist_ok=True)
    began = datetime.now()  # noqa: DTZ005 - as Optuna has it
    run.began.write_text(began.isoformat())
    with subprocess.Popen(command, cwd=run.folder, stdout=subprocess.DEVNULL) as process:
        try:
            code = process.wait(60 * minutes)
            raise SystemExit(f"{run.name}: betanas optimize ended with exit code {code}")
        except subprocess.TimeoutExpired:
            process.terminate()
    until.touch()


def source_study(run: Run) -> Path:
    """The file of a copy of another search; of ``-shuffled``, its values are dealt out anew."""
    if run.source is None:
        raise SystemExit(f"{run.row}: name the searches that it begins from with --sources")
    source, url = run.source
    file = run.began.with_suffix("") / source.name
    file.parent.mkdir(parents=True, exist_ok=True)
    database = file.with_suffix(".db")
    database.unlink(missing_ok=True)
    storage = f"sqlite:///{database}"
    file.write_text(f'{source.read_text()}\n[storage]\nurl = "{storage}"\n')
    old = optuna.load_study(study_name=source.stem, storage=url)
    new = optuna.create_study(study_name=source.stem, storage=storage, direction="maximize")
    for key, value in old.user_attrs.items():
        new.set_user_attr(key, value)
    trials = old.trials
    done = [trial for trial in trials if trial.values]
    values = [trial.values for trial in done]
    if run.row.endswith("-shuffled"):
        dealt = np.random.default_rng(run.seed).permutation(len(values))
        values = [values[i] for i in dealt]
    for trial, told in zip(done, values, strict=True):
        trial.values = told
    new.add_trials(trials)
    return file
