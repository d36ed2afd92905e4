"""One trial over several machines, as all nodes but node 0 see it: they train what it tells them.

Such a node has its own trainer server, images, cache and trial folders, and knows no database.
"""

import errno
import select
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from betanas.errors import InputError, RunError
from betanas.launcher.client import TrainerServer
from betanas.launcher.link import WAIT_SECONDS, Link
from betanas.launcher.rendezvous import Node, Rendezvous
from betanas.study.definition import StudyDefinition
from betanas.trial import Failure, TrainingResult, TrialTask

_PAUSE_SECONDS = 1.0


class Follower:
    """A node that trains what node 0 tells it.

    Args:
        definition: The study, as this node's file has it.
        node: This node.
        own: Its ``introduction``.
        folder: Where its part of the trials leaves its files.
        cache: Where decoded images are kept.
        say: Told how it goes, a line each.

    Attributes:
        trainings: How many it has taken part in.
    """

    def __init__(
        self,
        definition: StudyDefinition,
        node: Node,
        own: dict[str, Any],
        folder: Path,
        cache: Path,
        say: Callable[[str], None],
    ) -> None:
        self._definition, self._node, self._own, self._say = definition, node, own, say
        self._folder, self._cache = folder, cache
        self._inbox: list[dict[str, Any]] = []
        self.trainings = 0

    def run(self) -> None:
        """Follows node 0 until it says that it is over.

        Raises:
            InputError: If node 0 runs with other options or another study.
            RunError: If node 0 is away for ``WAIT_SECONDS``, or has ended with an error.
        """
        name = f"node {self._node.node_rank} of {self._node.nnodes}"
        with TrainerServer(
            self._definition.dataset, self._definition.resolution, self._cache
        ) as trainer:
            while True:
                trainer.revive()
                trainer.wait()
                self._say(f"{name} is ready, and looks for node 0 at {self._node.endpoint}")
                link = self._connect()
                link.send({"hello": self._own})
                if self._obey(link, trainer):
                    return
                self._say("node 0 went away")
                time.sleep(_PAUSE_SECONDS)

    def _connect(self) -> Link:
        """Reaches node 0, which may yet have to start."""
        host, port = self._node.control
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                return Link(socket.create_connection((host, port), timeout=5.0))
            except OSError as error:
                if time.monotonic() > deadline:
                    raise RunError(
                        f"node 0 could not be reached at {host} port {port} for "
                        f"{WAIT_SECONDS:.0f} s ({error.strerror or error}); start the same command "
                        "there, with --node-rank 0"
                    ) from None
                time.sleep(_PAUSE_SECONDS)

    def _obey(self, link: Link, trainer: TrainerServer) -> bool:
        """Does what node 0 says until it is over; False if it went away instead."""
        self._inbox.clear()
        while True:
            self._inbox += link.receive()
            while self._inbox:
                message = self._inbox.pop(0)
                if "refused" in message:
                    raise InputError(f"node 0 refuses this node: {message['refused']}")
                if "end" in message:
                    if message["end"] is not None:
                        raise RunError(f"node 0 has ended: {message['end']}")
                    return True
                if "train" in message:
                    self.trainings += 1
                    link.send({"ended": self._train(link, trainer, message).to_json()})
            if not link.alive:
                return False
            select.select([link], [], [], _PAUSE_SECONDS)

    def _train(self, link: Link, trainer: TrainerServer, message: dict[str, Any]) -> TrainingResult:
        """This node's part of one training."""
        task = TrialTask.from_json(message["train"])
        self._say(f"trial {task.number:>4}")
        mine = replace(
            task,
            dataset=self._definition.dataset,
            folder=str(self._folder / f"{task.number:05d}"),
            cache=str(self._cache),
        )
        node = self._node
        meeting = Rendezvous(node.node_rank, node.endpoint, link.address, message["run_id"])

        def trouble() -> str | None:
            self._inbox += link.receive()
            return "node 0 went away" if self._inbox or not link.alive else None

        try:
            return trainer.run(mine, rendezvous=meeting, trouble=trouble)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return TrainingResult(None, Failure.DISK_FULL, str(error))
