"""``betanas describe``: the layers of a kernel, of a published one, of a trial."""

import json
from pathlib import Path

import pytest
from calls import invoke, invoke_json, run_json

from betanas.architecture.complexity import count
from betanas.architecture.decoding import decode
from betanas.architecture.families import FAMILIES

PUBLISHED = ("describe", "--family", "betanet2", "--resolution", "224", "--classes", "100")


def test_describe_published(tmp_path: Path) -> None:
    found = run_json(tmp_path, *PUBLISHED, "--published")
    family = FAMILIES["betanet2"]
    architecture = decode(family, family.published, 224, 100)
    costs = count(architecture, 100)
    assert found["num_params"] == 8_859_193
    assert found["macs"] == costs.macs
    assert found["activation_bytes"] == costs.activation_bytes
    assert found["latent_channels"] == 1112
    assert found["fingerprint"] == architecture.fingerprint
    assert len(found["layers"]) == 19
    for row, layer in zip(found["layers"], architecture.layers, strict=True):
        assert row["block"] == str(layer.block)
        for name in ("in_channels", "out_channels", "expansion_ratio", "stride", "se_ratio"):
            assert row[name] == getattr(layer, name)
    assert [row["block"] for row in found["layers"]] == ["CNA"] + ["FMBC"] * 5 + ["MBC"] * 13


def test_describe_parameters() -> None:
    kernel = json.dumps(dict(FAMILIES["betanet2"].published))
    given = invoke_json(*PUBLISHED, "--parameters", kernel, "--batch-size", "1")
    published = invoke_json(*PUBLISHED, "--published")
    assert given.pop("activation_bytes") < published.pop("activation_bytes") / 90
    assert given == published


@pytest.mark.parametrize(
    ("asked", "num_params", "macs"),
    [
        ("resnet18", 11_689_512, 1_814_073_344),
        ("efficientnet_b0", 5_288_548, None),
        ("nasnet_mobile", 5_289_978, 563_638_816),
        ("efficientnet-b0", 5_288_548, None),
        ("mobilenet_v2+3x3@32 --classes 100", 2_351_972, None),
        ("betanet2 --classes 100", 8_859_193, None),
    ],
)
def test_describe_any_model(asked: str, num_params: int, macs: int | None) -> None:
    found = invoke_json("describe", "--model", *asked.split())
    assert found["num_params"] == num_params
    assert found["macs"] == (macs or found["macs"]) > 0
    assert found["num_classes"] == (100 if "100" in asked else 1000)
    assert found["resolution"] == (32 if "@32" in asked else 224)


def test_a_studys_kernel_is_described_as_the_study_has_it() -> None:
    found = invoke_json("describe", "--model", "digits:published")
    assert (found["resolution"], found["num_classes"]) == (16, 10)
    assert invoke_json("describe", "--model", "digits:published@32")["resolution"] == 32


def test_describe_for_people() -> None:
    ended = invoke(*PUBLISHED, "--published")
    assert (ended.code, ended.err) == (0, "")
    lines = [line.split() for line in ended.out.splitlines()]
    assert ["MBC", "448", "448", "2.19", "1", "19.63", "7", "7"] in lines
    assert len(lines) == 1 + 10 + 1
    assert "8,859,193 parameters" in ended.out


def test_describe_a_trial(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(begun)
    rows = invoke_json("trials", "--study", "mine.toml")
    best = invoke_json("describe", "--study", "mine.toml", "--best")
    assert best["fingerprint"] == rows[4]["fingerprint"]
    assert best["activation_bytes"] == rows[4]["activation_bytes"]
    assert (best["resolution"], best["num_classes"]) == (16, 10)
    third = invoke_json("describe", "--study", "mine.toml", "--trial", "3")
    assert third["fingerprint"] == rows[3]["fingerprint"]


def test_describe_a_cell() -> None:
    """With the resolution and the classes that the space is published for."""
    kernel = {f"op{i}": "none" for i in range(6)} | {"op0": "nor_conv_3x3", "op4": "skip_connect"}
    described = ("describe", "--family", "nasbench201", "--parameters")
    found = invoke_json(*described, json.dumps(kernel))
    assert found["cell"] == "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|"
    assert (found["resolution"], found["num_classes"]) == (32, 10)
    assert found["num_params"] == 73_306 + sum(5 * (9 * c * c + 2 * c) for c in (16, 32, 64))
    assert [y["block"] for y in found["layers"]].count("CELL") == 15
    same = dict.fromkeys(kernel, "none") | {"op3": "nor_conv_3x3"}
    other = invoke_json(*described, json.dumps(same), "--classes", "10")
    assert other["fingerprint"] == found["fingerprint"]
    larger = invoke_json(*described, json.dumps(kernel), "--resolution", "48", "--classes", "100")
    assert larger["num_params"] == found["num_params"] + 90 * 65
    assert larger["fingerprint"] != found["fingerprint"]
