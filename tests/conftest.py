"""What all tests share: real pictures where they are, and processes that behave on two cores."""

import os
import zipfile
from pathlib import Path

import pytest

# Read when torch is imported: without it, steps are many times slower beside any other work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

PICTURES_ZIP = Path(__file__).parents[2] / "shared" / "data" / "cifar10.zip"


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 400 real CIFAR-10 pictures: train/CLASS/*.jpg, 40 of each class."""
    if not PICTURES_ZIP.exists():
        pytest.skip("cifar10.zip is not beside the project: ../shared/data/cifar10.zip")
    folder = tmp_path_factory.mktemp("pictures")
    with zipfile.ZipFile(PICTURES_ZIP) as archive:
        chosen: dict[str, list[str]] = {}
        for name in sorted(archive.namelist()):
            parts = Path(name).parts
            if len(parts) == 4 and parts[1] == "train":
                chosen.setdefault(parts[2], []).append(name)
        for names in chosen.values():
            archive.extractall(folder, names[:40])
    return folder / "cifar10"
