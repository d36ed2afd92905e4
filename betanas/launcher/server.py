"""The trainer server: a process with torch imported and images decoded, forked for each trial.

The controller starts one with ``python -m betanas.launcher.server`` and sends it one JSON object a
line; each is answered by one line. A trial is a fork of this process that runs torchrun's elastic
agent, which forks the ranks. So a trial starts in fresh processes within tenths of a second, and
may crash, hang or be killed without touching server or controller. This process itself never
starts a thread and never touches a GPU, for both are lost on the way through a fork.

For trainings on one GPU the next trial's agent and rank are forked while this one trains: the rank
loads CUDA and its libraries, which takes seconds, and waits for its task (``order.py``).
"""

import json
import os
import signal
import sys
import traceback
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch  # noqa: F401 - before the forks
from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.numa.binding import AffinityMode, NumaOptions

from betanas.devices.processes import die_with_parent
from betanas.errors import BetaNASError
from betanas.files import read_json
from betanas.launcher.failures import conclude, write_result
from betanas.launcher.measuring import measure
from betanas.launcher.order import Order
from betanas.launcher.rank import log_into, run_rank, shared_images
from betanas.launcher.rendezvous import Rendezvous
from betanas.study.recipe import DatasetConfig
from betanas.trial import Failure, TrainingResult, TrialTask

# Given, so that torch does not look for GPUs itself: that would start CUDA in a process that is to
# be forked. Without numactl, or on a machine that hides its topology, ranks are not bound.
_NUMA_OPTIONS = NumaOptions(affinity_mode=AffinityMode.NODE, should_fall_back_if_binding_fails=True)
# How often an elastic training may lose a rank.
_RESTARTS = 100
# Seconds that its rendezvous waits for more nodes once there are enough: those that start together
# begin together. Signs of life stay torch's, every 5 s: each is a write that may come before that
# of a node which joins, and on a busy machine that takes seconds.
_LAST_CALL_SECONDS = 10
# A node that may join waits as long as the controller bears it, for one whose wait ends by an
# exception closes the rendezvous for all.
_JOIN_SECONDS = 10**6


@dataclass(frozen=True)
class Launch:
    """What an agent must know before it forks ranks.

    Attributes:
        nproc_per_node: Ranks on this machine.
        nnodes: Machines that train together.
        device: ``cpu`` or ``cuda``.
        meeting: Where the agents meet.
        elastic: Whether the training goes on with other ranks when one is lost, or one comes.
    """

    nproc_per_node: int
    nnodes: int
    device: str
    meeting: Rendezvous = field(default_factory=Rendezvous)
    elastic: bool = False

    @property
    def keeps_spare(self) -> bool:
        """Whether the next trial's processes are worth starting beforehand."""
        alone = self.nproc_per_node == self.nnodes == 1 and not self.elastic
        return self.device == "cuda" and alone

    def config(self) -> LaunchConfig:
        """The same in torchrun's words."""
        on_gpu = self.device == "cuda"
        # A rank on its own meets nobody: torchrun's c10d would have it wait up to 0.3 s for that.
        alone = self.nproc_per_node == self.nnodes == 1 and not self.elastic
        met: dict[str, Any] = {"rank": 0} if alone else {"is_host": self.meeting.node_rank == 0}
        least = most = self.nnodes
        if self.elastic:
            least, most = self.meeting.nnodes
            met |= {"last_call_timeout": _LAST_CALL_SECONDS, "join_timeout": _JOIN_SECONDS}
        known = {f.name for f in fields(LaunchConfig)}
        newer: dict[str, Any] = {"shutdown_timeout": 5} if "shutdown_timeout" in known else {}
        return LaunchConfig(
            min_nodes=least,
            max_nodes=most,
            nproc_per_node=self.nproc_per_node,
            run_id=self.meeting.run_id,
            rdzv_backend="static" if alone else "c10d",
            rdzv_endpoint=self.meeting.endpoint,
            rdzv_configs=met,
            local_addr=self.meeting.address,
            max_restarts=_RESTARTS if self.elastic else 0,
            monitor_interval=0.05,
            start_method="fork",
            logs_specs=DefaultLogsSpecs(os.devnull),  # else a folder a trial stays in /tmp
            numa_options=_NUMA_OPTIONS if on_gpu else None,
            **newer,
        )


