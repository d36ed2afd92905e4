"""One trial over several nodes: real commands on loopback, each in its own folder."""

import json
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from command import (
    TINY,
    ask,
    ask_json,
    descendants,
    free_endpoint,
    is_alive,
    start,
    wait_for,
    write_study,
)
from torch.distributed import TCPStore

from betanas.errors import InputError
from betanas.launcher.link import Link, host_store, reach_store
from betanas.launcher.rendezvous import Node

TOKEN = "sixteen letters."  # noqa: S105
OPTIMIZE = ("optimize", "--study", "tiny.toml", "--device", "cpu")


def start_node(folder: Path, endpoint: str, rank: int, *more: str) -> subprocess.Popen[str]:
    """Starts one of two nodes."""
    where = ("--nnodes", "2", "--rdzv-endpoint", endpoint, "--node-rank", str(rank))
    return start(folder, *OPTIMIZE, *where, *more)


def control_port(endpoint: str) -> int:
    """Where node 0 has its store, once it has it."""
    port = int(endpoint.rpartition(":")[2]) + 1

    def is_open() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_for(is_open)
    return port


def hear(process: subprocess.Popen[str], text: str) -> None:
    """Waits until a node says something on stderr."""
    assert process.stderr is not None
    assert any(text in line for line in process.stderr)


def end(*processes: subprocess.Popen[str]) -> None:
    """Kills nodes."""
    for process in processes:
        process.kill()
        process.communicate()


def ends(process: subprocess.Popen[str], code: int = 0) -> str:
    """Waits for a node's end; returns what it said on stderr."""
    out, err = process.communicate(timeout=200)
    assert process.returncode == code, out + err
    assert "Traceback" not in err
    return err


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BETANAS_TOKEN", TOKEN)


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
    status = ask_json(nodes[0], "status", "--study", "tiny.toml")
    assert status["feasible"] == status["target"] == 7
    for row in ask_json(nodes[0], "trials", "--study", "tiny.toml"):
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
    wait_for(lambda: not any(map(is_alive, below)), seconds=60)
    back = start_node(nodes[1], endpoint, 1)
    told = ends(first)
    ends(back)
    assert "node_lost, node 1 went away; it is tried again" in told
    rows = ask_json(nodes[0], "trials", "--study", "tiny.toml")
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
    rows = ask_json(nodes[0], "trials", "--study", "tiny.toml")
    assert {row["state"] for row in rows} <= {"complete", "pruned"}


@pytest.mark.slow
def test_a_node_that_is_frozen_is_waited_for(nodes: tuple[Path, Path]) -> None:
    for folder in nodes:
        write_study(folder, text=TINY.replace("steps = 4", "seconds = 3"))
    endpoint = free_endpoint()
    first = start_node(nodes[0], endpoint, 0, "--trials", "3")
    second = start_node(nodes[1], endpoint, 1)
    wait_for(lambda: list((nodes[1] / "storage" / "tiny").glob("node-1/*/rank-1.beat")))
    second.send_signal(signal.SIGSTOP)
    hear(first, "waiting for node 1")
    second.send_signal(signal.SIGCONT)
    ends(first)
    ends(second)
    rows = ask_json(nodes[0], "trials", "--study", "tiny.toml")
    assert {row["state"] for row in rows} <= {"complete", "pruned"}


@pytest.mark.slow
def test_a_first_node_that_is_frozen_is_looked_for(nodes: tuple[Path, Path]) -> None:
    endpoint = free_endpoint()
    second = start_node(nodes[1], endpoint, 1)
    first = start_node(nodes[0], endpoint, 0, "--trials", "3")
    wait_for(lambda: list((nodes[0] / "storage" / "tiny").glob("*/rank-0.beat")))
    first.send_signal(signal.SIGSTOP)
    hear(second, "node 0 went away")
    first.send_signal(signal.SIGCONT)
    ends(first)
    ends(second)


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
    end(first)


