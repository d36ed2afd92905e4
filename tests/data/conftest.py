"""Small folders of real pictures, drawn where a test needs them."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from drawn_pictures import draw


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes ``root/PART/CLASS/N.png`` from {"train/cat": 3, ...}."""

    def make(counts: dict[str, int], size: tuple[int, int] = (8, 8)) -> Path:
        root = tmp_path / "pictures"
        root.mkdir(exist_ok=True)
        seed = 0
        for folder, count in counts.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                seed += 1
                draw(root / folder / f"{index}.png", size, seed)
        return root

    return make


@pytest.fixture(scope="session")
def cifar_folder(cifar_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 20 training and 5 test pictures of each class of CIFAR-10, as JPEG files."""
    root = tmp_path_factory.mktemp("cifar")
    with zipfile.ZipFile(cifar_zip) as archive:
        taken: dict[str, int] = {}
        for name in sorted(archive.namelist()):
            folder = name.rpartition("/")[0]
            limit = 20 if "/train/" in name else 5
            if name.endswith(".jpg") and taken.get(folder, 0) < limit:
                taken[folder] = taken.get(folder, 0) + 1
                archive.extract(name, root)
    return root / "cifar10"
