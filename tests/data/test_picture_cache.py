import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawn_pictures import draw, folder_config

from betanas.data import ImageSet, describe_dataset, load_images
from betanas.errors import DataError

MakeFolder = Callable[..., Path]
LOAD = """
import sys
from pathlib import Path
from betanas.data import load_images
from betanas.study.recipe import DatasetConfig
root, cache = sys.argv[1:]
images = load_images(DatasetConfig(name="imagefolder", root=root), "train", 32, Path(cache)).images
print(images.shape, int(images.sum()))
"""


@pytest.fixture
def root(make_folder: MakeFolder) -> Path:
    return make_folder({"train/cat": 3, "train/dog": 2, "test/cat": 1, "test/dog": 1})


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "cache"


def same(one: ImageSet, other: ImageSet) -> bool:
    return (
        np.array_equal(one.images, other.images)
        and np.array_equal(one.labels, other.labels)
        and (one.classes, one.mean, one.std) == (other.classes, other.mean, other.std)
    )


@pytest.mark.parametrize("part", ["train", "test"])
def test_cached_equals_decoded_and_is_reused(root: Path, cache: Path, part: str) -> None:
    config = folder_config(root)
    plain = load_images(config, part, 32)
    first = load_images(config, part, 32, cache)
    written = {path: path.stat().st_mtime_ns for path in cache.glob("*.np*")}
    second = load_images(config, part, 32, cache)
    assert same(plain, first)
    assert same(plain, second)
    assert isinstance(second.images, np.memmap)
    assert not second.images.flags.writeable
    assert {path: path.stat().st_mtime_ns for path in cache.glob("*.np*")} == written


@pytest.mark.parametrize("cached", [True, False])
def test_the_test_part_is_decoded_alone_where_the_statistics_are_known(
    root: Path, cache: Path, cached: bool
) -> None:
    """A training part that is streamed, since it does not fit, must not be decoded at its end."""
    (root / "train" / next((root / "train").iterdir()).name / "broken.png").write_text("no picture")
    known = ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    where = cache if cached else None
    found = load_images(folder_config(root), "test", 32, where, statistics=known)
    assert (found.mean, found.std) == known
    assert not list(cache.glob("*train*.np*"))


def test_kept_sides_serve_every_resolution(root: Path, cache: Path) -> None:
    for resolution in (32, 64):
        load_images(folder_config(root), "train", resolution, cache)
    assert len(list(cache.glob("*.npy"))) == 1


def test_resized_pictures_are_stored_for_each_resolution(
    make_folder: MakeFolder, cache: Path
) -> None:
    config = folder_config(make_folder({"train/cat": 2, "train/dog": 2}, size=(90, 80)))
    sides = [load_images(config, "train", r, cache).images.shape[1] for r in (32, 64, 32)]
    assert sides == [37, 73, 37]
    assert len(list(cache.glob("*.npy"))) == 2


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("damage", ["truncated", "emptied", "scrambled", "lengthened", "removed"])
def test_damaged_files_are_rebuilt(root: Path, cache: Path, suffix: str, damage: str) -> None:
    config = folder_config(root)
    plain = load_images(config, "train", 32, cache)
    pixels = np.array(plain.images)
    (path,) = cache.glob(f"*.{suffix}")
    content = path.read_bytes()
    path.unlink()
    if damage != "removed":
        path.write_bytes(
            {
                "truncated": content[:-20],
                "emptied": b"",
                "scrambled": bytes(len(content)),
                "lengthened": content + b"more" if suffix == "npy" else b"more" + content[4:],
            }[damage]
        )
    assert np.array_equal(load_images(config, "train", 32, cache).images, pixels)
    assert path.stat().st_size == len(content)


def test_changed_picture_of_the_same_size_is_noticed(tmp_path: Path, cache: Path) -> None:
    for index in range(4):
        draw(tmp_path / f"r/train/{'cat' if index < 2 else 'dog'}/{index}.bmp", seed=index)
    config = folder_config(tmp_path / "r")
    before = load_images(config, "train", 32, cache)
    changed = draw(tmp_path / "r/train/cat/0.bmp", seed=9)
    os.utime(changed, ns=(1, 1))
    after = load_images(config, "train", 32, cache)
    assert not np.array_equal(before.images[0], after.images[0])
    assert same(after, load_images(config, "train", 32))


def test_builder_killed_half_way(tmp_path: Path, cache: Path) -> None:
    root = tmp_path / "r"
    for index in range(4):
        draw(root / f"train/{'cat' if index < 2 else 'dog'}/{index}.png", (1500, 1500), index)
    for path in list(root.glob("train/*/*.png")):
        for copy in range(40):
            path.with_name(f"{path.stem}-{copy}.png").hardlink_to(path)
    builder = subprocess.Popen([sys.executable, "-c", LOAD, root, cache])
    deadline = time.monotonic() + 30
    while not list(cache.glob("*.tmp")) and time.monotonic() < deadline:
        time.sleep(0.005)
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    assert list(cache.glob("*.tmp"))
    assert not list(cache.glob("*.np?"))
    for path in root.glob("train/*/*-*.png"):
        path.unlink()
    config = folder_config(root)
    leftover = next(cache.glob("*.tmp"))
    name = describe_dataset(config).fingerprint
    leftover.rename(cache / f"{name}-train-37.npy.abc.tmp")
    assert len(load_images(config, "train", 32, cache).images) == 4
    assert not list(cache.glob("*.tmp"))


def test_builders_at_the_same_time(cifar_folder: Path, cache: Path) -> None:
    command = [sys.executable, "-c", LOAD, cifar_folder, cache]
    builders = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    answers = {builder.communicate() for builder in builders}
    assert len(answers) == 1
    ((out, errors),) = answers
    assert out.startswith("(200, 32, 32, 3)")
    assert errors == ""


def test_cache_that_is_a_file(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file: the cache .* must be a folder .*choose another"):
        load_images(folder_config(root), "train", 32, tmp_path / "file")


def test_full_disk(root: Path, cache: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    try:
        with pytest.raises(DataError, match=r"MB free, but writing failed .*; make room"):
            load_images(folder_config(root), "train", 32, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
    assert not list(cache.glob("*.tmp"))
