"""A trained model handed over in a form that others read, and proved there to answer the same."""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from betanas.architecture.cells import CellNetwork
from betanas.architecture.nasnet_cells import SumCellNetwork
from betanas.architecture.reference import TIMM, Network, ReferenceModel
from betanas.errors import BetaNASError, InputError, RunError
from betanas.files import sync
from betanas.formats.classifier import Answer, PixelClassifier, answer, compare, probe_batches
from betanas.formats.graphs import (
    ONNX_FILE,
    PROGRAM_FILE,
    load_onnx,
    load_program,
    write_onnx,
    write_program,
)
from betanas.formats.source import SOURCE_FILE, is_uniform, load_source, write_source
from betanas.formats.weights import WEIGHTS_FILE, load_safetensors, write_safetensors
from betanas.models.network import check_reference
from betanas.models.trained import TrainedModel, read_trained


@dataclass(frozen=True)
class Format:
    """A form of a model.

    Attributes:
        file: What its reader is given; any other files lie beside it.
        write: Writes all of its files into an empty folder.
        load: Opens them with their own runtime.
        packages: What has to be installed beyond our own dependencies.
        takes_references: Whether torchvision's networks can have it.
    """

    file: str
    write: Callable[[TrainedModel, PixelClassifier, Path], None]
    load: Callable[[Path], Answer]
    packages: tuple[str, ...] = ()
    takes_references: bool = True


FORMATS = {
    "onnx": Format(ONNX_FILE, write_onnx, load_onnx, ("onnx", "onnxscript", "onnxruntime")),
    "torch-export": Format(PROGRAM_FILE, write_program, load_program),
    "safetensors": Format(WEIGHTS_FILE, write_safetensors, load_safetensors, ("safetensors",)),
    "python": Format(SOURCE_FILE, write_source, load_source, takes_references=False),
}


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        format: A key of ``FORMATS``.
        files: Paths; the one that its reader is given comes first.
        num_params: Weights that were trained.
        max_abs_error: Largest absolute difference between the logits of the exported and of the
            trained model, over random images in batches of several sizes.
    """

    format: str
    files: tuple[str, ...]
    num_params: int
    max_abs_error: float

    def to_json(self) -> dict[str, Any]:
        """The JSON of ``betanas export``."""
        return {**asdict(self), "files": list(self.files)}


def export(checkpoint: Path, name: str, folder: Path | None = None) -> Exported:
    """Writes a trained model in another format; every file appears whole, and only once proved.

    Args:
        checkpoint: A ``model.pt`` of ``betanas train``.
        name: A key of ``FORMATS``.
        folder: Where to write; the checkpoint's folder if left out.

    Raises:
        InputError: For an unknown format, a package that is missing, a file that is no trained
            model, a network that the format cannot have, or a folder that cannot be written.
        RunError: If the exporter fails, or what it wrote answers otherwise than the trained model;
            nothing is left of it then.
    """
    chosen = _find_format(name)
    trained, model = load_classifier(checkpoint)
    if not chosen.takes_references:
        _check_readable(name, checkpoint, trained.network)
    folder = folder or checkpoint.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as draft:
            with _failing_well(f"--format {name}"):
                chosen.write(trained, model, Path(draft))
                batches = probe_batches(trained.network.resolution)
                found = chosen.load(Path(draft))(batches)
            difference = compare(answer(model, batches), found, f"--format {name}")
            files = _place(Path(draft), folder, chosen.file)
    except OSError as error:
        raise InputError(
            f"{folder} must be a folder that can be written, but: {error.strerror or error}; "
            "give another --output"
        ) from None
    return Exported(name, tuple(map(str, files)), model.num_params, difference)


def _check_readable(name: str, checkpoint: Path, network: Network) -> None:
    """Raises InputError for a network of which there is no readable source."""
    others = ", ".join(key for key, other in FORMATS.items() if other.takes_references)
    if isinstance(network, ReferenceModel):
        owner = "other people's" if network.name.startswith(TIMM) else "torchvision's"
        raise InputError(
            f"--format {name} must get a network that BetaNAS decoded, but {checkpoint} is "
            f"{owner} {network.name}; choose one of: {others}"
        )
    if isinstance(network, CellNetwork | SumCellNetwork):
        raise InputError(
            f"--format {name} must get a chain of blocks, but {checkpoint} is a network of cells; "
            f"choose one of: {others}"
        )
    if not is_uniform(network):
        raise InputError(
            f"--format {name} must get a network of one activation, but {checkpoint} has several; "
            f"choose one of: {others}"
        )


def _find_format(name: str) -> Format:
    if name not in FORMATS:
        raise InputError(f"--format must be one of {', '.join(FORMATS)}, but got {name!r}")
    missing = [package for package in FORMATS[name].packages if find_spec(package) is None]
    if missing:
        raise InputError(
            f"--format {name} needs {', '.join(missing)}: pip install 'betanas[export]'"
        )
    return FORMATS[name]


def load_classifier(checkpoint: Path) -> tuple[TrainedModel, PixelClassifier]:
    """Reads a model file that may come from anywhere, and builds what it describes.

    Raises:
        InputError: If there is no such file, it is something else, or it is damaged.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's, of foreign files
            trained = read_trained(checkpoint)
        network = trained.network
        if isinstance(network, ReferenceModel):
            _check_known(network)
        if len(trained.classes) != network.num_classes:
            raise ValueError(f"{len(trained.classes)} names for {network.num_classes} classes")
        return trained, PixelClassifier(trained.build(), trained.mean, trained.std).eval()
    except BetaNASError:
        raise
    except Exception as error:  # what a damaged description leads to may be anything
        raise InputError(
            f"{checkpoint} must hold a network and its weights, but is damaged "
            f"({_first_line(error)}); write it again with betanas train"
        ) from None


def _check_known(network: ReferenceModel) -> None:
    """Raises ValueError for torchvision's that are not there, InputError for timm's."""
    if network.name.startswith(TIMM):
        check_reference(network.name)
        return
    try:
        check_reference(network.name)
    except InputError as error:
        raise ValueError(str(error)) from None


@contextmanager
def _failing_well(what: str) -> Iterator[None]:
    """Turns whatever an exporter or a runtime raises into one line."""
    try:
        yield
    except (BetaNASError, OSError):
        raise
    except Exception as error:  # torch, ONNX and safetensors have no common class of errors
        raise RunError(
            f"{what}: this model could not be exported: {_first_line(error)}; try another --format"
        ) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def _place(draft: Path, folder: Path, main: str) -> list[Path]:
    """Moves all files into the folder, the one that refers to the others last."""
    names = sorted((path.name for path in draft.iterdir()), key=lambda name: name == main)
    for name in names:
        sync(draft / name)
        (draft / name).replace(folder / name)
    sync(folder)
    return [folder / name for name in reversed(names)]
