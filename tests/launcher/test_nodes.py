"""One trial over several nodes: real commands on loopback, each in its own folder."""

import signal
import subprocess
from pathlib import Path

import pytest
from command import (
    TINY,
    descendants,
    free_endpoint,
    is_alive,
    run,
    run_json,
    start,
    wait_for,
    write_study,
)

OPTIMIZE = ("optimize", "--study", "tiny.toml", "--device", "cpu")


def start_node(folder: Path, endpoint: str, rank: int, *more: str) -> subprocess.Popen[str]:
    """Starts one of two nodes."""
    where = ("--nnodes", "2", "--rdzv-endpoint", endpoint, "--node-rank", str(rank))
    return start(folder, *OPTIMIZE, *where, *more)


def ends(process: subprocess.Popen[str], code: int = 0) -> str:
    """Waits for a node's end; returns what it said on stderr."""
    out, err = process.communicate(timeout=200)
    assert process.returncode == code, out + err
    assert "Traceback" not in err
    return err


@pytest.fixture
def nodes(tmp_path: Path) -> tuple[Path, Path]:
    folders = tmp_path / "node0", tmp_path / "node1"
    for folder in folders:
        folder.mkdir()
        write_study(folder)
    return folders


@pytest.mark.slow
def test_two_nodes_reach_the_target(nodes: tuple[Path, Path]) -> None:
    endpoint = free_endpoint()
    second = start_node(nodes[1], endpoint, 1, "--json")
    first = start_node(nodes[0], endpoint, 0)
    ends(first)
    assert "7 trainings" in ends(second)
    status = run_json(nodes[0], "status", "--study", "tiny.toml")
    assert status["feasible"] == status["target"] == 7
    for row in run_json(nodes[0], "trials", "--study", "tiny.toml"):
        if row["state"] == "complete":
            assert row["audit"]["ranks"] == 2
            assert row["audit"]["images"] == 4 * 2 * 32
    assert not list(nodes[1].rglob("*.db")), "only node 0 has a database"


@pytest.mark.slow
def test_a_node_that_is_killed_comes_back_and_the_study_goes_on(nodes: tuple[Path, Path]) -> None:
    for folder in nodes:
        write_study(folder, text=TINY.replace("steps = 4", "seconds = 4"))
    endpoint = free_endpoint()
    first = start_node(nodes[0], endpoint, 0, "--trials", "4")
    second = start_node(nodes[1], endpoint, 1)
    wait_for(lambda: list((nodes[1] / "storage" / "tiny").glob("node-1/*/rank-1.beat")))
    below = descendants(second.pid)
    second.kill()
    second.communicate()
    wait_for(lambda: not any(map(is_alive, below)), seconds=10)
    back = start_node(nodes[1], endpoint, 1)
    told = ends(first)
    ends(back)
    assert "node_lost, node 1 went away; it is tried again" in told
    assert "waiting for node 1" in told
    rows = run_json(nodes[0], "trials", "--study", "tiny.toml")
    assert len(rows) == 4
    assert {row["state"] for row in rows} <= {"complete", "pruned"}
    assert any(row["audit"].get("ranks") == 2 for row in rows)


@pytest.mark.slow
def test_the_first_node_may_be_killed_too(nodes: tuple[Path, Path]) -> None:
    for folder in nodes:
        write_study(folder, text=TINY.replace("steps = 4", "seconds = 3"))
    endpoint = free_endpoint()
    second = start_node(nodes[1], endpoint, 1)
    first = start_node(nodes[0], endpoint, 0, "--trials", "3")
    wait_for(lambda: list((nodes[0] / "storage" / "tiny").glob("*/rank-0.beat")))
    first.kill()
    first.communicate()
    ends(start_node(nodes[0], endpoint, 0, "--trials", "3"))
    assert "node 0 went away" in ends(second)
    rows = run_json(nodes[0], "trials", "--study", "tiny.toml")
    assert {row["state"] for row in rows} <= {"complete", "pruned"}


@pytest.mark.slow
def test_an_interrupted_first_node_ends_the_others(nodes: tuple[Path, Path]) -> None:
    for folder in nodes:
        write_study(folder, text=TINY.replace("steps = 4", "seconds = 60"))
    endpoint = free_endpoint()
    second = start_node(nodes[1], endpoint, 1)
    first = start_node(nodes[0], endpoint, 0)
    wait_for(lambda: list((nodes[0] / "storage" / "tiny").glob("*/rank-0.beat")))
    first.send_signal(signal.SIGINT)
    ends(first, 130)
    assert "node 0 has ended: it was interrupted" in ends(second, 1)


@pytest.mark.slow
def test_a_node_with_another_study_is_refused(nodes: tuple[Path, Path]) -> None:
    endpoint = free_endpoint()
    first = start_node(nodes[0], endpoint, 0)
    told = ends(start_node(nodes[1], endpoint, 1, "--set", "recipe.batch_size=16"), 2)
    assert "recipe.batch_size is 32 on node 0, but 16 on this node" in told
    first.kill()
    first.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--nnodes 0", "--nnodes must be >= 1, but got 0"),
        ("--nnodes 2 --node-rank 0", "--nnodes 2 needs --rdzv-endpoint HOST:PORT"),
        ("--nnodes 2 --rdzv-endpoint h:29400", "--nnodes 2 needs --node-rank RANK"),
        ("--nnodes 2 --rdzv-endpoint h:29400 --node-rank 2", "--node-rank must be in [0, 1]"),
        ("--nnodes 2 --rdzv-endpoint host --node-rank 0", "must be HOST:PORT"),
        ("--nnodes 2 --rdzv-endpoint h:65535 --node-rank 0", "must be HOST:PORT"),
        ("--node-rank 1", "--node-rank 1 needs --nnodes >= 2"),
        ("--nnodes 2 --rdzv-endpoint 192.0.2.1:29400 --node-rank 0", "node 0 cannot listen on"),
    ],
)
def test_options_that_contradict_each_other(tmp_path: Path, options: str, told: str) -> None:
    write_study(tmp_path)
    _, err = run(tmp_path, *OPTIMIZE, *options.split(), code=2)
    assert told in err.splitlines()[-1]
    assert "Traceback" not in err
