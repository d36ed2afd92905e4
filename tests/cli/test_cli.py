"""The command line as people and scripts meet it: what commands print and return.

Most run in this process, as ``main`` runs them; those in which a process of its own may make a
difference (what is imported, where streams go, torch at work) get one.
"""

import csv
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from PIL import Image
from typer.testing import CliRunner

from betanas.architecture.complexity import count
from betanas.architecture.decoding import decode
from betanas.architecture.families import FAMILIES
from betanas.cli import architecture_commands, study_commands
from betanas.cli.app import app
from betanas.database.settings import Settings
from betanas.database.stored import StoredStudy
from betanas.jobs.load import storage_url
from betanas.study.loading import load_definition
from betanas.trial import Failure, TrainingResult

SQUARES = """
family = "betanet2"
resolution = 16
[parameters]
k = 2.5
[dataset]
name = "digits"
[budget]
steps = 5
[limits]
num_params = 1_000_000
memory_gib = 1
"""

COMMANDS = sorted(
    str(command.name or getattr(command.callback, "__name__", "")).replace("_", "-")
    for command in app.registered_commands
)


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str


def run(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Ended:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BETANAS_")}
    done = subprocess.run(
        [sys.executable, "-m", "betanas", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        env={**clean, "COLUMNS": "200", **(environment or {})},
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def run_json(folder: Path, *arguments: str) -> Any:
    """One JSON document on stdout, nothing on stderr."""
    return document(run(folder, *arguments, "--json"))


def document(ended: Ended) -> Any:
    assert (ended.code, ended.err) == (0, "")
    return json.loads(ended.out)  # fails on anything beside the one document


def invoke(*arguments: str) -> Ended:
    """Runs a command in this process and in the current folder; its tracebacks fail the test."""
    result = CliRunner(env={"COLUMNS": "200", "BETANAS_STORAGE": None}).invoke(
        app, arguments, prog_name="betanas", catch_exceptions=False
    )
    return Ended(result.exit_code, result.stdout, result.stderr)


def invoke_json(*arguments: str) -> Any:
    return document(invoke(*arguments, "--json"))


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write(folder: Path, text: str = SQUARES, name: str = "mine") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


# -- help ---------------------------------------------------------------------------------------


def test_all_commands_are_there() -> None:
    assert architecture_commands.app is study_commands.app is app
    assert set(COMMANDS) >= {
        "optimize", "status", "trials", "best", "describe", "check", "studies", "dashboard",
    }  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_that_fits(command: str) -> None:
    ended = invoke(command, "--help")
    assert (ended.code, ended.err) == (0, "")
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", ended.out).split())
    found = re.search(rf"Example: (betanas {command}\b.*)$", text)
    assert found is not None, text
    options = re.findall(r"--[\w-]+", text[: found.start()])
    assert set(re.findall(r"--[\w-]+", found[1])) <= set(options)


def test_help_of_the_whole(tmp_path: Path) -> None:
    ended = run(tmp_path, "--help")
    assert (ended.code, ended.err) == (0, "")
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", ended.out)
    assert "betanas optimize --study digits" in ended.out


def test_version(tmp_path: Path) -> None:
    import betanas

    assert run(tmp_path, "--version") == Ended(0, f"betanas {betanas.__version__}\n", "")


# -- what stays free of the heavy dependencies ---------------------------------------------------

HEAVY = "{'torch', 'torchvision', 'optuna', 'botorch', 'gpytorch', 'sklearn', 'plotly'}"
REPORT = f"; import sys; print(sorted({HEAVY} & set(sys.modules)))"


@pytest.mark.parametrize("package", ["architecture", "study"])
def test_descriptions_import_nothing_heavy(package: str) -> None:
    walk = (
        f"import importlib, pkgutil, betanas, betanas.{package} as p; "
        f"[importlib.import_module(m.name) for m in pkgutil.walk_packages(p.__path__, "
        f"'betanas.{package}.')]"
    )
    assert python(walk + REPORT) == "[]"


def test_the_command_line_imports_nothing_heavy() -> None:
    modules = "betanas, betanas.trial, betanas.errors, betanas.cli.study_commands, "
    assert python(f"import {modules}betanas.cli.architecture_commands{REPORT}") == "[]"


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    for arguments in (["--help"], ["optimize", "--help"], ["studies"]):
        code = (
            f"import sys, contextlib, io; sys.argv = ['betanas', *{arguments}]\n"
            "from betanas.cli import main\n"
            "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
            f"    main()\nprint(sorted({HEAVY} & set(sys.modules)))"
        )
        assert python(code) == "[]"


def test_reading_a_database_imports_no_torch() -> None:
    # ``status`` and ``trials`` answer in a second because of it.
    modules = "betanas.database.stored, betanas.search.plan, betanas.analysis.status"
    assert python(f"import {modules}{REPORT}") == "['optuna']"


# -- commands that need no trial ----------------------------------------------------------------

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


def test_describe_for_people(tmp_path: Path) -> None:
    ended = run(tmp_path, *PUBLISHED, "--published")
    assert (ended.code, ended.err) == (0, "")
    lines = [line.split() for line in ended.out.splitlines()]
    assert ["MBC", "448", "448", "2.19", "1", "19.63", "7", "7"] in lines
    assert len(lines) == 1 + 10 + 1
    assert "8,859,193 parameters" in ended.out


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    # As ``betanas describe ... | head -0``.
    process = subprocess.Popen(
        [sys.executable, "-m", "betanas", *PUBLISHED, "--published"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.wait(60)
    process.stderr.close()


def test_studies(tmp_path: Path) -> None:
    found = run_json(tmp_path, "studies")
    assert [row["name"] for row in found] == [
        "betanet2",
        "betanet3",
        "cifar10",
        "demo",
        "digits",
        "pictures",
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


# -- a study with trials ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of six trials: complete, rejected, failed, complete, best, running."""
    folder = tmp_path_factory.mktemp("begun")
    definition = load_definition(write(folder))
    classes = tuple("0123456789")
    stored = StoredStudy.begin(
        f"sqlite:///{folder}/storage/mine.db",
        "mine",
        Settings(definition.meaning(), classes, "digits", 2**30, None),
    )
    stored.study.sampler = optuna.samplers.RandomSampler(seed=0)
    results = [
        TrainingResult(value=0.5, train_seconds=4.0, data_wait_seconds=0.1, epochs=1.5),
        "num_params",
        TrainingResult(value=None, failure=Failure.DIVERGED, message="loss is nan"),
        TrainingResult(value=0.25, train_seconds=4.0, data_wait_seconds=2.0),
        TrainingResult(value=0.875, train_seconds=4.0),
    ]
    for result in results:
        claimed = stored.claim()
        kernel = {n: claimed.trial.suggest_float(n, *r) for n, r in definition.parameters.items()}
        architecture = decode(definition.search_family, kernel, 16, 10)
        stored.describe(claimed, "sobol", count(architecture, 100), architecture.fingerprint)
        if isinstance(result, str):
            stored.reject(claimed, result)
        else:
            assert stored.finish(claimed, result)
    stored.claim()
    return folder


def test_status(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run_json(begun, "status", "--study", "mine.toml")
    assert found["study"] == "mine"
    assert found["trials"] == {"complete": 3, "pruned": 1, "fail": 1, "running": 1, "waiting": 0}
    assert found["rejected"] == {"num_params": 1}
    assert found["failed"] == {"diverged": 1}
    assert (found["sobol"], found["feasible"], found["target"]) == (5, 3, 200)
    assert found["best"] == {"number": 4, "value": 0.875}
    assert found["warnings"] == ["trial 3 waited for data in 50% of its training time"]
    monkeypatch.chdir(begun)
    ended = invoke("status", "--study", "mine.toml")
    assert "3 of 200" in ended.out
    assert "87.50 %" in ended.out
    assert ended.err == "warning: trial 3 waited for data in 50% of its training time\n"


def test_trials(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(begun)
    found = invoke_json("trials", "--study", "mine.toml")
    assert [row["number"] for row in found] == list(range(6))
    states = ["complete", "pruned", "fail", "complete", "complete", "running"]
    assert [row["state"] for row in found] == states
    assert [row["value"] for row in found] == [0.5, None, None, 0.25, 0.875, None]
    assert [row["reason"] for row in found] == [None, "num_params", "diverged", None, None, None]
    first = found[0]
    assert first.keys() >= {
        "number", "state", "phase", "value", "reason", "parameters", "num_params", "macs",
        "activation_bytes", "fingerprint", "train_seconds", "epochs",
    }  # fmt: skip
    assert (first["phase"], first["train_seconds"], first["epochs"]) == ("sobol", 4.0, 1.5)
    architecture = decode(FAMILIES["betanet2"], first["parameters"], 16, 10)
    assert first["fingerprint"] == architecture.fingerprint
    assert first["num_params"] == count(architecture, 100).num_params


def test_trials_as_csv(begun: Path) -> None:
    ended = run(begun, "trials", "--study", "mine.toml", "--csv")
    assert (ended.code, ended.err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert [row["number"] for row in rows] == list("012345")
    assert [row["value"] for row in rows] == ["0.5", "", "", "0.25", "0.875", ""]
    assert set(rows[0]) >= {*FAMILIES["betanet2"].names, "phase", "fingerprint", "macs"}
    assert float(rows[0]["k"]) == 2.5


def test_trials_for_people(begun: Path) -> None:
    ended = run(begun, "trials", "--study", "mine.toml")
    lines = [line.split() for line in ended.out.splitlines()]
    assert lines[0][:4] == ["trial", "state", "phase", "accuracy"]
    assert lines[1][:5] == ["0", "complete", "sobol", "50.00", "%"]
    assert lines[2][:3] == ["1", "pruned", "sobol"]
    assert lines[2][-1] == "num_params"


def test_describe_a_trial(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(begun)
    rows = invoke_json("trials", "--study", "mine.toml")
    best = invoke_json("describe", "--study", "mine.toml", "--best")
    assert best["fingerprint"] == rows[4]["fingerprint"]
    assert best["activation_bytes"] == rows[4]["activation_bytes"]
    assert (best["resolution"], best["num_classes"]) == (16, 10)
    third = invoke_json("describe", "--study", "mine.toml", "--trial", "3")
    assert third["fingerprint"] == rows[3]["fingerprint"]


def test_where_the_database_is(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BETANAS_STORAGE", raising=False)
    plain, own = (
        load_definition("digits"),
        load_definition("digits", ['storage.url="sqlite:///file.db"']),
    )
    assert storage_url(plain, None) == "sqlite:///storage/digits.db"
    assert storage_url(own, None) == "sqlite:///file.db"
    monkeypatch.setenv("BETANAS_STORAGE", "sqlite:///environment.db")
    assert storage_url(own, None) == "sqlite:///environment.db"
    assert storage_url(own, "sqlite:///option.db") == "sqlite:///option.db"
    elsewhere = {"BETANAS_STORAGE": f"sqlite:///{begun}/storage/mine.db"}
    ended = run(begun.parent, "status", "--study", f"{begun}/mine.toml", environment=elsewhere)
    assert (ended.code, "3 of 200" in ended.out) == (0, True)


# -- bad input ----------------------------------------------------------------------------------


def kernel_json(**changed: float) -> str:
    return json.dumps({**FAMILIES["betanet2"].published, **changed})


DESCRIBE = ("describe", "--family", "betanet2", "--resolution", "64", "--classes", "10")
IN_PROCESS: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown key": (
        ("optimize", "--study", "digits", "--set", "search.trails=3"),
        r"search\.trails is not a key that studies have; did you mean trials\?",
    ),
    "unknown key in a file": (
        ("check", "../unknown.toml"),
        r"unknown\.toml: recipe\.learning_rat is not a key .*did you mean learning_rate\?",
    ),
    "no TOML": (("check", "../no-toml.toml"), r"no-toml\.toml is not valid TOML: .*line 1"),
    "no file": (("check", "nowhere.toml"), r"there is no study file nowhere\.toml; give a path"),
    "wrong override": (("check", "digits", "--set", "trials"), r"--set takes key=value"),
    "nothing is feasible": (
        ("check", "digits", "--set", "limits.num_params=100"),
        r"no kernel is feasible: .*num_params rejects 100\.0%\); raise \[limits\] or change",
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
        r"--parameters must be a JSON object: Expecting property name",
    ),
    "kernel that is no object": ((*DESCRIBE, "--parameters", "[3]"), r"must be a JSON object, but"),
    "unknown family": (
        ("describe", "--family", "betanet4", *DESCRIBE[3:], "--published"),
        r"family must be one of betanet2, betanet3, but got 'betanet4'",
    ),
    "no kernel": (DESCRIBE, r"either --parameters JSON or --published"),
    "no classes": ((*DESCRIBE[:5], "--published"), r"needs --resolution and --classes"),
    "classes below 1": (
        (*DESCRIBE[:6], "0", "--published"),
        r"num_classes must be >= 1, but got 0",
    ),
    "resolution out of range": (
        (*DESCRIBE[:4], "8", *DESCRIBE[5:], "--published"),
        r"resolution must be in \[16, 4096\], but got 8",
    ),
    "neither family nor study": (("describe",), r"describe takes either --family or --study"),
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
    "limit that nothing satisfies": (
        ("optimize", "--study", "digits", "--set", "limits.num_params=100"),
        r"no kernel is feasible: .*num_params rejects 100\.0%",
    ),
    "missing data": (
        ("optimize", "--study", "pictures", "--data", "../nowhere"),
        r"\.\./nowhere: dataset\.root must be a folder, but there is none; give the folder",
    ),
}

IN_PROCESSES: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown study": (
        ("optimize", "--study", "digitz"),
        r"there is no study 'digitz': built-in are .*; did you mean digits\?",
    ),
    "range upside down": (
        ("check", "../upside-down.toml"),
        r"parameters\.K: low <= high must hold, but got \(low=5, high=2\)",
    ),
    "study that has not begun": (
        ("status", "--study", "digits"),
        r"sqlite:///storage/digits\.db has no study digits; begin it with: betanas optimize --stu",
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
    "empty class folder": (
        ("optimize", "--study", "pictures", "--data", "../empty-class"),
        r"empty-class/train/dog: a class folder must hold pictures .*but holds none; add",
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


@pytest.mark.parametrize("name", IN_PROCESSES)
def test_bad_input_in_a_process(ended: dict[str, Ended], root: Path, name: str) -> None:
    found = ended[name]
    check_one_line(found, IN_PROCESSES[name][1])
    # Nothing has begun: once the cause is put right, the same command must go through.
    assert not list((root / name.replace(" ", "-")).rglob("*.db"))


def test_a_wrong_call() -> None:
    for arguments in (["optimise"], ["status"], ["describe", "--batch-size", "0"], ["trials", "x"]):
        ended = invoke(*arguments)
        assert (ended.code, ended.out) == (2, "")
        assert "Usage: " in ended.err
