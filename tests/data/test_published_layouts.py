"""Published data sets as they are unpacked: folders of their shape, pictures of our own."""

from pathlib import Path

import pytest
from drawn_pictures import draw, folder_config

from betanas.data import describe_dataset, load_images
from betanas.data.folder import scan_folder, scan_test_pictures
from betanas.errors import DataError

WORDS = ("n01443537", "n01629819", "n02099601")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """As tiny-imagenet-200: boxes beside the training pictures, no labels of the test's."""
    lines = []
    for number, word in enumerate(WORDS):
        for i in range(4):
            draw(
                tmp_path / "train" / word / "images" / f"{word}_{i}.JPEG", (64, 64), 10 * number + i
            )
        (tmp_path / "train" / word / f"{word}_boxes.txt").write_text("0\t0\t10\t10\n")
    for i, word in enumerate((*WORDS[::-1], WORDS[1])):
        draw(tmp_path / "val" / "images" / f"val_{i}.JPEG", (64, 64), 100 + i)
        lines.append(f"val_{i}.JPEG\t{word}\t0\t32\t44\t62\n")
        draw(tmp_path / "test" / "images" / f"test_{i}.JPEG", (64, 64), 200 + i)
    (tmp_path / "val" / "val_annotations.txt").write_text("".join(lines))
    (tmp_path / "wnids.txt").write_text("\n".join(WORDS))
    return tmp_path


def test_tiny_imagenet_is_tested_on_its_labelled_validation_part(tiny: Path) -> None:
    facts = describe_dataset(folder_config(tiny))
    assert (facts.classes, facts.num_train, facts.num_test) == (WORDS, 12, 4)
    folder = scan_folder(tiny)
    assert folder.test is not None
    names = [Path(file).name for file in folder.test.files]
    assert names == ["val_2.JPEG", "val_1.JPEG", "val_3.JPEG", "val_0.JPEG"]
    assert folder.test.labels.tolist() == [0, 1, 1, 2]
    part, pictures = scan_test_pictures(tiny)
    assert (part, pictures.files) == ("test", folder.test.files)
    test = load_images(folder_config(tiny), "test", 64)
    assert test.images.shape == (4, 64, 64, 3)
    assert test.labels.tolist() == [0, 1, 1, 2]


def test_other_labels_are_other_data(tiny: Path) -> None:
    before = scan_folder(tiny).fingerprint
    file = tiny / "val" / "val_annotations.txt"
    file.write_text(file.read_text().replace(f"val_1.JPEG\t{WORDS[1]}", f"val_1.JPEG\t{WORDS[0]}"))
    assert scan_folder(tiny).fingerprint != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("val_0.JPEG n01443537\n", "line 1 must have a picture and its class"),
        ("val_9.JPEG\tn01443537\t0\t0\t1\t1\n", "names this picture, but it is not there"),
        ("val_0.JPEG\tn00000000\t0\t0\t1\t1\n", "must have the training part's classes"),
        ("", "it is empty"),
    ],
)
def test_annotations_that_are_not_right(tiny: Path, text: str, message: str) -> None:
    (tiny / "val" / "val_annotations.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        scan_folder(tiny)


def test_caltech_256_is_found_in_the_folder_around_it(tmp_path: Path) -> None:
    inside = tmp_path / "256_ObjectCategories"
    for number, name in enumerate(("001.ak47", "056.dog", "257.clutter"), start=1):
        for i in range(2):
            draw(inside / name / f"{number:03}_{i:04}.jpg", (40 + i, 30), 10 * number + i)
    draw(
        inside / "056.dog" / "greg" / "vision.jpg", (8, 8)
    )  # as in the archive: no class of its own
    (inside / "198.spider").mkdir()
    draw(inside / "198.spider" / "198_0001.jpg", (9, 9), 5)
    draw(inside / "198.spider" / "198_0002.jpg", (9, 9), 6)
    (inside / "198.spider" / "RENAME2").write_text("mv")
    facts = describe_dataset(folder_config(tmp_path))
    assert facts.classes == ("001.ak47", "056.dog", "198.spider", "257.clutter")
    assert (facts.num_train, facts.num_test) == (8, 0)
    assert facts == describe_dataset(folder_config(inside))
    assert scan_test_pictures(tmp_path)[0] == "all"
