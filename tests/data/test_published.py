import gzip
import hashlib
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from drawn_pictures import folder_config

from betanas.data import describe_dataset, load_images
from betanas.data.idx import DEBIAN_FOLDER
from betanas.data.images import channel_statistics
from betanas.data.published import PUBLISHED
from betanas.errors import DataError
from betanas.study.recipe import DatasetConfig

debian = pytest.mark.skipif(
    not Path(DEBIAN_FOLDER).is_dir(), reason="needs Debian's package dataset-fashion-mnist"
)
DIGITS = DatasetConfig(name="digits")


def test_digits_need_no_files() -> None:
    facts = describe_dataset(DIGITS)
    train, test = (load_images(DIGITS, part, 32) for part in ("train", "test"))
    assert facts.classes == train.classes == tuple("0123456789")
    assert (facts.num_train, facts.num_test) == (len(train.images), len(test.images))
    assert train.images.shape[1:] == (8, 8, 3)
    assert train.images.max() == 255
    assert train.images.flags.c_contiguous
    assert (train.mean, train.std) == channel_statistics(train.images) == (test.mean, test.std)


def test_digits_parts_are_disjoint_stratified_and_constant() -> None:
    from sklearn.datasets import load_digits

    train, test = (load_images(DIGITS, part, 32) for part in ("train", "test"))
    both = np.concatenate([train.images, test.images])[..., 0].reshape(-1, 64)
    every = np.rint(load_digits().data * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, both)) == sorted(map(bytes, every))
    assert not set(map(bytes, train.images)) & set(map(bytes, test.images))
    assert np.bincount(test.labels).min() >= 34
    again = load_images(DIGITS.model_copy(update={"split_seed": 5}), "test", 32)
    assert np.array_equal(again.images, test.images)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_files_and_classes_are_torchvisions(name: str) -> None:
    import torchvision.datasets

    published = PUBLISHED[name]
    theirs = getattr(torchvision.datasets, published.torchvision)
    listed = [*theirs.train_list, *theirs.test_list]
    names = {f"{theirs.base_folder}/{file}" for file, _ in listed}
    assert set(published.files) == names | {f"{theirs.base_folder}/{theirs.meta['filename']}"}
    assert published.archive == theirs.filename
    assert len(set(published.classes)) == int(name.removeprefix("cifar"))
    assert list(published.classes) == sorted(published.classes)


def test_fashion_mnist_classes_are_torchvisions() -> None:
    from torchvision.datasets import FashionMNIST

    assert list(PUBLISHED["fashion-mnist"].classes) == FashionMNIST.classes


@pytest.mark.parametrize(
    ("name", "place", "cure"),
    [
        ("cifar10", "cifar-10-batches-py", "unpack cifar-10-python.tar.gz in"),
        ("cifar100", "cifar-100-python", "unpack cifar-100-python.tar.gz in"),
        ("fashion-mnist", "FashionMNIST/raw", "put its four idx files there"),
    ],
)
def test_absent(tmp_path: Path, name: str, place: str, cure: str) -> None:
    config = DatasetConfig(name=name, root=str(tmp_path))
    for ask in (describe_dataset, lambda config: load_images(config, "train", 32)):
        with pytest.raises(DataError, match=rf"{place}: .*dataset.download = true, or {cure}"):
            ask(config)
    facts = describe_dataset(config.model_copy(update={"download": True}))
    assert facts.num_classes == len(PUBLISHED[name].classes)


def test_root_is_an_archive(tmp_path: Path) -> None:
    (tmp_path / "cifar.tar.gz").touch()
    config = DatasetConfig(name="cifar10", root=str(tmp_path / "cifar.tar.gz"), download=True)
    with pytest.raises(DataError, match="is a file; unpack it"):
        describe_dataset(config)


