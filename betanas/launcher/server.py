"""The trainer server: a process with torch imported and images decoded, forked for each trial.

The controller starts one with ``python -m betanas.launcher.server`` and sends it one JSON object a
line; each is answered by one line. A trial is a fork of this process that runs torchrun's elastic
agent, which forks the ranks. So a trial starts in fresh processes within tenths of a second, and
may crash, hang or be killed without touching server or controller. This process itself never
starts a thread and never touches a GPU, for both are lost on the way through a fork.
"""

import json
import os
import sys
import traceback
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.numa.binding import AffinityMode, NumaOptions

from betanas.devices.processes import die_with_parent
from betanas.errors import BetaNASError
from betanas.files import read_json
from betanas.launcher.failures import conclude, write_result
from betanas.launcher.rank import run_rank, shared_images
from betanas.launcher.rendezvous import Rendezvous
from betanas.study.definition import DatasetConfig
from betanas.trial import LOG_FILE, Failure, TrainingResult, TrialTask

# Given, so that torch does not look for GPUs itself: that would start CUDA in a process that is to
# be forked. Without numactl, or on a machine that hides its topology, ranks are not bound.
_NUMA_OPTIONS = NumaOptions(affinity_mode=AffinityMode.NODE, should_fall_back_if_binding_fails=True)


def main() -> None:
    """Answers the controller's requests until it hangs up."""
    die_with_parent(int(os.environ["BETANAS_CONTROLLER_PID"]))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _prepare(request) if request["do"] == "prepare" else _train(request)
        except BetaNASError as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _prepare(request: dict[str, Any]) -> dict[str, Any]:
    dataset = DatasetConfig.model_validate(request["dataset"])
    return {"images": len(shared_images(dataset, request["resolution"], request["cache"]))}


def _train(request: dict[str, Any]) -> dict[str, Any]:
    task_file = Path(request["task"])
    server = os.getpid()
    agent = os.fork()
    if agent == 0:
        code = 1
        try:
            meeting = Rendezvous.from_json(request["rendezvous"])
            code = _run_agent(task_file, server, request["launched"], meeting)
        except BaseException:  # a fork must never return into the server's loop
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    (task_file.parent / "agent.pid").write_text(str(agent))
    _, status = os.waitpid(agent, 0)
    return {"exit": os.waitstatus_to_exitcode(status)}


def _run_agent(task_file: Path, server: int, launched: float, meeting: Rendezvous) -> int:
    """Runs torchrun's elastic agent in this fork, and through it the ranks; returns exit code."""
    die_with_parent(server)
    folder = task_file.parent
    log = os.open(folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    task = TrialTask.from_json(read_json(task_file))
    # torchrun numbers nodes by their addresses, so each rank is told its own number.
    first = meeting.node_rank * task.nproc_per_node
    try:
        launch = elastic_launch(_launch_config(task, meeting), run_rank)
        launch(str(task_file), os.getpid(), launched, first)
    except ChildFailedError as error:
        failed = {first + f.local_rank: f.exitcode for f in error.failures.values()}
        conclude(folder, failed, task.nnodes)
        return 1
    except Exception as error:
        if task.nnodes == 1:
            raise
        told = f"the nodes did not meet: {type(error).__name__}: {error}"
        write_result(folder, TrainingResult(None, Failure.NODE_LOST, told))
        return 1
    return 0


def _launch_config(task: TrialTask, meeting: Rendezvous) -> LaunchConfig:
    on_gpu = task.device == "cuda"
    known = {field.name for field in fields(LaunchConfig)}
    return LaunchConfig(
        min_nodes=task.nnodes,
        max_nodes=task.nnodes,
        nproc_per_node=task.nproc_per_node,
        run_id=meeting.run_id,
        rdzv_backend="c10d",
        rdzv_endpoint=meeting.endpoint,
        rdzv_configs={"is_host": meeting.node_rank == 0},
        local_addr=meeting.address,
        max_restarts=0,
        monitor_interval=0.05,
        # A process that has used a GPU cannot be forked; this one has not, unless torch changed.
        start_method="spawn" if on_gpu and _has_used_gpu() else "fork",
        logs_specs=DefaultLogsSpecs(),
        numa_options=_NUMA_OPTIONS if on_gpu else None,
        **({"shutdown_timeout": 5} if "shutdown_timeout" in known else {}),  # torch >= 2.12
    )


def _has_used_gpu() -> bool:
    used: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return used


if __name__ == "__main__":
    main()
