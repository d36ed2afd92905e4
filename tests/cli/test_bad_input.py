"""Wrong files, kernels and options: one line with place, rule, value and cure; exit code 2."""

import json
import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from calls import SQUARES, Ended, invoke, run, write
from PIL import Image

from betanas.architecture.families import FAMILIES


def kernel_json(**changed: float) -> str:
    return json.dumps({**FAMILIES["betanet2"].published, **changed})


DESCRIBE = ("describe", "--family", "betanet2", "--resolution", "64", "--classes", "10")
SEVERAL = ("--set", 'objectives=["accuracy", "macs"]')
IN_PROCESS: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown key": (
        ("optimize", "--study", "digits", "--set", "search.trails=3"),
        r"search\.trails is not a key that studies have; did you mean trials\?",
    ),
    "unknown key in a file": (
        ("check", "../unknown.toml"),
        r"unknown\.toml: recipe\.learning_rat is not a key .*did you mean learning_rate\?",
    ),
    "unknown acquisition function": (
        ("check", "digits", "--set", "search.acquisition=EI"),
        r"search\.acquisition must be 'qLogNEI', 'qLogEI', 'LogEI', 'LogPI' or 'UCB', but got 'EI'",
    ),
    "acquisition function of another sampler": (
        ("check", "digits", "--set", "search.sampler=tpe", "--set", "search.acquisition=UCB"),
        r"search\.acquisition = UCB is of search\.sampler = botorch, but the sampler is tpe; leave",
    ),
    "unknown objective": (
        ("optimize", "--study", "digits", "--set", 'objectives=["accuracy", "speed"]'),
        r"objectives must be among accuracy, latency, num_params, .*, but got 'speed'",
    ),
    "finals shorter than a trial": (
        ("optimize", "--study", "digits", "--finals", "3s"),
        r"search\.finals must be longer than a trial, which has budget\.seconds = 4, but got 3s",
    ),
    "finals in another unit": (
        ("optimize", "--study", "digits", "--finals", "20epochs"),
        r"search\.finals must be in seconds, as the trials' budget\.seconds = 4 is, but got 20epo",
    ),
    "finals that are no time": (
        ("optimize", "--study", "digits", "--finals", "soon"),
        r"search\.finals must be a time such as 15m, .*, but got 'soon'",
    ),
    "finals without training": (
        ("optimize", "--study", "nasbench201-cifar10", "--finals", "1h"),
        r"search\.finals = 1h trains the best for longer, but objective\.name = table trains noth",
    ),
    "finals of several objectives": (
        (
            "check",
            "digits",
            "--set",
            "search.finals=60",
            "--set",
            'objectives=["accuracy", "macs"]',
        ),
        r"search\.finals = 60 looks for the one best network, but got objectives = accuracy, macs",
    ),
    "a limit that no operator table supports": (
        ("check", "nasbench201-cifar10", "--set", "limits.latency_ms=2.0"),
        r"limits\.latency_ms = 2\.0 needs networks of layers, .* family nasbench201 has others",
    ),
    "no TOML": (("check", "../no-toml.toml"), r"no-toml\.toml is not valid TOML: .*line 1"),
    "no file": (("check", "nowhere.toml"), r"there is no study file nowhere\.toml; give a path"),
    "wrong override": (("check", "digits", "--set", "trials"), r"--set takes key=value"),
    "another name": (
        ("optimize", "--study", "digits", "--set", "name=mine"),
        r"--set name: name is not a key that studies have; a study is named by its file: copy that",
    ),
    "nothing has a contraction": (
        ("check", "digits", "--set", "parameters.k=6"),
        r"no kernel is feasible: .*no_contraction rejects 100\.0%",
    ),
    "kernel outside its range": (
        (*DESCRIBE, "--parameters", kernel_json(K=5.5)),
        r"kernel\.K must be in \[2, 5\], but got 5\.5",
    ),
    "trivial kernel": (
        (*DESCRIBE, "--parameters", kernel_json(k=7)),
        r"kernel\.k must be <= log2\(resolution\) = 6 .*but got 7; use a smaller k or a larger",
    ),
    "kernel of another family": (
        ("describe", "--family", "betanet3", *DESCRIBE[3:], "--parameters", kernel_json()),
        r"a betanet3 kernel must have exactly the parameters .*missing WLa.*unknown Wa",
    ),
    "kernel that is no JSON": (
        (*DESCRIBE, "--parameters", "{k: 3}"),
        r"--parameters must be a JSON object such as .*, but got '\{k: 3\}': Expecting",
    ),
    "kernel that is no object": (
        (*DESCRIBE, "--parameters", "[3]"),
        r"a JSON object .* got '\[3\]'",
    ),
    "trial of no study": (
        (*DESCRIBE, "--published", "--trial", "3"),
        r"--trial and --best are of a study; give --study, or leave them out",
    ),
    "folder that is not there, to be checked": (
        ("check", "pictures", "--data", "nowhere"),
        r"nowhere: dataset.root must be a folder",
    ),
    "recorded study in a folder that is not there": (
        ("status", "--study", "demo", "--storage", "sqlite:///nowhere/x.db"),
        r"nowhere",
    ),
    "unknown family": (
        ("describe", "--family", "betanet4", *DESCRIBE[3:], "--published"),
        r"family must be one of .*, mbconv, nasbench201, efficientnet, nasnet, but got 'betanet4'",
    ),
    "no kernel": (DESCRIBE, r"either --parameters JSON or --published"),
    "no classes": ((*DESCRIBE[:5], "--published"), r"needs --resolution and --classes"),
    "classes below 1": (
        (*DESCRIBE[:6], "0", "--published"),
        r"num_classes must be >= 1, but got 0",
    ),
    "classes that cannot be counted": (
        (*DESCRIBE[:6], "9" * 20, "--published"),
        r"num_classes must be <= 1,000,000,000, but got 9999",
    ),
    "images that cannot be counted": (
        ("scale", "--family", "betanet2", "--published", "--batch-size", "9" * 20),
        r"invalid value for '--batch-size': Input should be less than or equal to 100000, but",
    ),
    "seed that cannot be stored": (
        ("train", "--model", "airbench", "--dataset", "digits", "--seed", "9" * 20),
        r"invalid value for '--seed': Input should be less than or equal to 9223372036854775807",
    ),
    "kernels that nobody waits for": (
        ("score", "--family", "betanet2", "--number", "9" * 20),
        r"invalid value for '--number': Input should be less than or equal to 1000000, but",
    ),
    "resolution out of range": (
        (*DESCRIBE[:4], "8", *DESCRIBE[5:], "--published"),
        r"resolution must be in \[16, 4096\], but got 8",
    ),
    "neither family nor study": (
        ("describe",),
        r"describe takes either --family or --study or --model",
    ),
    "ranks below 1": (
        ("optimize", "--study", "digits", "--nproc-per-node", "0"),
        r"--nproc-per-node must be auto or >= 1, but got '0'",
    ),
    "trials of none": (("trials", "--study", "digits", "--json"), r"has no study digits; begin it"),
    "best of none": (("best", "--study", "digits", "--json"), r"has no study digits; begin it"),
    "trial of none": (("describe", "--study", "digits", "--best"), r"has no study digits; begin"),
    "no database": (
        ("status", "--study", "digits", "--storage", "sqlite:///../no-toml.toml"),
        r"storage sqlite:///\.\./no-toml\.toml cannot be opened: file is not a database",
    ),
    "database of another schema": (
        ("status", "--study", "digits", "--storage", "sqlite:///../other.db"),
        r"storage sqlite:///\.\./other\.db cannot be opened: no such column",
    ),
    "no URL": (
        ("status", "--study", "digits", "--storage", "storage/study.db"),
        r"storage\.url must be a database URL such as sqlite:///storage/study\.db, but got",
    ),
    "trial that is not there": (
        ("describe", "--study", "../begun/mine.toml", "--trial", "17", "--storage", "BEGUN"),
        r"--trial must be in \[0, 5\], but got 17",
    ),
    "device that is not there": (
        ("optimize", "--study", "digits", "--device", "cuda"),
        r"--device cuda: torch finds no GPU here; use --device cpu",
    ),
    "more ranks than cores": (
        ("optimize", "--study", "digits", "--device", "cpu", "--nproc-per-node", "4096"),
        r"--nproc-per-node must be <= \d+, the processor cores here, but got 4096",
    ),
    "no workers": (
        ("optimize", "--study", "digits", "--workers", "0"),
        r"--workers must be auto or >= 1, but got '0'",
    ),
    "more workers than cores": (
        ("optimize", "--study", "digits", "--device", "cpu", "--workers", "4096"),
        r"--workers must be <= \d+, for the processor cores here \(one each\), but got 4096",
    ),
    "limit that nothing satisfies": (
        ("optimize", "--study", "digits", "--set", "limits.num_params=100"),
        r"no kernel is feasible: .*num_params rejects 100\.0%\); raise \[limits\] or change",
    ),
    "missing data": (
        ("optimize", "--study", "pictures", "--data", "../nowhere"),
        r"\.\./nowhere: dataset\.root must be a folder, but there is none; give the folder",
    ),
    "range upside down": (
        ("check", "../upside-down.toml"),
        r"parameters\.K: low <= high must hold, but got \(low=5, high=2\)",
    ),
    "study that has not begun": (
        ("status", "--study", "digits"),
        r"sqlite:///storage/digits\.db has no study digits; begin it with: betanas optimize --stu",
    ),
    "empty class folder": (
        ("optimize", "--study", "pictures", "--data", "../empty-class"),
        r"empty-class/train/dog: a class folder must hold pictures .*but holds none; add",
    ),
}

