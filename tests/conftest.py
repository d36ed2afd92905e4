"""What all tests share: real pictures, a browser, a trainer, and which tests run by default."""

import os
import random
import shutil
import signal
import zipfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from own_plugins import registered
from trainings import DIGITS, TaskMaker, small_task

from betanas.launcher.client import TrainerServer

# Read when torch is imported: without it, steps are many times slower beside any other work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A shell's background job ignores Ctrl-C, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A machine with other work may take any time for an example.
hypothesis.settings.register_profile("any-time", deadline=None)
hypothesis.settings.load_profile("any-time")

CIFAR_ZIP = Path(__file__).parents[2] / "shared" / "data" / "cifar10.zip"
CHROMIUM_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-quic", "--no-first-run", "--disable-component-update", "--disable-sync",
]  # fmt: skip
STARTING = {"browser", "nodes", "server"}  # fixtures of tests that start something
QUICK = "not slow"  # as in pyproject.toml


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="fail if any test was skipped")


def pytest_itemcollected(item: pytest.Item) -> None:
    if STARTING & set(getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.slow)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that no process ends long before the other.

    Those are the ones with tests of which a longer timeout says so, then with many slow ones.
    """
    costs: Counter[Path] = Counter()
    for item in items:
        costs[item.path] += 100 if item.get_closest_marker("slow") else 1
        costs[item.path] += 10_000 if item.get_closest_marker("timeout") else 0
    items.sort(key=lambda item: -costs[item.path])


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """A test that draws without a seed draws the same each time."""
    import torch  # not above, where its environment is not set yet

    random.seed(0)
    torch.manual_seed(0)


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    strict = session.config.getoption("--no-skips") and reporter is not None
    if strict and reporter.stats.get("skipped") and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.getoption("--no-skips") and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line("--no-skips: nothing may be skipped; -rs says why it was")
    if config.getoption("markexpr") == QUICK:
        terminalreporter.write_line(
            "These were the quick tests; those that start searches, trainers, browsers or database"
            ' servers: pytest -n 2 -m slow; all: pytest -n 2 -m ""'
        )


@pytest.fixture(scope="session")
def cifar_zip() -> Path:
    """CIFAR-10 as JPEG files in an archive: cifar10/PART/CLASS/*.jpg."""
    if not CIFAR_ZIP.is_file():
        pytest.skip("cifar10.zip is not beside the project: ../shared/data/cifar10.zip")
    return CIFAR_ZIP


@pytest.fixture(scope="session")
def pictures(cifar_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 400 real CIFAR-10 pictures: train/CLASS/*.jpg, 40 of each class."""
    folder = tmp_path_factory.mktemp("pictures")
    with zipfile.ZipFile(cifar_zip) as archive:
        chosen: dict[str, list[str]] = {}
        for name in sorted(archive.namelist()):
            parts = Path(name).parts
            if len(parts) == 4 and parts[1] == "train":
                chosen.setdefault(parts[2], []).append(name)
        for names in chosen.values():
            archive.extractall(folder, names[:40])
    return folder / "cifar10"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the browser is driven by playwright: pip install playwright"
    )
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainerServer]:
    """One trainer server for all tests; it starts itself again after it was killed."""
    with TrainerServer(DIGITS, 16, tmp_path_factory.mktemp("cache")) as running:
        yield running


@pytest.fixture
def plugins() -> Iterator[None]:
    """The family and the objectives of ``own_plugins.py``."""
    with registered():
        yield


@pytest.fixture
def make_task(tmp_path: Path) -> TaskMaker:
    """Makes tasks of a small training in the test's own folder."""
    return partial(small_task, tmp_path)