def test_who_lacks_the_token_neither_joins_nor_disturbs(
    nodes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = free_endpoint()
    first = start_node(nodes[0], endpoint, 0, "--trials", "1")
    port = control_port(endpoint)
    monkeypatch.setenv("BETANAS_TOKEN", "another, not that one")
    told = ends(start_node(nodes[1], endpoint, 1), 2)
    assert "has another token than this node" in told.splitlines()[-1]
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(range(256)))
    stranger = TCPStore("127.0.0.1", port, is_master=False, wait_for_workers=False)
    session = json.loads(stranger.get("node 0")[64:])["session"]
    hello = json.dumps({"session": "mine", "to": session, "number": 10**9})
    for key in ("node 0", "node 1", f"{session}/mine/1"):
        for garbage in (
            "",
            "-",
            "{}",
            "x" * 10**6,
            "\x00\xff",
            "0" * 64 + hello,
            "0" * 63 + "\xe9{",
        ):
            stranger.set(key, garbage)
        stranger.add(f"{key} counted", 1)
    assert first.poll() is None
    monkeypatch.setenv("BETANAS_TOKEN", TOKEN)
    second = start_node(nodes[1], endpoint, 1)
    told = ends(first)
    assert "took part in 1 trainings" in ends(second)
    assert told.count("node 1 is refused: what it says is signed with another token") == 1


def test_a_message_passes_for_no_other_key_and_no_later_moment() -> None:
    node = Node(2, 1, "127.0.0.1", int(free_endpoint().rpartition(":")[2]), TOKEN)
    threads = len(list(Path("/proc/self/task").iterdir()))
    leader, follower = host_store(node), reach_store(node)
    stranger = TCPStore("127.0.0.1", node.port + 1, is_master=False, wait_for_workers=False)
    here, there = Link(leader, "A/B/0", "A/B/1"), Link(follower, "A/B/1", "A/B/0")
    there.say({"here": "1"})
    old = stranger.get("A/B/1").decode()
    assert here.listen() == {"here": "1"}
    heard_at = here.heard_at
    there.say({"ended": "1"})
    stranger.set("A/B/0", old)
    assert there.listen() == {}, "a node's own words do not come back to it"
    stranger.set("A/B/1", old)
    assert here.listen() == {"here": "1"}
    stranger.set("A/B/1", "0" * 64 + old[64:])
    assert here.listen() == {"here": "1"}
    assert here.heard_at == heard_at, "what was said before is no sign of life"
    assert leader.forged == {"A/B/1"}
    there.say({"ended": "2"})
    assert here.listen() == {"ended": "2"}
    follower.close()
    leader.close()
    assert len(list(Path("/proc/self/task").iterdir())) == threads
    with pytest.raises(InputError, match=r"node 0 could not be reached at 127\.0\.0\.1 port"):
        reach_store(node, wait_seconds=0.1)


@pytest.mark.slow
def test_a_rank_is_given_once(nodes: tuple[Path, Path]) -> None:
    endpoint = free_endpoint()
    three = ("--nnodes", "3")  # the third never comes, so node 0 waits
    first = start_node(nodes[0], endpoint, 0, *three)
    twins = [start_node(folder, endpoint, 1, *three) for folder in nodes]
    refused = wait_for(lambda: [twin for twin in twins if twin.poll() is not None])
    assert len(refused) == 1
    assert "there is a node 1 already" in ends(refused[0], 2).splitlines()[-1]
    assert first.poll() is None
    end(*twins, first)


@pytest.mark.parametrize("taken", [0, 1])
def test_a_port_that_is_taken(nodes: tuple[Path, Path], taken: int) -> None:
    endpoint = free_endpoint()
    port = int(endpoint.rpartition(":")[2]) + taken
    with socket.create_server(("127.0.0.1", port)):
        where = ("--nnodes", "2", "--rdzv-endpoint", endpoint, "--node-rank", "0")
        _, told = ask(nodes[0], *OPTIMIZE, *where, code=2)
    assert f"cannot listen on 127.0.0.1 port {port} (Address already in use" in told


@pytest.mark.parametrize("token", ["", "too short"])
def test_several_nodes_need_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    write_study(tmp_path)
    monkeypatch.setenv("BETANAS_TOKEN", token)
    where = ("--nnodes", "2", "--rdzv-endpoint", "h:29400", "--node-rank", "0")
    _, told = ask(tmp_path, *OPTIMIZE, *where, code=2)
    assert "--nnodes 2 needs the environment variable BETANAS_TOKEN" in told.splitlines()[-1]


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
    _, err = ask(tmp_path, *OPTIMIZE, *options.split(), code=2)
    assert told in err.splitlines()[-1]
    assert "Traceback" not in err