IN_PROCESSES: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown study": (
        ("optimize", "--study", "digitz"),
        r"there is no study 'digitz': built-in are .*; did you mean digits\?",
    ),
    "database that cannot be reached": (
        (
            "status",
            "--study",
            "digits",
            "--storage",
            "postgresql+psycopg://me:secret@127.0.0.1:1/x",
        ),
        r"storage postgresql\+psycopg://me:\*\*\*@127\.0\.0\.1:1/x cannot be opened: connection",
    ),
    "unreadable picture": (
        ("optimize", "--study", "pictures", "--data", "../unreadable", "--device", "cpu"),
        r"unreadable/train/dog/7\.png: every picture must be readable, .*; remove or replace it",
    ),
}


def draw(folder: Path, pictures: int) -> None:
    for label in ("cat", "dog"):
        (folder / "train" / label).mkdir(parents=True)
        for i in range(pictures):
            pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "train" / label / f"{i}.png")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, begun: Path) -> Path:
    """A folder whose folders commands are called in; in it lies what they are to refuse."""
    root = tmp_path_factory.mktemp("bad")
    write(root, SQUARES + "[recipe]\nlearning_rat = 1.0\n", "unknown")
    write(root, SQUARES.replace("k = 2.5", "K = [5, 2]"), "upside-down")
    write(root, "family = betanet2\n" * 300, "no-toml")
    (root / "begun").symlink_to(begun)
    with closing(sqlite3.connect(root / "other.db")) as connection, connection:
        connection.execute("CREATE TABLE studies (title TEXT)")
    draw(root / "empty-class", 20)
    for picture in (root / "empty-class" / "train" / "dog").iterdir():
        picture.unlink()
    draw(root / "unreadable", 20)
    (root / "unreadable" / "train" / "dog" / "7.png").write_bytes(b"this is no picture")
    return root