@dataclass(frozen=True)
class Agent:
    """A forked agent: of a trial, or of the next one."""

    pid: int
    launch: Launch
    order: Order

    @classmethod
    def fork(
        cls, launch: Launch, request: dict[str, Any] | None = None, like: Path | None = None
    ) -> "Agent":
        """Forks one; without a request it waits for one, which may be like the task in a file."""
        order, server = Order(), os.getpid()
        if request is not None:
            order.give(request)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                order.take()
                code = _run_agent(order, launch, server, like)
            except BaseException:  # a fork must never return into the server's loop
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        return cls(pid, launch, order)

    def is_there(self) -> bool:
        """Whether it still waits for its order; one that has ended is cleared away."""
        if os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            return True
        self.order.close()
        return False

    def end(self) -> None:
        """Ends one that nobody wants any more, and with it its ranks."""
        if self.is_there():
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.order.close()

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        _, status = os.waitpid(self.pid, 0)
        self.order.close()
        return os.waitstatus_to_exitcode(status)


def main() -> None:
    """Answers the controller's requests until it hangs up."""
    die_with_parent(int(os.environ["BETANAS_CONTROLLER_PID"]))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    spare: Agent | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            match request["do"]:
                case "prepare":
                    answer = _prepare(request)
                case "pace":
                    answer = _pace(request)
                case _:
                    answer, spare = _train(request, spare)
        except BetaNASError as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _prepare(request: dict[str, Any]) -> dict[str, Any]:
    dataset = DatasetConfig.model_validate(request["dataset"])
    return {"images": len(shared_images(dataset, request["resolution"], request["cache"]))}


def _pace(request: dict[str, Any]) -> dict[str, Any]:
    task = TrialTask.from_json(request["task"])
    found = measure(task, request["shares"], request["seconds"], request["longest"])
    return {"images_per_second": found}


def _train(request: dict[str, Any], spare: Agent | None) -> tuple[dict[str, Any], Agent | None]:
    """Has a task trained, by the spare agent if it is there; returns the answer and a new spare."""
    task_file = Path(request["task"])
    task = TrialTask.from_json(read_json(task_file))
    meeting = Rendezvous.from_json(request["rendezvous"])
    elastic = task.is_elastic and task.nnodes == 1
    launch = Launch(task.nproc_per_node, task.nnodes, task.device, meeting, elastic)
    if spare is not None and spare.launch == launch and spare.is_there():
        agent = spare
        agent.order.give(request)
    else:
        agent = Agent.fork(launch, request)
    (task_file.parent / "agent.pid").write_text(str(agent.pid))
    if spare is not None and spare is not agent:
        spare.end()
    wanted = launch.keeps_spare and request["keeps_spare"]
    spare = Agent.fork(launch, like=task_file) if wanted else None
    return {"exit": agent.wait()}, spare


def _run_agent(order: Order, launch: Launch, server: int, like: Path | None) -> int:
    """Runs torchrun's elastic agent in this fork, and through it the ranks; returns exit code."""
    die_with_parent(server)
    request = order.known()
    if request is not None:
        log_into(Path(request["task"]).parent)
    # torchrun numbers nodes by their addresses, so each rank is told its own number; where nodes
    # come and go, its numbers are those that have no gap.
    first = None if launch.elastic else launch.meeting.node_rank * launch.nproc_per_node
    if launch.elastic:
        # Torch's shared store has a node that stays look for one that is gone, if that was rank 0.
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        launch.meeting.wait_for_host()
    try:
        elastic_launch(launch.config(), run_rank)(order, os.getpid(), first, launch.device, like)
    except ChildFailedError as error:
        failed = {(first or 0) + f.local_rank: f.exitcode for f in error.failures.values()}
        if (request := order.known()) is not None:
            conclude(Path(request["task"]).parent, failed, launch.nnodes)
        return 1
    except Exception as error:
        request = order.known()
        if launch.nnodes == launch.meeting.nnodes[1] == 1 or request is None:
            raise
        told = f"the nodes did not meet: {type(error).__name__}: {error}"
        write_result(Path(request["task"]).parent, TrainingResult(None, Failure.NODE_LOST, told))
        return 1
    return 0


if __name__ == "__main__":
    main()
