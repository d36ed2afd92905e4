"""What must not leak, load, listen or write where it should not."""

import io
import os
import socket
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from command import ask, descendants, run, start, wait_for, write_study
from faults import PostgresServer, find_postgres
from torchvision.datasets.utils import extract_archive

from betanas.data.published import downloading
from betanas.errors import without_password
from betanas.training.checkpoint import CHECKPOINT_FILE, read_checkpoint

SECRET = "correct-horse/battery"  # noqa: S105


@pytest.fixture
def secret_url() -> Iterator[str]:
    """The URL of a server of ours, with a password in it."""
    binaries = find_postgres()
    if binaries is None:
        pytest.skip("no PostgreSQL binaries here (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg")
    with PostgresServer(binaries) as server:
        yield server.url.replace("betanas@", f"betanas:{SECRET.replace('/', '%2F')}@")


def readable(pid: int, name: str) -> str:
    """A file that the kernel keeps of a process."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""


def _began_anew(command: str) -> bool:
    return "optimize" in command and "correct-horse" not in command


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_a_password_stays_where_it_was_given(secret_url: str, tmp_path: Path) -> None:
    write_study(tmp_path)
    where = ("--study", "tiny.toml", "--storage", secret_url)
    process = start(tmp_path, "optimize", *where, "--trials", "1")
    wait_for(lambda: _began_anew(readable(process.pid, "cmdline")))
    seen: set[int] = set()
    while process.poll() is None:
        for pid in [process.pid, *descendants(process.pid)]:
            command = readable(pid, "cmdline")
            assert "correct-horse" not in command
            if "betanas.launcher.server" in command:  # and not a fork on its way to another program
                seen.add(pid)
                assert "correct-horse" not in readable(pid, "environ")
        time.sleep(0.05)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    assert len(seen) >= 3, "the trainer server, the agent and a rank"
    assert "correct-horse" not in out + err
    assert "export BETANAS_STORAGE=URL" in err
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"correct-horse" not in path.read_bytes(), path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "url"),
    [
        ("--storage {}", "postgresql+psycopg://me:correct-horse@127.0.0.1:1/none"),
        ("--storage={}", "postgresql+psycopg://127.0.0.1:1/none?user=me&password=correct-horse"),
        ("--storage={}", "postgresql+psycopg://me:correct-horse@127.0.0.1:port/none"),
        ("--storage {}", "nonsense://me:correct-horse@127.0.0.1/none"),
    ],
)
def test_errors_show_no_password(option: str, url: str, tmp_path: Path) -> None:
    write_study(tmp_path)
    status = ("status", "--study", "tiny.toml")
    for out, err in (
        run(tmp_path, *status, *option.format(url).split(), code=2),  # begins anew without it
        ask(tmp_path, *status, "--set", f"storage.url={url}", code=2),
    ):
        assert "correct-horse" not in out + err
        assert "***" in err
        assert "Traceback" not in err


def test_texts_without_passwords() -> None:
    plain = "sqlite:///a/b@c.db and http://127.0.0.1:8080/ and me@host: text"
    assert without_password(plain) == plain
    assert (
        without_password("x://u:p:w@h/d?a=1&password=pw&b=2")
        == "x://u:***@h/d?a=1&password=***&b=2"
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])  # noqa: S104
def test_the_dashboard_lets_no_other_machine_in(host: str, tmp_path: Path) -> None:
    write_study(tmp_path)
    _, err = ask(tmp_path, "dashboard", "--study", "tiny.toml", "--host", host, code=2)
    assert f"--host must be 127.0.0.1, but got {host}" in err
    assert "--allow-remote" in err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs all of 127/8 on the loopback")
@pytest.mark.parametrize("lets_in", [False, True])
def test_the_dashboard_listens_where_it_is_told(tmp_path: Path, lets_in: bool) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    more = ("--host", "0.0.0.0", "--allow-remote") if lets_in else ()  # noqa: S104
    process = start(tmp_path, "dashboard", "--study", "demo", "--port", str(port), *more)

    def answers(host: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/api/studies", timeout=5) as page:
                return b"demo" in page.read()
        except OSError:
            return False

    try:
        wait_for(lambda: answers("127.0.0.1"), 60)
        assert answers("127.0.0.2") == lets_in  # as another machine's address would be
    finally:
        process.kill()  # wsgiref swallows a Ctrl-C that comes during a request
        _, err = process.communicate(timeout=180)
    assert ("whoever reaches 0.0.0.0" in err) == lets_in


def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    archive = tmp_path / "evil.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("inside/../../outside", "/" + str(tmp_path / "absolute").lstrip("/")):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
    (tmp_path / "root").mkdir()
    with downloading(), pytest.raises(tarfile.OutsideDestinationError):
        extract_archive(str(archive), str(tmp_path / "root"))
    assert not (tmp_path / "outside").exists()
    assert not (tmp_path / "absolute").exists()


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, touched: Path) -> None:
        self._touched = touched

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self._touched}",)


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    torch.save({"task": "", "model": Evil(touched)}, tmp_path / CHECKPOINT_FILE)
    with pytest.warns(UserWarning, match="damaged and passed over"):
        assert read_checkpoint(tmp_path) is None
    assert not touched.exists()
    torch.load(tmp_path / CHECKPOINT_FILE, weights_only=False)
    assert touched.exists(), "the file would have run code"
