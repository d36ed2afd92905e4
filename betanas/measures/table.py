"""The objective ``table``: results that are known already, looked up in place of a training."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from betanas.architecture.cells import CellNetwork
from betanas.architecture.decoding import decode
from betanas.architecture.family import Family, TrivialKernelError
from betanas.architecture.reference import ReferenceModel
from betanas.errors import InputError, RunError
from betanas.measures.nasbench201 import EPOCHS, RecordedTraining, recorded_trainings
from betanas.objectives import Objective, Tell
from betanas.parameters import Choice, Integer, Parameter
from betanas.trial import TrainingResult, TrialTask

VALUE, SECONDS = "value", "train_seconds"  # columns of a CSV file beside the parameters
Row = tuple[dict[str, Any], RecordedTraining]


class TableObjective(Objective):
    """Looks a network up: in NAS-Bench-201's results, or in the file ``objective.table``.

    Where a network was trained several times, the trial's seed decides which of the trainings the
    trial is. Its time counts as the trial's training time, though none passes.
    """

    def __enter__(self) -> Self:
        table, family = self.definition.objective.table, self.definition.search_family
        self._rows: list[Row] | None = None
        self._epochs = 0.0
        if table is not None:
            self._rows = read_table(Path(table).expanduser(), family)
        elif family.name == "nasbench201":
            self._epochs = float(EPOCHS)
            self._trainings: Mapping[str, Sequence[RecordedTraining]] = recorded_trainings(
                self.definition.dataset.name
            )
        else:
            raise InputError(
                "objective.name = table has results of the family nasbench201, but got "
                f"{family.name}; give your own as objective.table, a CSV file"
            )
        return self

    def run(self, task: TrialTask, tell: Tell) -> TrainingResult:
        """One of the network's trainings."""
        found = self._find(task)
        if not found:
            raise RunError(
                f"trial {task.number}: objective.table = {self.definition.objective.table} has no "
                "row for this network; add one, or restrict [parameters] to what the file has"
            )
        training = found[task.seed % len(found)]
        return TrainingResult(
            training.value,
            epochs=self._epochs,
            train_seconds=training.train_seconds,
            device="recorded",
            ranks=1,
        )

    def _find(self, task: TrialTask) -> Sequence[RecordedTraining]:
        network = task.architecture
        assert not isinstance(network, ReferenceModel)  # noqa: S101 - families decode none
        if self._rows is None:
            assert isinstance(network, CellNetwork)  # noqa: S101 - as it was opened
            return self._trainings[str(network.cell)]
        if not hasattr(self, "_trainings"):
            family, sides = self.definition.search_family, (network.resolution, network.num_classes)
            self._trainings = by_fingerprint(self._rows, family, *sides)
        return self._trainings.get(network.fingerprint, ())


def read_table(path: Path, family: Family) -> list[Row]:
    """Reads kernels and their results from a CSV file with a header, or from a Parquet file.

    Args:
        path: Columns are the family's parameters, ``value``, and ``train_seconds`` if it is known;
            Parquet by its ending, ``.parquet``.
        family: Whose kernels they are.

    Raises:
        InputError: If it cannot be read, lacks a column, or has a row that breaks a rule.
    """
    try:
        rows = _parquet_rows(path) if path.suffix == ".parquet" else _csv_rows(path)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"objective.table: {path} cannot be read ({error})") from None
    columns = rows[0].keys() if rows else ()
    missing = [name for name in (*family.names, VALUE) if name not in columns]
    if missing or not rows:
        lacks = f"lacks {', '.join(missing)}" if missing else "has none"
        raise InputError(
            f"objective.table: {path} must have rows with the columns "
            f"{', '.join((*family.names, VALUE))}, but {lacks}"
        )
    read = []
    for line, row in enumerate(rows, start=2):
        try:
            kernel = {p.name: _parsed(p, row[p.name]) for p in family.parameters}
            family.vector(kernel)
            training = RecordedTraining(float(row[VALUE]), float(row.get(SECONDS) or 0.0))
        except (InputError, TypeError, ValueError) as error:
            raise InputError(f"objective.table: {path}, line {line}: {error}") from None
        read.append((kernel, training))
    return read


def _csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:  # Excel marks its own
        return list(csv.DictReader(file))


def _parquet_rows(path: Path) -> list[dict[str, str]]:
    """The same texts as in a CSV file; what is missing is empty."""
    try:
        import pandas as pd  # noqa: PLC0415 - optional

        frame = pd.read_parquet(path)
    except ImportError:
        raise InputError(
            f"objective.table: {path} is a Parquet file, which needs pandas and pyarrow: "
            "pip install 'betanas[parquet]'; or give a CSV file"
        ) from None
    known = frame.astype(object).where(frame.notna(), "")
    return [{str(k): str(v) for k, v in row.items()} for row in known.to_dict("records")]


def _parsed(parameter: Parameter, text: str) -> float | int | str:
    if isinstance(parameter, Choice):
        return text
    return int(text) if isinstance(parameter, Integer) else float(text)


def by_fingerprint(
    rows: Sequence[Row], family: Family, resolution: int, num_classes: int
) -> dict[str, list[RecordedTraining]]:
    """Gathers the trainings of equal networks; kernels that are trivial are left out."""
    found: dict[str, list[RecordedTraining]] = {}
    for kernel, training in rows:
        try:
            network = decode(family, kernel, resolution, num_classes)
        except TrivialKernelError:
            continue
        found.setdefault(network.fingerprint, []).append(training)
    return found
