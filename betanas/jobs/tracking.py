"""Trials told to TensorBoard and MLflow as well: on demand, and never at a trial's expense.

A trial is told in whole once it is recorded. What a tracker has missed, since its worker was killed
or its server was away, it is told when the next worker begins.
"""

import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from betanas.analysis.evidence import history_of
from betanas.database.stored import StoredStudy
from betanas.jobs.trials import Reporter
from betanas.study.definition import StudyDefinition
from betanas.study.sections import ACCURACY
from betanas.trial import Phase, TrialRecord

_CURVES = ("accuracy", "train_loss")
_COSTS = ("num_params", "macs", "activation_bytes", "train_seconds", "epochs")
_BATCH = 900  # metrics that MLflow takes at once


class Tracker(Protocol):
    """Somebody who is told of trials."""

    def known(self) -> set[int]:
        """Numbers of the trials that it was told of."""

    def tell(self, record: TrialRecord) -> None:
        """Tells it of one trial that has ended."""


class Tracked:
    """A reporter that passes everything on and tells trackers of every recorded trial.

    Args:
        reporter: Who is told first.
        makers: ``name -> tracker``; called when the search begins.
        warn: Is told, once, why a tracker is left out from then on.
    """

    def __init__(
        self,
        reporter: Reporter,
        makers: Mapping[str, Callable[[], Tracker]],
        warn: Callable[[str], None],
    ) -> None:
        self._reporter, self._makers, self._warn = reporter, makers, warn
        self._trackers: dict[str, Tracker] = {}

    def begins(self, definition: StudyDefinition, stored: StoredStudy, sobol: int) -> None:
        """Opens the trackers and tells them what they have missed."""
        self._reporter.begins(definition, stored, sobol)
        if not self._makers:
            return
        records = stored.records()
        for name, make in self._makers.items():
            try:
                tracker = make()
                known = tracker.known()
                for record in records:
                    if _is_worth_telling(record) and record.number not in known:
                        tracker.tell(record)
                self._trackers[name] = tracker
            except Exception as error:
                self._leave_out(name, error)

    def proposed(self, record: TrialRecord) -> None:
        """Passes it on."""
        self._reporter.proposed(record)

    def progress(self, news: dict[str, Any]) -> None:
        """Passes it on."""
        self._reporter.progress(news)

    def recorded(self, record: TrialRecord) -> None:
        """Passes it on, and tells the trackers."""
        self._reporter.recorded(record)
        if not _is_worth_telling(record):
            return
        for name, tracker in list(self._trackers.items()):
            try:
                tracker.tell(record)
            except Exception as error:
                del self._trackers[name]
                self._leave_out(name, error)

    def _leave_out(self, name: str, error: Exception) -> None:
        if isinstance(error, ImportError):
            cause = f"it is not installed: pip install 'betanas[{name}]'"
        else:
            told = re.sub(r"//[^/@\s]*@", "//***@", str(error).strip() or type(error).__name__)
            cause = told.splitlines()[0]
        self._warn(f"{name} is told of no more trials, the search goes on: {cause}")


def trackers(definition: StudyDefinition, folder: Path) -> dict[str, Callable[[], Tracker]]:
    """The trackers that a study file asks for.

    Args:
        definition: The study file.
        folder: Where the study's trials leave their files.
    """
    track = definition.track
    makers: dict[str, Callable[[], Tracker]] = {}
    if track.tensorboard:
        makers["tensorboard"] = lambda: TensorBoard(folder / "tensorboard")
    if track.mlflow is not None:
        uri = track.mlflow
        makers["mlflow"] = lambda: MLflow(uri, definition.name)
    return makers


