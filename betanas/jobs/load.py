"""A study that has begun, for programs: ``betanas.load_study("digits").dataframe()``."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from betanas.errors import InputError, NoStudyError, StorageError, without_password
from betanas.files import write_new
from betanas.study.begun import as_begun, given_keys
from betanas.study.definition import StudyDefinition
from betanas.study.loading import Overrides, load_definition, override_lines
from betanas.trial import TrialRecord

if TYPE_CHECKING:
    from pandas import DataFrame

    from betanas.database.stored import StoredStudy
    from betanas.jobs.chosen import ChosenKernel
    from betanas.search.recommend import Recommendation


RECORDED = Path(__file__).parents[1] / "recorded"
DEFAULT_FOLDER = Path("storage")  # of databases, below the current one


def storage_url(definition: StudyDefinition, storage: str | None) -> str:
    """The database of a study: the given one, environment, file, default, in this order."""
    return (
        storage
        or os.environ.get("BETANAS_STORAGE")
        or definition.storage.url
        or default_url(definition.name)
    )


def default_url(name: str) -> str:
    """The database of a study whose file and environment name none."""
    file = name.replace("%", "%25").replace("?", "%3F")  # which would end the path, or stand for it
    return f"sqlite:///{DEFAULT_FOLDER}/{file}.db"


def study_options(study: str | Path, storage: str | None) -> str:
    """How a command line names a study, to be pasted into a shell."""
    found = f"--study {shlex.quote(str(study))}"
    return found if storage is None else f"{found} --storage {shlex.quote(storage)}"


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keeps to itself what Optuna tells of the studies that we make, and only of those."""
    import optuna  # noqa: PLC0415 - slow

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(verbosity, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def open_begun(definition: StudyDefinition, url: str) -> StoredStudy:
    """Opens the database of a study that has begun.

    A study that ships with its trials (``recorded/NAME.db`` in the package) is copied to where its
    database belongs when that is not there yet: SQLite writes beside what it reads. Of a folder
    that is not there, only the default one is made.

    Raises:
        StorageError: If there is no such study, or it searches another family than the file says.
    """
    from betanas.database.connect import sqlite_file  # noqa: PLC0415 - optuna is slow
    from betanas.database.stored import StoredStudy  # noqa: PLC0415

    recorded, file = RECORDED / f"{definition.name}.db", sqlite_file(url)
    if recorded.is_file() and file is not None and not file.exists():
        if file.parent == DEFAULT_FOLDER:
            file.parent.mkdir(exist_ok=True)
        if file.parent.is_dir():
            write_new(file, recorded.read_bytes())  # another reader may have been first
    stored = StoredStudy.load(url, definition.name)
    family = stored.settings.meaning["family"]
    if family != definition.family:
        raise StorageError(
            f"study {definition.name} has begun with family {family}, but its file says "
            f"{definition.family}; give the file that it has begun with or --set family={family}, "
            f"or move the database {without_password(url) if file is None else file} away"
        )
    return stored


@dataclass(frozen=True)
class LoadedStudy:
    """A study that has begun, for reading; it may be running all the while.

    Attributes:
        definition: The study as it has begun; where its file says otherwise by now, that does not
            count, but overrides do.
        stored: The study in its database; ``stored.study`` is Optuna's.
        note: What its file says otherwise; "" for nothing.
    """

    definition: StudyDefinition
    stored: StoredStudy
    note: str = ""

    def records(self) -> list[TrialRecord]:
        """All trials as they are now, by number."""
        return self.stored.records()

    def best(self) -> ChosenKernel | None:
        """The complete trial of highest value; None without one."""
        from betanas.analysis.status import observed_best  # noqa: PLC0415 - import stays light

        record = observed_best(self.records())
        return None if record is None else self._chosen(record)

    def front(self) -> list[ChosenKernel]:
        """The trials that no other one beats, by falling accuracy; none with one objective."""
        from betanas.jobs.front import front_of  # noqa: PLC0415 - import stays light

        front = front_of(self.stored)
        return [] if front is None else [self._chosen(r) for r in front.trials]

    def trial(self, number: int) -> ChosenKernel:
        """One trial by its number; raises InputError if there is none, or it has no kernel yet."""
        records = self.records()
        if not 0 <= number < len(records):
            raise InputError(f"number must be in [0, {len(records) - 1}], but got {number}")
        if not records[number].parameters:
            raise InputError(f"trial {number} of study {self.definition.name} has no kernel yet")
        return self._chosen(records[number])

    def recommended(self) -> ChosenKernel | None:
        """The kernel that the search's model holds for the best; None if it knows too little."""
        from betanas.jobs.recommend import recommended  # noqa: PLC0415

        found = recommended(self.definition, self.stored.settings, self.records())
        return None if found is None else self._chosen(found)

    def final(self) -> ChosenKernel | None:
        """The winner of the study's finals, to be trained as long as they were held for.

        Its value is what it reached in the last round that it was in; None without finals.
        """
        from betanas.analysis.finals import finals_of  # noqa: PLC0415 - import stays light
        from betanas.jobs.chosen import ChosenKernel  # noqa: PLC0415

        found = finals_of(self.stored)
        if found is None or (won := found.won) is None:
            return None
        winner, record = won
        return ChosenKernel(
            self.definition,
            len(self.stored.settings.classes),
            winner.trial if winner.widths == 1 else None,
            record.value,
            dict(winner.parameters),
            record,
            "final",
            found.plan.override,
        )

    def dataframe(self) -> DataFrame:
        """All trials as a pandas DataFrame: a row a trial, a column a parameter and a figure.

        Raises:
            InputError: Without pandas.
        """
        try:
            import pandas  # noqa: PLC0415 - optional
        except ImportError:
            raise InputError("dataframe() needs pandas: pip install 'betanas[pandas]'") from None
        from betanas.analysis.tables import trials_table  # noqa: PLC0415

        records = self.records()
        table = trials_table(records, self.definition.ranges)
        frame = pandas.DataFrame(table.rows, columns=list(table.columns))
        audit = sorted({k for r in records for k, v in r.audit.items() if _is_plain(v)})
        for key in audit:
            frame[key] = [r.audit.get(key) for r in records]
        return frame.set_index("number")

    def report(self, folder: str | Path) -> list[Path]:
        """Writes the report of ``betanas report`` into a folder; returns its files."""
        from betanas.jobs.report import analyse, write_report  # noqa: PLC0415

        with quiet_optuna():
            return write_report(analyse(self.definition, self.stored), Path(folder))

    def _chosen(self, origin: TrialRecord | Recommendation) -> ChosenKernel:
        from betanas.jobs.chosen import ChosenKernel  # noqa: PLC0415

        return ChosenKernel.of(self.definition, len(self.stored.settings.classes), origin)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float)


def load_study(
    study: str | Path,
    storage: str | None = None,
    overrides: Overrides = (),
    data: str | Path | None = None,
) -> LoadedStudy:
    """Opens a study that has begun.

    Args:
        study: A built-in study's name, or a path to a TOML file.
        storage: Database URL; else ``BETANAS_STORAGE``, else the study file's, else
            ``sqlite:///storage/STUDY.db``.
        overrides: A mapping of a study file's dotted keys to values, or ``key=value`` as on the
            command line.
        data: A folder of pictures that the study was searched on.

    Raises:
        InputError: If there is no such study file or database.
    """
    given = override_lines(overrides)
    definition = load_definition(study, given, data)
    url = storage_url(definition, storage)
    try:
        stored = open_begun(definition, url)
    except NoStudyError:  # with the cure that names the file that was given
        from betanas.database.connect import no_study  # noqa: PLC0415 - optuna is slow

        told = None if storage is None else without_password(storage)
        raise NoStudyError(no_study(definition.name, url, study_options(study, told))) from None
    begun, note = as_begun(
        definition,
        stored.settings.meaning,
        stored.settings.schema,
        given_keys(given, data=data is not None),
    )
    return LoadedStudy(begun, stored, note)
