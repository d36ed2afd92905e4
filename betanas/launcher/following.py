"""One trial over several machines, as all nodes but node 0 see it: they train what it tells them.

Such a node has its own trainer server, images, cache and trial folders, and knows no database.
"""

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from betanas.errors import InputError, RunError
from betanas.files import is_full
from betanas.launcher.client import TrainerServer
from betanas.launcher.link import (
    BEAT_SECONDS,
    POLL_SECONDS,
    Link,
    LostNodeError,
    SignedStore,
    reach_store,
)
from betanas.launcher.rendezvous import Node, Rendezvous
from betanas.study.definition import StudyDefinition
from betanas.trial import Failure, TrainingResult, TrialTask

_FORGED_SECONDS = 3.0  # a stranger may write in node 0's place, which it sets right every second


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
        self.trainings = 0

    def run(self) -> None:
        """Follows node 0 until it says that it is over.

        Raises:
            InputError: If node 0 runs with another token, other options or another study, or is
                not there within ``WAIT_SECONDS``.
            RunError: If node 0 was there and stays away for that long, or ended with an error.
        """
        name = f"node {self._node.node_rank} of {self._node.nnodes}"
        is_back = False
        with TrainerServer(
            self._definition.dataset, self._definition.resolution, self._cache
        ) as trainer:
            while True:
                trainer.revive()
                trainer.wait()
                self._say(f"{name} is ready, and looks for node 0 at {self._node.endpoint}")
                try:
                    store = reach_store(self._node)
                except InputError as error:
                    raise (RunError(str(error)) if is_back else error) from None
                is_back = True
                try:
                    return self._follow(store, trainer)
                except LostNodeError:
                    self._say("node 0 went away")
                finally:
                    store.close()
                time.sleep(BEAT_SECONDS)

    def _follow(self, store: SignedStore, trainer: TrainerServer) -> None:
        """Joins node 0 and does what it says until it is over."""
        link = self._join(store)
        try:
            self._obey(link, store.address, trainer)
        except BaseException:
            with suppress(LostNodeError):
                link.say({"left": True})
            raise

    def _join(self, store: SignedStore) -> Link:
        """Tells node 0 that this node is there until it answers."""
        session, rank = secrets.token_hex(16), self._node.node_rank
        begun = time.monotonic()
        while True:
            leader = store.read("node 0")
            if leader is not None:
                _refuse_differences(leader["introduction"], self._own)
                keys = f"{leader['session']}/{session}"
                link = Link(store, f"{keys}/{rank}", f"{keys}/0")
                if link.listen():
                    return link
            elif "node 0" in store.forged and time.monotonic() - begun > _FORGED_SECONDS:
                raise InputError(
                    f"node 0 at {self._node.endpoint} has another token than this node; "
                    "BETANAS_TOKEN must be the same on all nodes"
                )
            # Also to a node 0 with another token, so that it can tell who is refused.
            to = None if leader is None else leader["session"]
            store.write(f"node {rank}", {"session": session, "to": to})
            time.sleep(POLL_SECONDS)

    def _obey(self, link: Link, address: str, trainer: TrainerServer) -> None:
        """Does what node 0 says until it is over."""
        order: dict[str, Any] = {}
        while True:
            told, order = order, link.listen()
            if order == told:
                time.sleep(POLL_SECONDS)
            elif "refused" in order:
                raise InputError(f"node 0 refuses this node: {order['refused']}")
            elif "end" in order:
                if order["end"] is not None:
                    raise RunError(f"node 0 has ended: {order['end']}")
                link.say({"done": True})
                return
            elif "train" in order:
                self.trainings += 1
                result = self._train(link, order, address, trainer)
                link.say({"ended": order["call"], "result": result.to_json()})
            elif "call" in order:
                trainer.revive()
                trainer.wait()
                link.say({"here": order["call"]})

    def _train(
        self, link: Link, order: dict[str, Any], address: str, trainer: TrainerServer
    ) -> TrainingResult:
        """This node's part of one training."""
        task = TrialTask.from_json(order["train"])
        self._say(f"trial {task.number:>4}")
        mine = replace(
            task,
            dataset=self._definition.dataset,
            folder=str(self._folder / f"{task.number:05d}"),
            cache=str(self._cache),
        )
        node = self._node
        meeting = Rendezvous(node.node_rank, node.endpoint, address, order["call"])

        def trouble() -> str | None:
            return None if link.listen() == order else "node 0 has ended this training"

        try:
            return trainer.run(mine, rendezvous=meeting, trouble=trouble)
        except OSError as error:
            if not is_full(error):
                raise
            return TrainingResult(None, Failure.DISK_FULL, str(error))


def _refuse_differences(first: dict[str, Any], own: dict[str, Any]) -> None:
    """Refuses to train with a node 0 that trains something else."""
    wrong = [
        f"{key} is {first.get(key)} on node 0, but {own.get(key)} on this node"
        for key in sorted(first | own)
        if first.get(key) != own.get(key)
    ]
    if wrong:
        raise InputError("this node cannot train with node 0: " + "; ".join(wrong))