@pytest.fixture(scope="module")
def ended(root: Path, request: pytest.FixtureRequest) -> dict[str, Ended]:
    """Runs those of ``IN_PROCESSES`` that are selected, two at a time."""

    def one(name: str) -> Ended:
        folder = root / name.replace(" ", "-")
        folder.mkdir()
        return run(folder, *IN_PROCESSES[name][0])

    selected = [item.callspec.params for item in request.session.items if "[" in item.name]
    names = [name for name in IN_PROCESSES if {"name": name} in selected]
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(names, pool.map(one, names), strict=True))


def check_one_line(found: Ended, message: str) -> None:
    line = re.sub("^note: a password on the command line .*\n", "", found.err)
    line = line.removeprefix("loading ...\n")  # what takes seconds to start says so first
    assert re.fullmatch("error: .*\n", line), found.err
    assert re.match("error: .*" + message, line), found.err
    assert "secret" not in line
    assert found.out == ""
    assert found.code == 2


@pytest.mark.parametrize("name", IN_PROCESS)
def test_bad_input(name: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / name.replace(" ", "-")
    folder.mkdir()
    monkeypatch.chdir(folder)
    arguments, message = IN_PROCESS[name]
    url = f"sqlite:///{root}/begun/storage/mine.db"
    check_one_line(invoke(*(url if a == "BEGUN" else a for a in arguments)), message)
    assert not list(folder.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_PROCESSES)
def test_bad_input_in_a_process(ended: dict[str, Ended], root: Path, name: str) -> None:
    found = ended[name]
    check_one_line(found, IN_PROCESSES[name][1])
    # Nothing has begun: once the cause is put right, the same command must go through.
    assert not list((root / name.replace(" ", "-")).rglob("*.db"))
