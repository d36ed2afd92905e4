from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawn_pictures import draw, folder_config
from PIL import Image

from betanas.data import load_images
from betanas.data.images import channel_statistics
from betanas.errors import DataError

MakeFolder = Callable[..., Path]
TWO = {"train/cat": 3, "train/dog": 2}


def test_real_pictures_of_one_size_are_kept(cifar_folder: Path) -> None:
    train = load_images(folder_config(cifar_folder), "train", 224)
    assert train.images.shape == (200, 32, 32, 3)
    assert train.images.flags.c_contiguous
    assert (train.labels.dtype, train.images.dtype) == (np.int64, np.uint8)
    assert np.array_equal(np.bincount(train.labels), [20] * 10)
    first = min((cifar_folder / "train" / "airplane").iterdir())
    assert np.array_equal(train.images[0], np.asarray(Image.open(first)))


def test_statistics_are_the_training_parts(cifar_folder: Path) -> None:
    config = folder_config(cifar_folder)
    train, test = (load_images(config, part, 32) for part in ("train", "test"))
    assert (test.mean, test.std) == (train.mean, train.std)
    pixels = train.images.reshape(-1, 3) / 255
    assert np.allclose(train.mean, pixels.mean(axis=0))
    assert np.allclose(train.std, pixels.std(axis=0))


def test_one_colour_has_a_usable_deviation() -> None:
    _, std = channel_statistics(np.full((3, 4, 4, 3), 9, dtype=np.uint8))
    assert min(std) > 0


@pytest.mark.parametrize(
    ("sizes", "side"),
    [
        ([(40, 40)], 40),  # squares of one side are kept
        ([(256, 256)], 256),
        ([(300, 300)], 37),  # round(32 * 256 / 224)
        ([(60, 50)], 37),
        ([(60, 60), (80, 80)], 37),
        ([(20, 30), (25, 90)], 25),  # no larger than the largest has pixels
    ],
)
def test_stored_side(tmp_path: Path, sizes: list[tuple[int, int]], side: int) -> None:
    for index in range(6):
        name = f"train/{'cat' if index < 3 else 'dog'}/{index}.png"
        draw(tmp_path / name, sizes[index % len(sizes)])
    assert load_images(folder_config(tmp_path), "train", 32).images.shape == (6, side, side, 3)


def test_several_chunks_stay_in_order(tmp_path: Path) -> None:
    for index in range(600):
        path = tmp_path / "train" / ("cat" if index < 300 else "dog") / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2), (index % 256, index // 256, 0)).save(path)
    images = load_images(folder_config(tmp_path), "train", 32).images.astype(int)
    assert np.array_equal(images[:, 0, 0, 0] + 256 * images[:, 0, 0, 1], np.arange(600))


@pytest.mark.parametrize("cached", [False, True])
def test_unreadable_picture(make_folder: MakeFolder, tmp_path: Path, cached: bool) -> None:
    root = make_folder(TWO, size=(64, 64))
    damaged = root / "train" / "cat" / "1.png"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    cache = tmp_path / "cache" if cached else None
    with pytest.raises(DataError, match=r"1\.png: every picture.*; remove or replace it"):
        load_images(folder_config(root), "train", 32, cache)
    assert not list((tmp_path / "cache").glob("*.np*"))
    assert not list((tmp_path / "cache").glob("*.tmp"))


def test_many_unreadable_pictures(make_folder: MakeFolder) -> None:
    root = make_folder(TWO)
    for path in (root / "train").glob("*/*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"0\.png, .*1\.png, .*2\.png and 2 more: .*these 5") as e:
        load_images(folder_config(root), "train", 32)
    assert "\n" not in str(e.value)


def test_no_test_part(make_folder: MakeFolder) -> None:
    with pytest.raises(DataError, match="there is none; add test/CLASS/"):
        load_images(folder_config(make_folder(TWO)), "test", 32)
