"""A user's own folder of pictures: what lies in it, found without opening a picture."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from betanas.errors import DataError

# Those of torchvision.datasets.folder.IMG_EXTENSIONS; a test holds them together.
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
LAYOUT = "train/CLASS/*.jpg and, optionally, test/CLASS/*.jpg"
_CALTECH256 = "256_ObjectCategories"
_ANNOTATIONS = Path("val") / "val_annotations.txt"  # Tiny-ImageNet's: a picture and a class a line
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


@dataclass(frozen=True)
class Pictures:
    """The picture files of one part.

    Attributes:
        files: Paths, sorted by class and then by path.
        labels: int64, one for each file.
        classes: Sorted class names, which are the folders' names.
    """

    files: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class PictureFolder:
    """A scanned data set.

    Attributes:
        train: The training part; a validation part is not split off yet.
        test: The test part, or None where there is none.
        fingerprint: Of all pictures' names and sizes; the same wherever the folder is copied to.
        stamp: Of all pictures' times of change; tells an edit that kept the size.
    """

    root: Path
    train: Pictures
    test: Pictures | None
    fingerprint: str
    stamp: str


@dataclass
class _Digest:
    """Gathers names, sizes and times while the folders are walked."""

    contents: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    times: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, part: str, name: str, info: os.stat_result) -> None:
        self.contents.update(os.fsencode(f"{part}/{name}\0{info.st_size}\n"))
        self.times.update(b"%d\n" % info.st_mtime_ns)


def scan_folder(root: Path) -> PictureFolder:
    """Finds the pictures below ``root``: ``train/CLASS/*`` and, optionally, ``test/CLASS/*``.

    A root without a ``train`` folder whose own folders hold pictures (``root/CLASS/*``) is taken
    as the training part; there is no test part then. Class folders may be links, and the pictures
    in folders inside of them are theirs, as torchvision's ``ImageFolder`` has it. Hidden files and
    folders and files of other kinds are ignored, and so is any other folder beside ``train`` and
    ``test``.

    Two published data sets are taken as they are unpacked: of Tiny-ImageNet the labelled pictures
    of ``val`` are the test part, since those of ``test`` have no labels; Caltech-256's pictures may
    lie in ``root/256_ObjectCategories``, and those in a folder inside of a class are none of its.

    Raises:
        DataError: If the folder is missing, is an archive, has another layout, or if a class has
            too few pictures.
    """
    check_root(root)
    root = _unpacked(root)
    digest = _Digest()
    try:
        if (root / "train").is_dir():
            train = _scan_part(root / "train", "train", digest)
            test = None
            if (root / _ANNOTATIONS).is_file():
                test = _scan_annotated(root, digest)
                _check_same_classes(root, train, test)
            elif (root / "test").is_dir():
                test = _scan_part(root / "test", "test", digest)
                _check_same_classes(root, train, test)
        else:
            _check_is_training_part(root)
            train = _scan_part(root, "train", digest, nested=root.resolve().name != _CALTECH256)
            test = None
    except OSError as error:
        raise _unreadable(error) from None
    _check_training_part(root, train)
    return PictureFolder(
        root=root,
        train=train,
        test=test,
        fingerprint=f"imagefolder-{digest.contents.hexdigest()[:32]}",
        stamp=digest.times.hexdigest()[:32],
    )


def scan_test_pictures(root: Path) -> tuple[str, Pictures]:
    """Finds the pictures that a trained model can be judged by; the training part is not read.

    Returns:
        ``test`` and the test part; or ``all`` and all pictures of ``root/CLASS/*``, where there is
        neither a folder ``train`` nor ``test``.

    Raises:
        DataError: As ``scan_folder``, and if there is a training part only.
    """
    check_root(root)
    root = _unpacked(root)
    digest = _Digest()
    try:
        if (root / _ANNOTATIONS).is_file():
            return "test", _scan_annotated(root, digest)
        if (root / "test").is_dir():
            return "test", _scan_part(root / "test", "test", digest)
        if (root / "train").is_dir():
            raise no_test_part(root)
        _check_is_training_part(root)
        return "all", _scan_part(root, "all", digest, nested=root.resolve().name != _CALTECH256)
    except OSError as error:
        raise _unreadable(error) from None


def no_test_part(root: Path) -> DataError:
    """What is wrong with a folder that has a training part only."""
    return DataError(
        f"{root}: a test part must be in the folder test beside train, but there is none; "
        "add test/CLASS/ for every class"
    )


def _unreadable(error: OSError) -> DataError:
    return DataError(
        f"{error.filename}: every picture must be readable, but it is not "
        f"({error.strerror}); allow reading it, or remove it"
    )


def check_root(root: Path, *, must_exist: bool = True) -> None:
    """Raises DataError if ``root`` is a file, or if it is missing and must exist."""
    if root.is_dir() or not (must_exist or root.exists()):
        return
    if not root.exists():
        raise DataError(
            f"{root}: dataset.root must be a folder, but there is none; "
            f"give the folder that holds {LAYOUT}"
        )
    cure = f"give the folder that holds {LAYOUT}" if must_exist else "give a folder"
    if root.suffix.lower() in _ARCHIVES:
        cure = "unpack it and give the unpacked folder"
    raise DataError(f"{root}: dataset.root must be a folder, but it is a file; {cure}")


def _visible_folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        # __MACOSX is what macOS adds to its archives: it holds no pictures.
        return sorted(
            entry.name
            for entry in entries
            if entry.is_dir() and not entry.name.startswith(".") and entry.name != "__MACOSX"
        )


def _scan_part(folder: Path, part: str, digest: _Digest, *, nested: bool = True) -> Pictures:
    files: list[str] = []
    counts: list[int] = []
    classes = _visible_folders(folder)
    for name in classes:
        found = sorted(_walk(folder / name, "", set(), nested=nested))
        if not found:
            raise _no_pictures(folder / name)
        inside = os.path.join(folder, name, "")  # noqa: PTH118 - a Path each would take 10 times
        for relative, info in found:
            digest.add(part, f"{name}/{relative}", info)
            files.append(inside + relative)
        counts.append(len(found))
    if not classes and any(_is_picture(name) for name in os.listdir(folder)):  # noqa: PTH208
        raise DataError(
            f"{folder}: pictures must lie in one folder for each class, but lie in {folder.name}/ "
            f"itself; sort them into {folder.name}/CLASS/"
        )
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), counts)
    return Pictures(tuple(files), labels, tuple(classes))


def _unpacked(root: Path) -> Path:
    """Where the classes are, of an archive that has a folder around them."""
    inside = root / _CALTECH256
    return inside if inside.is_dir() and not (root / "train").is_dir() else root


def _scan_annotated(root: Path, digest: _Digest) -> Pictures:
    """Tiny-ImageNet's validation part: all pictures in one folder, their classes in a file."""
    file, folder = root / _ANNOTATIONS, root / "val" / "images"
    found: list[tuple[str, str]] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        name, _, rest = line.partition("\t")
        label = rest.split("\t")[0].strip()
        if not name or not label:
            raise DataError(
                f"{file}: line {number} must have a picture and its class with a tab between, but "
                f"is {line[:80]!r}; unpack the archive again"
            )
        found.append((label, name))
    if not found:
        raise DataError(f"{file}: there must be a line for each picture, but it is empty")
    found.sort()
    classes = sorted({label for label, _ in found})
    files = []
    for label, name in found:
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path}: {file.name} names this picture, but it is not there")
        digest.add("test", f"{label}/{name}", path.stat())
        files.append(str(path))
    places = {name: i for i, name in enumerate(classes)}
    labels = np.array([places[label] for label, _ in found], dtype=np.int64)
    return Pictures(tuple(files), labels, tuple(classes))


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def _walk(
    folder: Path, prefix: str, above: set[tuple[int, int]], *, nested: bool
) -> Iterator[tuple[str, os.stat_result]]:
    """Yields each picture below ``folder``: its path from there, and its size and time."""
    info = folder.stat()
    if (info.st_dev, info.st_ino) in above:
        return  # a link that leads back to a folder above it
    inside = {*above, (info.st_dev, info.st_ino)}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                if nested:
                    yield from _walk(
                        folder / entry.name, f"{prefix}{entry.name}/", inside, nested=nested
                    )
            elif _is_picture(entry.name):
                yield f"{prefix}{entry.name}", entry.stat()


def _no_pictures(folder: Path) -> DataError:
    others = sorted({p.suffix or p.name for p in folder.iterdir() if not p.name.startswith(".")})
    held = f"only {', '.join(others[:5])}" if others else "none"
    return DataError(
        f"{folder}: a class folder must hold pictures ({' '.join(SUFFIXES)}), but holds {held}; "
        "add or convert pictures, or remove the folder"
    )


def _holds_pictures(folder: Path) -> bool:
    return any(_is_picture(name) for name in os.listdir(folder))  # noqa: PTH208 - names are all


def _check_is_training_part(root: Path) -> None:
    folders = _visible_folders(root)
    empty = [name for name in folders if not _holds_pictures(root / name)]
    if "test" not in folders and len(empty) < len(folders):
        for folder in (root / name for name in empty):  # of another layout, or of no class
            if not _visible_folders(folder):
                raise _no_pictures(folder)
            raise DataError(
                f"{folder}: a class folder must hold pictures itself where there is no folder "
                f"train, but holds folders; move them up, or all class folders into {root}/train"
            )
        return
    cure = f"give a folder that holds {LAYOUT}"
    deeper = [name for name in folders if (root / name / "train").is_dir()]
    if deeper:
        cure = f"give {root / deeper[0]}, which has one"
    raise DataError(f"{root}: dataset.root must hold a folder train, but does not; {cure}")


def _check_training_part(root: Path, train: Pictures) -> None:
    if len(train.classes) < 2:
        held = f"only {train.classes[0]}" if train.classes else "none"
        raise DataError(
            f"{root}: at least 2 class folders are needed, but there is {held}; "
            f"sort the pictures into {LAYOUT}"
        )
    counts = np.bincount(train.labels)
    if counts.min() < 2:
        name = train.classes[int(counts.argmin())]
        raise DataError(
            f"{root}: every class must have at least 2 training pictures (one to validate with), "
            f"but {name} has {counts.min()}; add pictures or remove the folder"
        )


def _check_same_classes(root: Path, train: Pictures, test: Pictures) -> None:
    if train.classes == test.classes:
        return
    missing = sorted(set(train.classes) - set(test.classes))
    added = sorted(set(test.classes) - set(train.classes))
    found = " and ".join(
        f"{text} {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
        for text, names in (("lacks", missing), ("adds", added))
        if names
    )
    raise DataError(
        f"{root / 'test'}: the test part must have the training part's classes, but {found}; "
        "give both the same class folders, or remove the test folder"
    )
