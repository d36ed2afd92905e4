"""An auxiliary head: both answers are learnt from, and the weights of the head are not kept."""

from pathlib import Path

import pytest
import torch
from trainings import TaskMaker

from betanas.architecture.decoding import decode
from betanas.architecture.nasnet import NASNET
from betanas.launcher.client import TrainerServer
from betanas.models.network import build_network
from betanas.study.loading import load_definition
from betanas.training.checkpoint import BEST_FILE

RECIPE = {
    key: getattr(load_definition("nasnet-mobile").recipe, key)
    for key in ("optimizer", "rmsprop_decay", "optimizer_epsilon", "weight_decay", "dropout")
}


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_it_trains_by_the_published_recipe(
    server: TrainerServer, make_task: TaskMaker, weight: float
) -> None:
    network = decode(NASNET, {"N": 1, "F": 4}, 16, 10)
    recipe = RECIPE | {"auxiliary_weight": weight, "batch_size": 16, "evaluations": 1}
    task = make_task(architecture=network, recipe=recipe, budget={"steps": 20}, keep_best=True)
    result = server.run(task)
    assert result.failure is None
    # Of ten classes, what knows nothing loses log 10 = 2.3; the head's loss is added to it.
    least = 1.8 * (1 + weight)
    assert result.history[-1].train_loss > least
    best = torch.load(Path(task.folder) / BEST_FILE, weights_only=True)["weights"]
    build_network(network).load_state_dict(best)  # strict: nothing is missing, nothing beyond
