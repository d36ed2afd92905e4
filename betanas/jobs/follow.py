"""Another machine that trains each trial of a study together with node 0, which runs the search."""

from collections.abc import Callable

from betanas.data import describe_dataset
from betanas.database.folders import cache_folder, trials_folder
from betanas.devices.find import find_devices
from betanas.launcher.following import Follower
from betanas.launcher.link import introduction
from betanas.launcher.rendezvous import Node
from betanas.study.definition import StudyDefinition


def follow(
    definition: StudyDefinition,
    url: str,
    device: str,
    nproc_per_node: int | None,
    node: Node,
    say: Callable[[str], None],
) -> int:
    """Trains, with node 0, the trials of the study that it runs; touches no database.

    Args:
        definition: The study file, the same as node 0's.
        url: Its database; only tells beside which file this node leaves its own.
        device: ``auto``, ``cpu`` or ``cuda``.
        nproc_per_node: Ranks of a trial on this machine, as many as on node 0.
        node: This node.
        say: Told how it goes, a line each.

    Returns:
        How many trainings this node took part in.
    """
    devices = find_devices(device, nproc_per_node)
    own = introduction(node, devices, definition, describe_dataset(definition.dataset))
    folder = trials_folder(url, definition.name)
    # A folder of its own: nodes may share a file system.
    mine = folder / f"node-{node.node_rank}"
    follower = Follower(definition, node, own, mine, cache_folder(folder), say)
    follower.run()
    return follower.trainings
