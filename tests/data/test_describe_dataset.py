import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from drawn_pictures import draw, folder_config

from betanas.data import describe_dataset
from betanas.data.folder import SUFFIXES, scan_folder, scan_test_pictures
from betanas.errors import DataError

MakeFolder = Callable[..., Path]
TWO = {"train/cat": 2, "train/dog": 3}


def test_import_leaves_the_heavy_packages_alone() -> None:
    code = "import sys, betanas.data; print({'torch', 'torchvision', 'sklearn'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "set()"


def test_suffixes_are_torchvisions() -> None:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    assert SUFFIXES == IMG_EXTENSIONS


def test_counts_and_classes(make_folder: MakeFolder) -> None:
    facts = describe_dataset(folder_config(make_folder(TWO | {"test/dog": 1, "test/cat": 1})))
    assert (facts.classes, facts.num_classes) == (("cat", "dog"), 2)
    assert (facts.num_train, facts.num_test) == (5, 2)


def test_agrees_with_torchvision_on_real_pictures(cifar_folder: Path) -> None:
    from torchvision.datasets import ImageFolder

    facts = describe_dataset(folder_config(cifar_folder))
    assert list(facts.classes) == ImageFolder(cifar_folder / "train").classes
    assert (facts.num_train, facts.num_test) == (200, 50)


def test_root_itself_may_be_the_training_part(make_folder: MakeFolder) -> None:
    facts = describe_dataset(folder_config(make_folder({"cat": 2, "dog": 2})))
    assert (facts.classes, facts.num_train, facts.num_test) == (("cat", "dog"), 4, 0)


def test_folders_in_class_folders_of_such_a_root(make_folder: MakeFolder) -> None:
    from torchvision.datasets import ImageFolder

    root = make_folder({"cat": 2, "dog": 2, "cat/kittens": 3, "dog/puppies/small": 1})
    facts = describe_dataset(folder_config(root))
    assert (facts.classes, facts.num_train) == (("cat", "dog"), 8)
    files = [file for file, _ in ImageFolder(root).samples]
    assert sorted(scan_folder(root).train.files) == sorted(files)
    assert scan_test_pictures(root)[1].files == scan_folder(root).train.files


def test_hidden_and_other_files_are_ignored(make_folder: MakeFolder) -> None:
    root = make_folder(TWO | {"train/.ipynb_checkpoints": 1, "train/cat/.thumbnails": 1})
    before = describe_dataset(folder_config(root))
    (root / "train" / ".DS_Store").touch()
    (root / "train" / "cat" / "._0.png").touch()
    (root / "train" / "cat" / "notes.txt").write_text("whiskers")
    assert describe_dataset(folder_config(root)) == before
    assert before.num_train == 5


def test_upper_case_suffixes_and_folders_in_class_folders(make_folder: MakeFolder) -> None:
    root = make_folder(TWO)
    draw(root / "train" / "cat" / "more" / "A.JPG")
    assert describe_dataset(folder_config(root)).num_train == 6


def test_linked_class_folders(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(TWO)
    shutil.move(root / "train" / "dog", tmp_path / "elsewhere")
    (root / "train" / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "elsewhere")
    assert describe_dataset(folder_config(root)).num_train == 5


def test_fingerprint_follows_the_pictures(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(TWO)
    first = describe_dataset(folder_config(root)).fingerprint
    shutil.copytree(root, tmp_path / "copy")
    assert describe_dataset(folder_config(tmp_path / "copy")).fingerprint == first
    draw(root / "train" / "cat" / "0.png", (9, 9))
    second = describe_dataset(folder_config(root)).fingerprint
    (root / "train" / "cat" / "1.png").rename(root / "train" / "cat" / "2.png")
    third = describe_dataset(folder_config(root)).fingerprint
    assert len({first, second, third}) == 3


@pytest.mark.parametrize(
    ("counts", "rule"),
    [
        ({}, "must hold a folder train, but does not; give a folder that holds train/CLASS"),
        ({"test/cat": 2, "test/dog": 2}, "must hold a folder train, but does not"),
        ({"pets/train/cat": 2}, "give .*pets, which has one"),
        ({"train": 0}, "at least 2 class folders are needed, but there is none"),
        ({"train": 2}, r"lie in train/ itself; sort them into train/CLASS/"),
        ({"train/cat": 2}, "at least 2 class folders are needed, but there is only cat"),
        (TWO | {"train/owl": 0}, r"owl: a class folder must hold pictures .*, but holds none"),
        (TWO | {"train/owl": 1}, "at least 2 training pictures .*, but owl has 1"),
        (TWO | {"test/cat": 1}, "but lacks dog"),
        (TWO | {"test/cat": 1, "test/dog": 1, "test/owl": 1}, "but adds owl"),
        ({"cat": 2, "dog": 2, "old/cat": 2}, "old: .* but holds folders; move them up, or"),
        ({"cat": 2, "dog": 2, "notes": 0}, "notes: a class folder must hold pictures"),
    ],
)
def test_bad_layouts(make_folder: MakeFolder, counts: dict[str, int], rule: str) -> None:
    root = make_folder(counts)
    with pytest.raises(DataError, match=rule) as caught:
        describe_dataset(folder_config(root))
    assert str(caught.value).startswith(str(root))
    assert "\n" not in str(caught.value)


def test_folders_named_otherwise_are_not_taken_for_classes(make_folder: MakeFolder) -> None:
    root = make_folder({"Training/cat": 2, "Testing/cat": 2})
    with pytest.raises(DataError, match="must hold a folder train"):
        describe_dataset(folder_config(root))


def test_class_without_known_suffixes(make_folder: MakeFolder) -> None:
    root = make_folder(TWO | {"train/owl": 0})
    (root / "train" / "owl" / "a.heic").touch()
    with pytest.raises(DataError, match=r"owl: .* holds only \.heic; add or convert"):
        describe_dataset(folder_config(root))


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: .* must be a folder, but there is none"):
        describe_dataset(folder_config(tmp_path / "nowhere"))


def test_archive_as_root(tmp_path: Path) -> None:
    path = tmp_path / "pictures.zip"
    path.touch()
    with pytest.raises(DataError, match=r"pictures\.zip: .* is a file; unpack it"):
        describe_dataset(folder_config(path))


def test_dangling_link(make_folder: MakeFolder) -> None:
    root = make_folder(TWO)
    (root / "train" / "cat" / "gone.jpg").symlink_to(root / "nothing.jpg")
    with pytest.raises(DataError, match=r"gone\.jpg: every picture must be readable.*remove it"):
        describe_dataset(folder_config(root))


def test_forbidden_class_folder(make_folder: MakeFolder) -> None:
    root = make_folder(TWO)
    (root / "train" / "cat").chmod(0)
    code = (
        "import sys; from betanas.data import describe_dataset\n"
        "from betanas.study.recipe import DatasetConfig\n"
        "describe_dataset(DatasetConfig(name='imagefolder', root=sys.argv[1]))"
    )
    # Root may read every folder, unless it gives that up.
    gone = "-dac_override,-dac_read_search"
    as_all = ["setpriv", f"--bounding-set={gone}", f"--inh-caps={gone}"] * (os.geteuid() == 0)
    try:
        done = subprocess.run(
            [*as_all, sys.executable, "-c", code, root], capture_output=True, text=True, check=False
        )
    finally:
        (root / "train" / "cat").chmod(0o755)
    assert re.search(r"DataError: .*cat: .*Permission denied", done.stderr), done.stderr
