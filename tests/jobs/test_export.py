"""``betanas export``: what was written runs in its own runtime and answers as before."""

import ast
import json
import os
import re
import runpy
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import ask, run, run_json
from exportable import (
    MEAN,
    NAMES,
    NETWORKS,
    OWN,
    STD,
    names_in,
    trained_of,
    write_model,
    write_models,
)
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn

from betanas.architecture.reference import ReferenceModel
from betanas.jobs.export import FORMATS, Exported, export
from betanas.jobs.model import load_model
from betanas.models.network import build_network
from betanas.models.trained import TrainedModel, read_trained


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_models(tmp_path_factory.mktemp("trained"))


def test_the_test_models_tell_images_apart(checkpoints: dict[str, Path]) -> None:
    for path in checkpoints.values():
        trained = read_trained(path)
        logits = torch.cat(reference(trained, images(trained, 8, 8)))
        assert (logits.amax(0) - logits.amin(0)).max() > 0.3 * logits.abs().max()


# -- every format, in its own runtime ------------------------------------------------------------


def images(trained: TrainedModel, *sizes: int) -> list[Tensor]:
    side = trained.network.resolution
    generator = torch.Generator().manual_seed(7)
    drawn = [torch.rand(n, 3, 4, 4, generator=generator) ** 2 for n in sizes]
    return [nn.functional.interpolate(pixels, size=side, mode="bilinear") for pixels in drawn]


def reference(trained: TrainedModel, batches: list[Tensor]) -> list[Tensor]:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (trained.mean, trained.std))
    model = trained.build()
    with torch.no_grad():
        return [model((batch - mean) / std) for batch in batches]


