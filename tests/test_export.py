"""``betanas export``: what was written runs in its own runtime and answers as before."""

import ast
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command import run, run_json
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn

from betanas.architecture.decoding import decode
from betanas.architecture.families import FAMILIES
from betanas.architecture.layers import Architecture
from betanas.architecture.reference import Network, ReferenceModel
from betanas.errors import InputError, RunError
from betanas.export import FORMATS, Exported, Format, export
from betanas.formats.classifier import (
    BATCH_SIZES,
    TOLERANCE,
    PixelClassifier,
    answer,
    compare,
    probe_batches,
)
from betanas.formats.source import render
from betanas.formats.weights import write_safetensors
from betanas.training.model import build_network
from betanas.training.trained import TrainedModel, read_trained, write_trained

NAMES = ("cat", 'a "quoted" dog', "üñí\n", "$name\\", "\udcff not UTF-8")
MEAN, STD = (0.48, 0.45, 0.30), (0.22, 0.25, 0.40)


def network_of(family: str, resolution: int, **changed: float) -> Architecture:
    kernel = {**FAMILIES[family].published, "K": 3.2, "B": 0.4, "E1": 3.0, **changed}
    return decode(FAMILIES[family], kernel, resolution, len(NAMES))


NETWORKS: dict[str, Network] = {
    "betanet2": network_of("betanet2", 32),
    "betanet3": network_of("betanet3", 24, k=2.5),
    "mobilenet_v3_small": ReferenceModel("mobilenet_v3_small", 32, len(NAMES)),
}
OWN = {"betanet2", "betanet3"}


def trained_of(network: Network) -> TrainedModel:
    """As if trained: batch norms that do something, logits that depend on the image."""
    torch.manual_seed(1)
    model = build_network(network)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.3, 1.7)
        elif isinstance(module, nn.Conv2d):
            # torchvision's own begin so small that little of the image arrives at the end.
            nn.init.kaiming_normal_(module.weight, mode="fan_in")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.1)
    facts = {"top1": 0.5, "dataset": "drawn"}
    return TrainedModel(network, model.state_dict(), NAMES, MEAN, STD, facts)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_model(folder: Path, trained: TrainedModel) -> Path:
    folder.mkdir(exist_ok=True)
    write_trained(folder / "model.pt", trained)
    return folder / "model.pt"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("trained")
    return {
        name: write_model(folder / name, trained_of(network)) for name, network in NETWORKS.items()
    }


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


@pytest.mark.parametrize(
    ("name", "form"),
    [(n, f) for n in NETWORKS for f in FORMATS if n in OWN or FORMATS[f].takes_references],
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

    here = str(Path(__file__).parents[1]).encode()
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
    out, err = run(tmp_path, "export", "--checkpoint", path, "--format", "tflite", code=2)
    assert out == ""
    assert err.splitlines()[1:] == [
        "error: --format must be one of onnx, torch-export, safetensors, python, but got 'tflite'"
    ]


# -- what must not be exported -------------------------------------------------------------------


def test_a_reference_model_has_no_source_of_ours(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"torchvision's mobilenet_v3_small; choose one of: onnx,"):
        export(checkpoints["mobilenet_v3_small"], "python", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_a_clear_error(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match=r"file must be a folder that can be written, but: .* --o"):
        export(checkpoints["betanet2"], "safetensors", tmp_path / "file")
    (tmp_path / "model.json").mkdir()
    with pytest.raises(InputError, match="must be a folder that can be written"):
        export(checkpoints["betanet2"], "safetensors", tmp_path)
    assert names_in(tmp_path) == ["file", "model.json"]


class _Evil:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._path),)


