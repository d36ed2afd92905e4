"""``betanas evaluate``: what a model answers to the images of a test part, exported or not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import ask, run_json
from exportable import NAMES, NETWORKS, trained_of, write_model
from PIL import Image
from sklearn.datasets import load_digits

from betanas.architecture.reference import ReferenceModel
from betanas.errors import DataError, InputError
from betanas.jobs.evaluate import evaluate
from betanas.jobs.export import export
from betanas.jobs.model import load_model
from betanas.models.trained import TrainedModel, write_trained
from betanas.study.recipe import DatasetConfig

CLASSES = ("cat", "dog", "newt", "owl", "pig")  # as many as the networks have outputs
PICTURES = 60  # of a class


def draw_pictures(folder: Path) -> Path:
    """``folder/test/CLASS``: digits, enlarged; what they show is of no importance here."""
    pixels = load_digits().images
    for i in range(PICTURES * len(CLASSES)):
        name = CLASSES[i % len(CLASSES)]
        place = folder / "test" / name
        place.mkdir(parents=True, exist_ok=True)
        grey = Image.fromarray((pixels[i] * 15.9).astype(np.uint8))
        grey.resize((40, 40)).save(place / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_pictures(tmp_path_factory.mktemp("pictures"))


def named(network: str) -> TrainedModel:
    found = trained_of(NETWORKS[network])
    return TrainedModel(found.network, found.weights, CLASSES, found.mean, found.std, found.facts)


def folder_data(root: Path) -> DatasetConfig:
    return DatasetConfig(name="imagefolder", root=str(root))


@pytest.mark.parametrize(
    ("network", "form"),
    [("betanet2", "onnx"), ("betamix-pooled", "torch-export")],
)
@pytest.mark.slow
def test_an_exported_model_is_right_exactly_as_often(
    network: str, form: str, pictures: Path, tmp_path: Path
) -> None:
    path = write_model(tmp_path, named(network))
    own = evaluate(path, folder_data(pictures), tmp_path, "cpu")
    exported = Path(export(path, form).files[0])
    other = evaluate(exported, folder_data(pictures), tmp_path, "cpu")
    assert (own.top1, own.top5) == (other.top1, other.top5)
    assert np.array_equal(own.confusion, other.confusion)
    assert own.loss == pytest.approx(other.loss, rel=1e-4)
    assert 0 < own.top1 < 1  # else equality would say nothing
    assert own.images == PICTURES * len(CLASSES)


def test_all_numbers_are_those_of_single_predictions(pictures: Path, tmp_path: Path) -> None:
    path = write_model(tmp_path, named("betanet2"))
    found = evaluate(path, folder_data(pictures), tmp_path, "cpu").to_json()
    model, files = load_model(path), sorted((pictures / "test").rglob("*.png"))
    answers = model.predict([str(file) for file in files])
    confusion = np.zeros((5, 5), dtype=int)
    losses = []
    for file, answer in zip(files, answers, strict=True):
        confusion[CLASSES.index(file.parent.name), CLASSES.index(answer.label)] += 1
        losses.append(-np.log(answer.probabilities[file.parent.name]))
    assert found["confusion"] == confusion.tolist()
    assert found["top1"] == confusion.trace() / len(files)
    assert found["top5"] == 1.0
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    for place, (name, row) in enumerate(zip(CLASSES, found["classes"], strict=True)):
        accuracy = confusion[place, place] / PICTURES
        assert row == {"class": name, "accuracy": accuracy, "images": PICTURES}


def test_a_folder_of_some_classes_is_matched_by_their_names(pictures: Path, tmp_path: Path) -> None:
    some = tmp_path / "some"
    some.mkdir()
    for name in ("newt", "dog"):
        (some / name).symlink_to(pictures / "test" / name)
    path = write_model(tmp_path / "model", named("betanet2"))
    found = evaluate(path, folder_data(some), tmp_path, "cpu")
    whole = evaluate(path, folder_data(pictures), tmp_path, "cpu")
    assert (found.part, whole.part) == ("all", "test")
    assert np.array_equal(found.confusion[[1, 2]], whole.confusion[[1, 2]])
    assert found.confusion.sum() == found.confusion[[1, 2]].sum() == 2 * PICTURES
    assert [row["accuracy"] for row in found.by_class()][::3] == [None, None]


def test_what_cannot_be_judged_is_refused(pictures: Path, tmp_path: Path) -> None:
    path = write_model(tmp_path, trained_of(NETWORKS["betanet2"]))  # of other classes
    assert NAMES != CLASSES
    with pytest.raises(InputError, match="does not know dog, newt, owl"):
        evaluate(path, folder_data(pictures), tmp_path, "cpu")
    for name in ("model.onnx", "model.pt2"):
        with pytest.raises(InputError, match="no such file"):
            evaluate(tmp_path / name, folder_data(pictures), tmp_path, "cpu")
        (tmp_path / name).write_bytes(b"no model")
        with pytest.raises(InputError, match="cannot be opened"):
            evaluate(tmp_path / name, folder_data(pictures), tmp_path, "cpu")
    (tmp_path / "only" / "train").mkdir(parents=True)
    (tmp_path / "only" / "train" / "cat").symlink_to(pictures / "test" / "cat")
    with pytest.raises(DataError, match="a test part must be in the folder test"):
        evaluate(path, folder_data(tmp_path / "only"), tmp_path, "cpu")


@pytest.mark.slow
def test_a_published_data_set_by_name_on_the_command_line(tmp_path: Path) -> None:
    network = ReferenceModel("mobilenet_v3_small", 16, 10)
    found = trained_of(network)
    digits = tuple("0123456789")
    trained = TrainedModel(network, found.weights, digits, found.mean, found.std, {})
    write_trained(tmp_path / "model.pt", trained)
    told: dict[str, Any] = run_json(
        tmp_path, "evaluate", "--checkpoint", "model.pt", "--dataset", "digits"
    )
    assert told["part"] == "test"
    assert sum(row["images"] for row in told["classes"]) == told["images"] == 360


def test_images_must_be_named(tmp_path: Path) -> None:
    _, err = ask(tmp_path, "evaluate", "--checkpoint", "model.pt", code=2)
    assert "either --data FOLDER or --dataset NAME" in err