def run_onnx(exported: Exported, trained: TrainedModel, batches: list[Tensor]) -> list[Tensor]:
    runtime = pytest.importorskip("onnxruntime", reason="pip install 'betanas[export]'")
    session = runtime.InferenceSession(exported.files[0], providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == list(NAMES)
    assert json.loads(told["betanas"]) == description(trained)
    ((given,), (answered,)) = session.get_inputs(), session.get_outputs()
    side = trained.network.resolution
    assert (given.name, given.type, given.shape[1:]) == ("images", "tensor(float)", [3, side, side])
    assert (answered.name, answered.shape[1:]) == ("logits", [len(NAMES)])
    return [torch.from_numpy(session.run(None, {"images": b.numpy()})[0]) for b in batches]


def run_program(exported: Exported, trained: TrainedModel, batches: list[Tensor]) -> list[Tensor]:
    extra = {"betanas.json": ""}
    module = torch.export.load(exported.files[0], extra_files=extra).module()
    assert json.loads(extra["betanas.json"]) == description(trained)
    return [module(batch).detach() for batch in batches]


def run_safetensors(
    exported: Exported, trained: TrainedModel, batches: list[Tensor]
) -> list[Tensor]:
    safetensors = pytest.importorskip("safetensors", reason="pip install 'betanas[export]'")
    weights, told = exported.files
    assert json.loads(Path(told).read_text()) == description(trained)
    with safetensors.safe_open(weights, "pt") as file:
        assert json.loads(file.metadata()["betanas"]) == description(trained)
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert all(torch.equal(found[name], value) for name, value in trained.weights.items())
    return reference(replace(trained, weights=found), batches)


def run_source(exported: Exported, trained: TrainedModel, batches: list[Tensor]) -> list[Tensor]:
    source, _weights = exported.files
    imported = re.findall(r"(?m)^\s*(?:import|from) (\w+)", Path(source).read_text())
    assert not {"betanas", "torchvision", "timm"} & set(imported)
    assert "torch" in imported
    if trained.network == NETWORKS["betanet2"]:
        return run_source_alone(exported, trained, batches)
    found = runpy.run_path(source, run_name="exported")
    told = tuple(found[name] for name in ("CLASSES", "MEAN", "STD", "RESOLUTION"))
    assert told == (NAMES, MEAN, STD, trained.network.resolution)
    network = found["load"]()
    return [network(batch).detach() for batch in batches]


def run_source_alone(
    exported: Exported, trained: TrainedModel, batches: list[Tensor]
) -> list[Tensor]:
    """In a process that sees nothing of this project."""
    source, _weights = exported.files
    folder = Path(source).parent
    torch.save(batches, folder / "images.tensors")
    code = (
        f"import sys, torch; sys.path.insert(0, {str(folder)!r}); sys.dont_write_bytecode = True\n"
        "import model; network = model.load(); folder = model.WEIGHTS.parent\n"
        "batches = torch.load(folder / 'images.tensors')\n"
        "torch.save([network(b).detach() for b in batches], folder / 'logits.tensors')\n"
        "print(sorted({'betanas', 'torchvision', 'numpy.f2py'} & set(sys.modules)))\n"
        "print(ascii((model.CLASSES, model.MEAN, model.STD, model.RESOLUTION)))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    imported, told = ended.stdout.splitlines()
    assert imported == "[]"
    assert ast.literal_eval(told) == (NAMES, MEAN, STD, trained.network.resolution)
    found: list[Tensor] = torch.load(folder / "logits.tensors")
    (folder / "images.tensors").unlink()
    (folder / "logits.tensors").unlink()
    return found


def description(trained: TrainedModel) -> Any:
    whole = {
        "network": trained.network.to_json(),
        "resolution": trained.network.resolution,
        "classes": NAMES,
        "mean": MEAN,
        "std": STD,
        "facts": trained.facts,
    }
    return json.loads(json.dumps(whole))


RUNTIMES: dict[str, Callable[[Exported, TrainedModel, list[Tensor]], list[Tensor]]] = {
    "onnx": run_onnx,
    "torch-export": run_program,
    "safetensors": run_safetensors,
    "python": run_source,
}
FILES = {
    "onnx": ["model.onnx"],
    "torch-export": ["model.pt2"],
    "safetensors": ["model.safetensors", "model.json"],
    "python": ["model.py", "model-weights.pt"],
}


def _is_slow(name: str, form: str) -> bool:
    """Tracing a graph takes seconds: the quick tests do so with networks that have most in them."""
    return form in {"onnx", "torch-export"} and name not in {"betanet2", "betamix-residual"}


@pytest.mark.parametrize(
    ("name", "form"),
    [
        pytest.param(name, form, marks=[pytest.mark.slow] * _is_slow(name, form))
        for name in NETWORKS
        for form in (("onnx", "python") if name.startswith(("betamix", "mbconv")) else FORMATS)
        if name in OWN or FORMATS[form].takes_references
    ],
)
def test_an_exported_model_answers_as_the_trained_one(
    name: str, form: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    trained = read_trained(checkpoints[name])
    exported = export(checkpoints[name], form, tmp_path / "a" / "b")
    assert [Path(file).name for file in exported.files] == FILES[form]
    assert names_in(tmp_path / "a" / "b") == sorted(FILES[form])
    weights = build_network(NETWORKS[name]).parameters()
    assert exported.num_params == sum(w.numel() for w in weights)

    batches = images(trained, 1, 2, 5, 3)
    expected, found = reference(trained, batches), RUNTIMES[form](exported, trained, batches)
    scale = max(logits.abs().max().item() for logits in expected)
    for want, got in zip(expected, found, strict=True):
        assert got.shape == want.shape
        assert (got - want).abs().max().item() <= 1e-5 * scale
    assert 0 <= exported.max_abs_error <= 1e-5 * scale

    here = str(Path(__file__).parents[2]).encode()
    for file in exported.files:
        content = Path(file).read_bytes()
        assert here not in content  # where the sources lie is nobody's business
        assert Path(file).stat().st_mode & 0o444 == 0o444 & ~_umask()


def test_weights_that_need_their_version_are_taken(tmp_path: Path) -> None:
    checkpoint = write_model(tmp_path, trained_of(ReferenceModel("mnasnet0_5", 32, len(NAMES))))
    assert export(checkpoint, "safetensors").max_abs_error == 0.0


def _umask() -> int:
    mask = os.umask(0o22)
    os.umask(mask)
    return mask


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained_here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which ``betanas train`` has written a model of the digits to ``m/model.pt``."""
    folder = tmp_path_factory.mktemp("digits")
    options = ("--dataset", "digits", "--resolution", "16", "--epochs", "8", "--output", "m")
    run(folder, "train", "--model", "betanet2", *options)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "torch-export"])
def test_stdout_is_one_json_document(form: str, trained_here: Path) -> None:
    found = run_json(trained_here, "export", "--checkpoint", "m/model.pt", "--format", form)
    assert found["files"] == [f"m/{FILES[form][0]}"]
    assert 0 <= found["max_abs_error"] < 1e-4
    assert found["format"] == form
    assert found["num_params"] == read_num_params(trained_here / "m" / "model.pt")
    assert (trained_here / "m" / FILES[form][0]).is_file()


def read_num_params(checkpoint: Path) -> int:
    return sum(weight.numel() for weight in read_trained(checkpoint).build().parameters())


@pytest.mark.slow
def test_the_standalone_file_reads_digits(trained_here: Path) -> None:
    out, _ = run(trained_here, "export", "--checkpoint", "m/model.pt", "--format", "python")
    assert out.splitlines()[:2] == ["m/model.py", "m/model-weights.pt"]
    digits = load_digits()
    for i in range(40):
        pixels = (digits.images[i] * 255 / 16).round().astype("uint8")
        Image.fromarray(pixels).save(trained_here / f"{i}.png")
    pictures = [f"{i}.png" for i in range(40)]
    told = subprocess.run(
        [sys.executable, "-I", "m/model.py", *pictures],
        cwd=trained_here,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert re.fullmatch(r"0\.png: \d \d+\.\d %, \d \d+\.\d %, \d \d+\.\d %", told[0])
    right = [line.split()[1] == str(digits.target[i]) for i, line in enumerate(told)]
    assert len(right) == 40
    assert sum(right) >= 30

    ended = subprocess.run(
        [sys.executable, "-I", "m/model.py"],
        cwd=trained_here,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (1, "usage: python model.py PICTURE ...\n")


def write_pictures(folder: Path) -> list[str]:
    """Of each kind that is prepared in a way of its own."""
    generator = np.random.default_rng(0)

    def drawn(width: int, height: int, channels: int, levels: int = 256) -> Any:
        coarse = generator.random((5, 7, channels))
        smooth = [
            Image.fromarray(coarse[:, :, i].astype("float32")).resize((width, height))
            for i in range(channels)
        ]
        return np.squeeze((np.dstack(smooth) * (levels - 1)).round().astype("uint16"))

    def colours(width: int, height: int, channels: int = 3) -> Image.Image:
        return Image.fromarray(drawn(width, height, channels).astype("uint8"))

    # Turned to the left, and the resolution is a text, at which Pillow's exif_transpose fails.
    turned = struct.pack("<HHIHxxHHI4s", 0x0112, 3, 1, 6, 0x011A, 2, 3, b"72")
    turned = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + turned + bytes(4)
    colours(640, 411).save(folder / "photo.jpg", exif=turned)
    colours(900, 901).convert("CMYK").save(folder / "print.jpg")
    colours(300, 300).save(folder / "square.png")
    colours(200, 200).save(folder / "own.png")
    colours(16, 16).save(folder / "exact.png")
    colours(3, 5).save(folder / "tiny.tif")
    colours(41, 30, 4).save(folder / "seen-through.png")
    colours(50, 33).convert("P").save(folder / "palette.gif", transparency=3)
    colours(77, 40).convert("L").save(folder / "grey.png")
    Image.fromarray(drawn(64, 47, 1, 65536)).save(folder / "deep.png")
    return sorted(map(str, folder.iterdir()))


def test_the_standalone_file_prepares_pictures_as_predict(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "pictures").mkdir()
    pictures = write_pictures(tmp_path / "pictures")
    checkpoint = checkpoints["betanet2"]
    alone = runpy.run_path(str(export(checkpoint, "python", tmp_path / "alone").files[0]))
    network = alone["load"]()
    with torch.inference_mode():
        found = [network(alone["read_picture"](p)[None]).softmax(dim=1)[0] for p in pictures]
    for told, chances in zip(load_model(checkpoint).predict(pictures), found, strict=True):
        expected = told.probabilities
        for name, chance in zip(alone["CLASSES"], chances.tolist(), strict=True):
            assert chance == pytest.approx(expected[name], abs=1e-5), told.image


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "packages"),
    [("onnx", "onnx, onnxscript, onnxruntime"), ("safetensors", "safetensors")],
)
def test_a_missing_package_is_one_line_with_its_cure(
    form: str, packages: str, checkpoints: dict[str, Path]
) -> None:
    arguments = ["export", "--checkpoint", str(checkpoints["betanet2"]), "--format", form]
    code = (
        f"import sys; sys.argv = ['betanas', *{arguments!r}]\n"
        f"sys.modules |= dict.fromkeys({packages.split(', ')!r})\n"
        "from betanas.cli import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.splitlines()[1:] == [
        f"error: --format {form} needs {packages}: pip install 'betanas[export]'"
    ]


def test_a_wrong_call_is_one_line(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    path = str(checkpoints["betanet2"])
    out, err = ask(tmp_path, "export", "--checkpoint", path, "--format", "tflite", code=2)
    assert out == ""
    assert err.splitlines()[1:] == [
        "error: --format must be one of onnx, torch-export, safetensors, python, but got 'tflite'"
    ]
