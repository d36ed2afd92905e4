"""What ``import betanas`` offers: every name, the study, its model, and pictures answered."""

import copy
import doctest
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from command import ask, run_json, write_study
from exportable import NETWORKS, trained_of, write_model
from generated import generate_database
from PIL import Image

import betanas
from betanas.data.decode import decode_pictures
from betanas.errors import InputError, StudyFileError
from betanas.images.augment import EvalTransform
from betanas.jobs.recommend import recommended
from betanas.study.loading import changed_definition, load_definition, override_lines

ROOT = Path(__file__).parents[1]
SIDE = 32

# -- the names ------------------------------------------------------------------------------------


def test_importing_imports_nothing_heavy_and_knows_every_name() -> None:
    code = (
        "import sys, betanas; names = dir(betanas)\n"
        "heavy = {'torch', 'optuna', 'numpy', 'scipy', 'pydantic', 'typer', 'rich', 'PIL'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "betanas.Real, betanas.InputError, betanas.load_study, betanas.Layer, betanas.Family\n"
        "assert not {'torch', 'optuna'} & set(sys.modules)\n"
        "assert not [n for n in betanas.__all__ if getattr(betanas, n) is None or n not in names]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_name_is_documented() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    for name in betanas.__all__:
        assert getattr(betanas, name).__doc__
        assert f"`betanas.{name}" in page or f"betanas.{name}(" in page, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = betanas.nothing


@pytest.mark.parametrize(
    "module", ["betanas.parameters", "betanas.models.network", "betanas.search.architecture_space"]
)
def test_examples_in_docstrings(module: str) -> None:
    tested = doctest.testmod(import_module(module))
    assert tested.attempted
    assert not tested.failed


# -- overrides ------------------------------------------------------------------------------------


def test_overrides_as_a_mapping_say_what_the_command_line_says() -> None:
    mapping = {
        "budget.seconds": 30,
        "dataset.root": Path("ph'o\"tos"),
        "recipe.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "parameters.k": (2, np.float64(3.5)),
        "recipe.flip": False,
        "search.seed": np.int64(4),
    }
    lines = [
        "budget.seconds=30", "dataset.root='''ph'o\"tos'''", "recipe.flip=false",
        "recipe.learning_rate={low = 1e-4, high = 1e-2, log = true}", "parameters.k=[2, 3.5]",
        "search.seed=4",
    ]  # fmt: skip
    found = load_definition("pictures", mapping)
    assert found == load_definition("pictures", lines)
    assert changed_definition(found, {}, None) == found
    assert changed_definition(found, {"budget.epochs": 3}, "other").budget.epochs == 3
    kept = changed_definition(found, (), None).recipe.model_fields_set
    assert "weight_decay" not in kept  # what was left out may have another default elsewhere


@pytest.mark.parametrize("wrong", [{"budget.seconds": None}, {"search": object()}, "search.seed=4"])
def test_overrides_that_cannot_be(wrong: object) -> None:
    with pytest.raises(InputError, match="overrides"):
        override_lines(wrong)


def test_overrides_are_checked() -> None:
    with pytest.raises(StudyFileError, match=r"budget\.seconds must be > 0, but got -1"):
        betanas.optimize("digits", overrides={"budget.seconds": -1})


# -- a study --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_study_is_searched_resumed_trained_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BETANAS_STORAGE", raising=False)
    write_study(tmp_path)
    before = optuna.logging.get_verbosity()
    study = betanas.optimize("tiny.toml", overrides={"search.trials": 3}, progress=False)
    assert capsys.readouterr().err == ""
    first = study.records()
    assert sum(r.counts for r in first) == 3
    study = betanas.optimize("tiny.toml", overrides={"search.trials": 5})
    told = capsys.readouterr()
    assert "study tiny goes on: 3 of 5 trials" in told.err
    assert told.out == ""
    assert optuna.logging.get_verbosity() == before
    assert study.records()[: len(first)] == first
    assert sum(r.counts for r in study.records()) == 5

    best = study.best()
    assert best.value == max(r.value for r in study.records() if r.state == "complete")
    assert best.architecture.fingerprint == best.fingerprint == best.origin.fingerprint
    assert copy.deepcopy(best) == best == study.trial(best.number)
    with pytest.raises(AttributeError):
        _ = best.predicted_value
    model = best.train(epochs=2, progress=False)
    assert capsys.readouterr().err == ""
    assert model.facts["epochs"] == 2
    assert model.facts["fingerprint"] == best.fingerprint
    assert model.path == tmp_path / "storage/models" / f"tiny-{best.number}-16-0" / "model.pt"
    written = model.path.stat().st_mtime_ns
    again = run_json(tmp_path, "train", "--model", f"tiny.toml:{best.number}", "--epochs", "2",
                     "--output", str(model.path.parent))  # fmt: skip
    assert again["top1"] == model.facts["top1"]
    assert best.train(epochs=2, progress=False).path.stat().st_mtime_ns == written
    digit = (np.arange(64, dtype=np.uint8).reshape(8, 8) % 16) * 15
    assert model.predict(digit) == betanas.load_model(model.path).predict(digit)
    assert sum(model.predict(digit).probabilities.values()) == pytest.approx(1)


def test_the_recommended_kernel_is_that_of_the_commands(tmp_path: Path) -> None:
    generate_database(tmp_path / "study.db", 12)
    study = betanas.load_study("betanet2", f"sqlite:///{tmp_path}/study.db")
    found = study.recommended()
    expected = recommended(study.definition, study.stored.settings, study.records())
    assert (found.number, found.value) == (None, expected.predicted_value)
    assert found.parameters == expected.parameters
    assert found.predicted_std == expected.predicted_std
    assert found.architecture.resolution == study.definition.resolution
    with pytest.raises(InputError, match=r"number must be in \[0, 11\], but got 12"):
        study.trial(12)


# -- a model --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), trained_of(NETWORKS["betanet2"]))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of the network's side, of another one, upright, and large."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    files = []
    for i, (width, height) in enumerate([(SIDE, SIDE), (50, 50), (40, 90), (700, 300)]):
        pixels = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
        files.append(folder / f"{i}.png")
        Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).save(files[-1])
    return files


