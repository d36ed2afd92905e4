"""What storage/README.md says of backups, done for real; and its recipe for containers."""

import shutil
import sqlite3
import subprocess
from pathlib import Path

import optuna
import pytest
import yaml
from command import wait_for
from faults import (
    PostgresServer,
    acknowledged,
    find_postgres,
    kill,
    start_worker,
    with_target,
    write_definition,
)

from betanas.database.stored import StoredStudy

pytestmark = pytest.mark.slow

STORAGE = Path(__file__).parents[2] / "storage"
POINTS = 16


@pytest.mark.parametrize("way", ["backup", "vacuum"])
def test_an_sqlite_study_is_backed_up_while_it_is_written(way: str, tmp_path: Path) -> None:
    sqlite = shutil.which("sqlite3")
    if sqlite is None:
        pytest.skip("no sqlite3 command here (Debian: apt-get install sqlite3)")
    file, copy, log = tmp_path / "cheap.db", tmp_path / "backup.db", tmp_path / "log"
    definition = with_target(write_definition(tmp_path), f"sqlite:///{file}", POINTS)
    worker = start_worker(definition, f"sqlite:///{file}", log)
    wait_for(lambda: len(acknowledged(log)) >= 6)
    known = acknowledged(log)
    command = f".backup {copy}" if way == "backup" else f"VACUUM INTO '{copy}'"
    subprocess.run([sqlite, str(file), ".timeout 10000", command], check=True)
    kill(worker)
    for leftover in ("cheap.db", "cheap.db-wal", "cheap.db-shm"):
        (tmp_path / leftover).unlink(missing_ok=True)
    shutil.copy(copy, file)
    check_restored(definition, f"sqlite:///{file}", known, tmp_path / "log-restored")


def test_a_postgresql_study_is_backed_up_while_it_is_written(tmp_path: Path) -> None:
    binaries = find_postgres()
    if binaries is None:
        pytest.skip("no PostgreSQL binaries here (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg")
    dump, log = tmp_path / "betanas.dump", tmp_path / "log"
    with PostgresServer(binaries) as server:
        at = ["--host", "127.0.0.1", "--port", str(server.port), "--username", "betanas"]

        def call(program: str, *arguments: str) -> None:
            subprocess.run([str(binaries / program), *at, *arguments], check=True)

        definition = with_target(write_definition(tmp_path), server.url, POINTS)
        worker = start_worker(definition, server.url, log)
        wait_for(lambda: len(acknowledged(log)) >= 6)
        known = acknowledged(log)
        call("pg_dump", "--format=custom", f"--file={dump}", "betanas")
        kill(worker)
        call("createdb", "--owner", "betanas", "restored")
        call("pg_restore", "--dbname=restored", "--exit-on-error", str(dump))
        restored = server.url.removesuffix("/betanas") + "/restored"
        check_restored(definition, restored, known, tmp_path / "log-restored")
        optuna.copy_study(
            from_study_name=definition.name,
            from_storage=restored,
            to_storage=f"sqlite:///{tmp_path}/alone.db",
        )
        alone = StoredStudy.load(f"sqlite:///{tmp_path}/alone.db", definition.name).records()
        there = StoredStudy.load(restored, definition.name).records()
        assert [(r.parameters, r.value) for r in alone] == [(r.parameters, r.value) for r in there]


def check_restored(
    definition: object, url: str, known: list[tuple[int, str, float | None]], log: Path
) -> None:
    """A restored study has what was known at its backup, and goes on to its target."""
    records = StoredStudy.load(url, "cheap").records()
    assert [(n, records[n].state, records[n].value) for n, _, _ in known] == known
    worker = start_worker(definition, url, log)  # type: ignore[arg-type]
    worker.join(240)
    assert worker.exitcode == 0
    finished = StoredStudy.load(url, "cheap").records()
    assert not [r for r in finished if r.state == "running"]
    assert len(finished) >= POINTS


def test_a_copied_file_alone_would_lack_trials(tmp_path: Path) -> None:
    """Why the README says not to copy a database that is in use."""
    file = tmp_path / "cheap.db"
    definition = with_target(write_definition(tmp_path), f"sqlite:///{file}", 16)
    reader = sqlite3.connect(file)
    reader.execute("BEGIN").execute("SELECT count(*) FROM studies").fetchone()
    worker = start_worker(definition, f"sqlite:///{file}", tmp_path / "log")
    worker.join(60)
    (tmp_path / "copy").mkdir()
    shutil.copy(file, tmp_path / "copy" / "cheap.db")
    copied = sqlite3.connect(tmp_path / "copy" / "cheap.db")
    try:
        (found,) = copied.execute("SELECT count(*) FROM trials").fetchone()
    except sqlite3.OperationalError:  # not even the tables
        found = 0
    reader.close()
    assert found < 16


def test_containers_listen_on_this_machine_only() -> None:
    services = yaml.safe_load((STORAGE / "compose.yaml").read_text())["services"]
    assert services.keys() == {"postgres", "dashboard"}
    for service in services.values():
        for port in service["ports"]:
            assert port.startswith("127.0.0.1:")
    assert "PASSWORD" not in " ".join(services["dashboard"]["command"])
