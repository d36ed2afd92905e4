"""``betanas studies`` and ``betanas check``: study files, before a trial is trained."""

import re
from pathlib import Path

from calls import SQUARES, invoke, run_json, write

from betanas.architecture.families import FAMILIES


def test_studies(tmp_path: Path) -> None:
    found = run_json(tmp_path, "studies")
    assert [row["name"] for row in found] == [
        "betanet2",
        "betanet3",
        "caltech256",
        "cifar10",
        "demo",
        "digits",
        "efficientnet-grid",
        "nasbench201-cifar10",
        "nasbench201-cifar100",
        "nasbench201-free",
        "nasbench201-imagenet16",
        "nasnet-mobile",
        "pictures",
        "pictures-gpu",
        "proxyless",
        "singlepath",
        "tiny-imagenet-singlepath",
    ]
    assert found[0] == {
        "name": "betanet2",
        "family": "betanet2",
        "resolution": 224,
        "dataset": "cifar100",
        "budget": {"seconds": 300.0},
        "trials": 200,
    }
    lines = invoke("studies").out.splitlines()
    assert [line.split()[0] for line in lines] == [row["name"] for row in found]


def test_check_a_good_file(tmp_path: Path) -> None:
    write(tmp_path)
    found = run_json(tmp_path, "check", "mine.toml", "--set", "parameters.K=[2, 3]")
    assert found["ok"] is True
    assert 0 < found["feasible_fraction"] <= 1
    assert tuple(found["parameters"]) == FAMILIES["betanet2"].names
    assert found["parameters"]["k"] == [2.5, 2.5]
    assert found["parameters"]["K"] == [2.0, 3.0]
    assert found["parameters"]["G0"] == [2.0, 5.0]
    ended = invoke("check", f"{tmp_path}/mine.toml")
    assert (ended.code, ended.err) == (0, "")
    assert re.fullmatch(r"mine is valid: [\d.]+% of its space is feasible, .*\n", ended.out)


def test_check_a_file_whose_data_is_not_there_yet(tmp_path: Path) -> None:
    text = SQUARES.replace('"digits"', '"imagefolder"\nroot = "not/there"')
    write(tmp_path, text)
    ended = invoke("check", f"{tmp_path}/mine.toml")
    assert ended.code == 0
    assert re.fullmatch(r"note: not/there: .*; 10 classes assumed\n", ended.err)