def test_a_foreign_file_is_refused_and_its_code_not_run(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with pytest.raises(InputError, match="cannot be read"):
        export(path, "torch-export")
    contents: list[Any] = [
        pickle.dumps(_Evil(tmp_path / "owned")),
        b"",
        b"\x89PNG",
        {"betanas": 1, "weights": _Evil(tmp_path / "owned")},
        {"weights": {}},
        {"betanas": 1},
        {"betanas": "1"},
        {"betanas": 1, "description": "{}", "weights": {}},
        {"betanas": 1, "description": "[", "weights": {}},
    ]
    for content in contents:
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        with pytest.raises(InputError, match=r"model\.pt .*betanas train"):
            export(path, "torch-export")
        assert names_in(tmp_path) == ["model.pt"]


def test_a_damaged_description_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    trained = read_trained(checkpoints["betanet2"])
    network = trained.network
    assert isinstance(network, Architecture)
    wrong = [
        replace(trained, classes=NAMES[:-1]),
        replace(trained, mean=(0.5, 0.5)),  # type: ignore[arg-type]
        replace(trained, std=("0.5", "0.5", "x")),  # type: ignore[arg-type]
        replace(trained, network=replace(network, layers=network.layers[:-1])),
        replace(trained, network=network_of("betanet2", 16, K=2.0)),
        # torchvision has it, but it is no classifier, and would download a part of itself
        replace(trained, network=ReferenceModel("fasterrcnn_resnet50_fpn", 32, len(NAMES))),
    ]
    for one in wrong:
        path = write_model(tmp_path, one)
        with pytest.raises(InputError, match=r"model\.pt must hold a network .* but is damaged"):
            export(path, "python")
        assert names_in(tmp_path) == ["model.pt"]


def test_no_description_becomes_code(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    trained = read_trained(checkpoints["betanet2"])
    network = trained.network
    assert isinstance(network, Architecture)
    names = ('"""\nimport os\n', "${classes}", "')", "\\", "\n#")
    source = render(replace(trained, classes=names), 1)
    values = {
        node.targets[0].id: node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert ast.literal_eval(values["CLASSES"]) == names

    code = "1\nimport os; os.mkdir('owned')"
    head, first, *others = network.layers
    hurt = [(replace(head, out_channels=code), first, *others)]
    hurt += [
        (head, replace(first, **{field: code}), *others)
        for field in ("in_channels", "out_channels", "stride", "expanded_channels")
    ]
    hurt += [(head, replace(first, out_resolution=code), *others)]
    for layers in hurt:
        one = replace(trained, network=replace(network, layers=layers))
        with pytest.raises(ValueError, match="Unknown format code 'd'"):
            render(one, 1)
        path = write_model(tmp_path, one)
        with pytest.raises((InputError, RunError), match=r"damaged|could not be exported"):
            export(path, "python")
        assert names_in(tmp_path) == ["model.pt"]


# -- an export that is wrong ---------------------------------------------------------------------


def test_a_model_without_finite_logits_leaves_nothing(tmp_path: Path) -> None:
    trained = trained_of(NETWORKS["betanet2"])
    trained.weights["classifier.bias"][0] = float("nan")
    path = write_model(tmp_path, trained)
    with pytest.raises(RunError, match="logits are not finite"):
        export(path, "safetensors")
    assert names_in(tmp_path) == ["model.pt"]


def test_a_format_that_answers_otherwise_leaves_nothing(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = read_trained(checkpoints["betanet2"])

    def forgetful(batches: Any) -> list[Tensor]:  # it does not normalise
        return answer(trained.build(), batches)

    wrong = Format("model.safetensors", write_safetensors, lambda _: forgetful)
    monkeypatch.setitem(FORMATS, "wrong", wrong)
    with pytest.raises(RunError, match="must equal the trained model's within 0"):
        export(checkpoints["betanet2"], "wrong", tmp_path)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("name", NETWORKS)
def test_small_mistakes_are_beyond_the_tolerance(name: str, checkpoints: dict[str, Path]) -> None:
    trained = read_trained(checkpoints[name])
    batches = probe_batches(trained.network.resolution)
    assert [len(batch) for batch in batches] == list(BATCH_SIZES)
    assert all(b.min() >= 0 and b.max() <= 1 for b in batches)
    expected = answer(PixelClassifier(trained.build(), MEAN, STD), batches)
    assert compare(expected, expected, "itself") == 0.0

    other_epsilon = trained.build()
    for module in other_epsilon.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 3e-3
    shifted = (MEAN[0] + 1 / 255, *MEAN[1:])
    for mistaken in (
        PixelClassifier(other_epsilon, MEAN, STD),
        PixelClassifier(trained.build(), MEAN[::-1], STD),
        PixelClassifier(trained.build(), shifted, STD),
    ):
        with pytest.raises(RunError, match="but differ by"):
            compare(expected, answer(mistaken, batches), "a mistaken one")
    with pytest.raises(RunError, match="must have the shapes"):
        compare(expected, [logits[:, :-1] for logits in expected], "one class too few")
    with pytest.raises(RunError, match="differ by nan"):
        compare(expected, [logits * float("nan") for logits in expected], "NaN")
    assert TOLERANCE < 1e-3