def test_a_prediction_is_the_networks_own_answer(checkpoint: Path, photos: list[Path]) -> None:
    model = betanas.load_model(checkpoint)
    trained = model.trained
    found = model.predict(photos)
    for file, prediction in zip(photos, found, strict=True):
        with Image.open(file) as image:
            square = min(image.size)
        side = min(square, round(SIDE * 256 / 224)) if square not in (SIDE, 50) else square
        pixels = torch.from_numpy(next(decode_pictures([str(file)], side)))
        normalised = EvalTransform(SIDE, trained.mean, trained.std)(pixels)
        with torch.no_grad():
            expected = trained.build()(normalised).softmax(1)[0]
        shares = torch.tensor([prediction.probabilities[name] for name in model.classes])
        assert prediction.label == model.classes[int(expected.argmax())]
        torch.testing.assert_close(shares, expected, atol=1e-5, rtol=0)
    assert len({prediction.probability for prediction in found}) == len(photos)


def test_pixels_and_files_are_answered_alike(checkpoint: Path, photos: list[Path]) -> None:
    model = betanas.load_model(checkpoint)
    pixels = [np.asarray(Image.open(file)) for file in photos]
    files, arrays = model.predict([str(file) for file in photos]), model.predict(pixels)
    assert [p.image for p in files] == list(map(str, photos))
    for file, array in zip(files, arrays, strict=True):
        assert array.image is None
        assert array.label == file.label
        assert array.probability == pytest.approx(file.probability, abs=1e-5)
    assert model.predict(photos[0]).label == files[0].label
    many = model.predict([photos[1]] * 70)
    assert len(many) == 70
    assert {p.label for p in many} == {files[1].label}
    assert model.predict([]) == []
    grey = pixels[0][..., 0]
    assert model.predict(grey).top == model.predict(np.stack([grey] * 3, axis=2)).top


@pytest.mark.parametrize(
    ("shape", "kind"), [((8, 8, 4), np.uint8), ((2, 8, 8, 3), np.uint8), ((8, 8, 3), np.float32)]
)
def test_pixels_of_another_shape_or_type(checkpoint: Path, shape: tuple, kind: type) -> None:
    with pytest.raises(InputError, match="a picture must be a path or uint8 pixels"):
        betanas.load_model(checkpoint).predict(np.zeros(shape, kind))


@pytest.mark.slow
def test_a_model_is_exported(checkpoint: Path, tmp_path: Path) -> None:
    model = betanas.load_model(checkpoint)
    exported = model.export("torch-export", folder=tmp_path / "out")
    program = torch.export.load(exported.files[0]).module()
    pixels = torch.rand(2, 3, SIDE, SIDE)
    torch.testing.assert_close(program(pixels), model.module(pixels), atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match="--format must be one of onnx"):
        model.export("pickle")


# -- the command ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_predict_tells_what_the_model_does(checkpoint: Path, photos: list[Path]) -> None:
    names = [str(file) for file in photos[:2]]
    rows = run_json(checkpoint.parent, "predict", "--checkpoint", "model.pt", *names, "--top", "3")
    expected = betanas.load_model(checkpoint).predict(names)
    assert [row["image"] for row in rows] == names
    for row, prediction in zip(rows, expected, strict=True):
        assert row["class"] == prediction.label == row["top"][0]["class"]
        assert row["probability"] == pytest.approx(prediction.probability, abs=1e-6)
        assert [t["class"] for t in row["top"]] == [name for name, _ in prediction.top[:3]]
    out, _ = ask(checkpoint.parent, "predict", "--checkpoint", "model.pt", names[0])
    assert "probability" in out
    assert Path(names[0]).name in out


@pytest.mark.slow
def test_predict_refuses_in_one_line(checkpoint: Path, photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    good, model = str(photos[0]), str(checkpoint)
    for checkpoint_, image, told in (
        (model, "broken.jpg", "broken.jpg: every picture must be readable"),
        (good, good, "is no model of betanas train"),
    ):
        _, err = ask(tmp_path, "predict", "--checkpoint", checkpoint_, good, image, code=2)
        assert told in err
        assert len(err.splitlines()) == 2  # "loading ..." and the error
    for image in (tmp_path / "none.png", tmp_path):
        with pytest.raises(InputError, match=f"{image}: every picture must be readable"):
            betanas.load_model(model).predict([good, image])
    with pytest.raises(InputError, match=r"none\.pt cannot be read \(No such file"):
        betanas.load_model(tmp_path / "none.pt")