class TensorBoard:
    """Event files, a folder a trial, for ``tensorboard --logdir``.

    Args:
        folder: Of all trials.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - optional

        self._writer, self._folder = SummaryWriter, folder

    def known(self) -> set[int]:
        """Numbers of the trials that have a folder."""
        return {int(p.name) for p in self._folder.glob("*") if p.name.isdecimal()}

    def tell(self, record: TrialRecord) -> None:
        """Writes curves, costs and hyperparameters; the folder appears whole."""
        number = f"{record.number:05d}"
        temporary = self._folder / f".{number}.{os.getpid()}.tmp"
        writer = self._writer(str(temporary))
        for step, name, value in _curves(record):
            writer.add_scalar(name, value, step)
        reached = {f"hparam/{name}": value for name, value in _reached(record).items()}
        hyperparameters = {**record.parameters, "phase": record.phase or "", "state": record.state}
        costs = {f"hparam/{name}": value for name, value in _costs(record)}
        writer.add_hparams(hyperparameters, reached | costs, run_name=".")
        writer.close()
        target = self._folder / number
        shutil.rmtree(target, ignore_errors=True)  # a trial's of a study that was deleted
        temporary.rename(target)


class MLflow:
    """Runs of one MLflow experiment, a run a trial.

    Args:
        uri: The tracking server or database.
        study: Name of the experiment.
    """

    def __init__(self, uri: str, study: str) -> None:
        # A server that is away must not hold up the search; a user's own settings go before these.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient  # noqa: PLC0415 - optional

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._client = MlflowClient(tracking_uri=uri)
        found = self._client.get_experiment_by_name(study)
        self._experiment = (
            self._client.create_experiment(study) if found is None else found.experiment_id
        )

    def known(self) -> set[int]:
        """Numbers of the trials that have a finished run."""
        numbers: set[int] = set()
        token = None
        while True:
            page = self._client.search_runs([self._experiment], max_results=1000, page_token=token)
            runs = [r for r in page if r.info.status != "RUNNING"]
            numbers |= {int(r.data.tags.get("betanas.trial", -1)) for r in runs}
            token = page.token
            if not token:
                return numbers

    def tell(self, record: TrialRecord) -> None:
        """Makes one run: parameters, curves, costs, and how it ended."""
        from mlflow.entities import Metric, Param  # noqa: PLC0415 - optional

        tags = {"betanas.trial": str(record.number), "phase": str(record.phase)}
        tags |= {key: str(v) for key in ("reason", "fingerprint") if (v := getattr(record, key))}
        run = self._client.create_run(
            self._experiment, run_name=f"trial {record.number}", tags=tags
        ).info.run_id
        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for step, name, value in _curves(record)]
        metrics += [Metric(name, value, now, 0) for name, value in _costs(record)]
        for name, value in _reached(record).items():
            metrics.append(Metric(f"best_{name}" if name == ACCURACY else name, value, now, 0))
        params = [Param(name, repr(value)) for name, value in record.parameters.items()]
        self._client.log_batch(run, params=params)
        for part in _parts(metrics):
            self._client.log_batch(run, metrics=part)
        self._client.set_terminated(run, "FAILED" if record.state == "fail" else "FINISHED")


def _is_worth_telling(record: TrialRecord) -> bool:
    """Whether it was trained to an end, good or bad; finals have numbers of their own."""
    if record.phase == Phase.FINAL:
        return False
    return record.state in ("complete", "pruned", "fail") and not record.rejected


def _curves(record: TrialRecord) -> Iterator[tuple[int, str, float]]:
    """Step, name and value of every evaluation."""
    for evaluation in history_of(record):
        for name in _CURVES:
            yield int(evaluation["steps"]), name, float(evaluation[name])


def _reached(record: TrialRecord) -> dict[str, float]:
    """The accuracy, and the value where that weighs more than the accuracy."""
    found = {ACCURACY: record.accuracy, **({"value": record.value} if record.is_weighed else {})}
    return {name: float(value) for name, value in found.items() if value is not None}


def _costs(record: TrialRecord) -> Iterator[tuple[str, float]]:
    for name in _COSTS:
        value = getattr(record, name)
        if value is not None:
            yield name, float(value)
    latency = record.audit.get("latency")
    if latency:
        yield "latency_ms", float(latency["p50_ms"])


def _parts(metrics: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(metrics), _BATCH):
        yield metrics[first : first + _BATCH]