def test_wrong_checksums(tmp_path: Path) -> None:
    config = DatasetConfig(name="cifar100", root=str(tmp_path))
    for name in PUBLISHED["cifar100"].files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(pickle.dumps({}))
    with pytest.raises(DataError, match=r"published checksums, but do not; remove the folder"):
        load_images(config, "train", 32)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_archives_format_is_read(
    cifar_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # The original archive needs a network: real pictures in its format, with their own checksums.
    import torchvision.datasets

    pictures = load_images(folder_config(cifar_folder), "test", 32)
    key = "labels" if name == "cifar10" else "fine_labels"
    rows = pictures.images.transpose(0, 3, 1, 2).reshape(-1, 3072)
    batch = pickle.dumps({"data": np.array(rows), key: pictures.labels.tolist()})
    theirs = getattr(torchvision.datasets, PUBLISHED[name].torchvision)
    meta = pickle.dumps({theirs.meta["key"]: list(PUBLISHED[name].classes)})
    (tmp_path / theirs.base_folder).mkdir()
    for file, _ in theirs.train_list + theirs.test_list:
        (tmp_path / theirs.base_folder / file).write_bytes(batch)
    (tmp_path / theirs.base_folder / theirs.meta["filename"]).write_bytes(meta)
    md5 = hashlib.md5(batch, usedforsecurity=False).hexdigest()
    for part in ("train_list", "test_list"):
        monkeypatch.setattr(theirs, part, [[file, md5] for file, _ in getattr(theirs, part)])
    meta_md5 = hashlib.md5(meta, usedforsecurity=False).hexdigest()
    monkeypatch.setattr(theirs, "meta", {**theirs.meta, "md5": meta_md5})

    config = DatasetConfig(name=name, root=str(tmp_path))
    test = load_images(config, "test", 32)
    assert np.array_equal(test.images, pictures.images)
    assert np.array_equal(test.labels, pictures.labels)
    assert test.images.flags.c_contiguous
    assert (test.mean, test.std) == (PUBLISHED[name].mean, PUBLISHED[name].std)
    assert len(load_images(config, "train", 32).labels) == 50 * len(theirs.train_list)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion-mnist"])
def test_download_that_fails(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A proxy nobody listens at: the same as no network, without waiting for one.
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
        monkeypatch.delenv(variable.upper(), raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setattr("urllib.request._opener", None)  # it keeps the first proxies it has seen
    config = DatasetConfig(name=name, root=str(tmp_path / "new"), download=True)
    with pytest.raises(DataError, match=r"new: downloading .* failed .*check the network") as e:
        load_images(config, "train", 32)
    assert "\n" not in str(e.value)
    assert capsys.readouterr().out == ""


def test_damaged_archive_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr("urllib.request._opener", None)
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz"):
        pass
    config = DatasetConfig(name="cifar10", root=str(tmp_path), download=True)
    with pytest.raises(DataError, match="must succeed, but failed"):
        load_images(config, "train", 32)


@debian
def test_fashion_mnist_from_debian() -> None:
    config = DatasetConfig(name="fashion-mnist", root=DEBIAN_FOLDER)
    facts = describe_dataset(config)
    train, test = (load_images(config, part, 32) for part in ("train", "test"))
    assert train.images.shape == (facts.num_train, 28, 28, 3)
    assert test.images.shape == (facts.num_test, 28, 28, 3)
    assert np.array_equal(np.bincount(test.labels), [1000] * 10)
    mean, std = channel_statistics(train.images)
    assert np.allclose(train.mean, mean, atol=2e-3)
    assert np.allclose(train.std, std, atol=2e-3)


@debian
def test_torchvisions_layout_and_reader_agree(tmp_path: Path) -> None:
    from torchvision.datasets import FashionMNIST

    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for path in Path(DEBIAN_FOLDER).glob("*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    ours = load_images(DatasetConfig(name="fashion-mnist", root=str(tmp_path)), "test", 32)
    theirs = FashionMNIST(tmp_path, train=False)
    assert np.array_equal(ours.images[..., 1], theirs.data.numpy())
    assert np.array_equal(ours.labels, theirs.targets.numpy())


@debian
@pytest.mark.parametrize("damage", ["cut", "other", "short"])
def test_damaged_idx_file(tmp_path: Path, damage: str) -> None:
    for path in Path(DEBIAN_FOLDER).glob("*.gz"):
        (tmp_path / path.name).symlink_to(path)
    victim = tmp_path / "t10k-labels-idx1-ubyte.gz"
    content = victim.read_bytes()
    victim.unlink()
    victim.write_bytes(
        {
            "cut": content[:-100],
            "other": gzip.compress(b"something else entirely"),
            "short": gzip.compress(gzip.decompress(content)[:-1]),
        }[damage]
    )
    config = DatasetConfig(name="fashion-mnist", root=str(tmp_path))
    with pytest.raises(DataError, match=r"t10k-labels.*is damaged .*; remove it"):
        load_images(config, "test", 32)
