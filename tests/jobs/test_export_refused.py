"""What ``betanas export`` refuses: foreign files, wrong places, and what answers otherwise."""

import ast
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from exportable import (
    NAMES,
    NETWORKS,
    names_in,
    network_of,
    trained_of,
    write_model,
    write_models,
)
from torch import Tensor

from betanas.architecture.layers import Architecture
from betanas.architecture.reference import ReferenceModel
from betanas.errors import InputError, RunError
from betanas.formats.classifier import (
    answer,
)
from betanas.formats.source import render
from betanas.formats.weights import write_safetensors
from betanas.jobs.export import FORMATS, Format, export
from betanas.models.trained import read_trained


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_models(tmp_path_factory.mktemp("trained"))


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
