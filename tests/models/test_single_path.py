"""The Single-Path supernet: it is each of its networks, and its runtime is theirs."""

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from betanas.architecture.layers import LayerTable
from betanas.architecture.mbconv import BLOCKS, CHOICES, MBCONV, SKIP
from betanas.architecture.operators import Grid, Operator, OperatorTable
from betanas.architecture.supernet import SupernetPlan, network_text, plan_supernet
from betanas.errors import InputError
from betanas.models.network import build_model
from betanas.models.single_path import Gates, SinglePathNet, SuperBlock, indicator

RESOLUTION, CLASSES = 32, 5
SHAPE = {"stem": 1, "stages": 2, "blocks": 3, "width": 0.3, "tail": 32, "head": 24}


def by_work() -> OperatorTable:
    """Seconds that grow with an operator's work, and of each operator otherwise."""
    grids = {}
    for number, operator in enumerate(Operator):
        axes = ((8, 32, 128), (8, 32, 128), (2, 8, 32))
        axes = axes if operator.has_outputs else (axes[0], axes[2])
        places = np.array(np.meshgrid(*axes, indexing="ij"), dtype=np.float64)
        grids[operator] = Grid(axes, (1e-8 + 1e-9 * number) * places.prod(axis=0) * places[-1])
    return OperatorTable("a device", grids)


def small_plan(**changed: object) -> SupernetPlan:
    ranges = MBCONV.ranges | {name: (value, value) for name, value in SHAPE.items()} | changed
    return plan_supernet(MBCONV.settled(ranges), RESOLUTION, CLASSES, by_work())


def small_net(**changed: object) -> SinglePathNet:
    torch.manual_seed(0)
    net = SinglePathNet(small_plan(**changed), RESOLUTION, CLASSES)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # norms that would let a dropped channel through
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -1.0, 1.0)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net


def chosen(net: SinglePathNet, place: int, choice: str) -> dict[str, str]:
    """Different choices all over, that one at the given block."""
    found = {
        name: options[(3 * i + 1) % len(options)]
        for i, (name, options) in enumerate(net.plan.options.items())
    }
    return found | {list(found)[place]: choice}


PLACES = [(p, c) for p in range(6) for c in (CHOICES if p % 3 else BLOCKS)]


@pytest.mark.parametrize(("place", "choice"), PLACES)
def test_the_hardened_supernet_is_the_network_that_it_has_chosen(place: int, choice: str) -> None:
    net = small_net()
    choices = chosen(net, place, choice)
    net.force(choices)
    assert net.choices() == choices
    kernel = net.plan.kernel(choices)
    alone = build_model(MBCONV.decode(kernel, RESOLUTION, CLASSES))
    alone.load_state_dict(net.weights_of(choices))
    images = torch.randn(6, 3, RESOLUTION, RESOLUTION)
    with torch.no_grad():
        assert (net.eval()(images) - alone.eval()(images)).abs().max() < 1e-5
        # In training, with the batch's own statistics, of which the running ones are then made.
        assert (net.train()(images) - alone.train()(images)).abs().max() < 1e-5
        assert (net.eval()(images) - alone.eval()(images)).abs().max() < 1e-5


def test_a_part_that_is_not_there_has_no_gradient_from_the_answer() -> None:
    net = small_net()
    net.force(dict.fromkeys(net.plan.options, "3x3-3") | {"s1b2": SKIP})
    net(torch.randn(4, 3, RESOLUTION, RESOLUTION)).square().sum().backward()
    for name, block in net.blocks.items():
        assert isinstance(block, SuperBlock)
        expand, spatial, project = block.block
        gradients = [piece[0].weight.grad for piece in (expand, spatial, project)]
        for gradient in (*gradients[:2], gradients[2].transpose(0, 1)):
            assert not gradient[block.kept :].any()
        around = gradients[1] * block.ring
        assert not around.any()
        assert bool(project[0].weight.grad.any()) == (name != "s1b2")


def test_runtime_of_a_choice_is_the_sum_of_its_rows_and_of_its_operators() -> None:
    net = small_net()
    for place, choice in PLACES:
        choices = chosen(net, place, choice)
        net.force(choices)
        assert net.runtime_ms().item() == pytest.approx(net.plan.runtime_ms(choices), rel=1e-6)
        network = MBCONV.decode(net.plan.kernel(choices), RESOLUTION, CLASSES)
        seconds = by_work().seconds(LayerTable.of(network))[0]
        assert net.plan.runtime_ms(choices) == pytest.approx(1000 * seconds, rel=1e-9)


def test_gradient_of_log_runtime_is_that_of_finite_differences() -> None:
    net = small_net().double()
    blocks = [b for b in net.blocks.values() if isinstance(b, SuperBlock)]
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(3 * len(blocks), generator=generator, dtype=torch.float64)

    def log_runtime(flat: Tensor) -> Tensor:
        parts = zip(blocks, flat.reshape(-1, 3), strict=True)
        return torch.log(net.plan.fixed_ms + sum(b.runtime_of(Gates(*row)) for b, row in parts))

    assert torch.autograd.gradcheck(log_runtime, values.requires_grad_())


def test_gates_are_hard_and_learn_as_sigmoids() -> None:
    excess = torch.tensor([-1.5, -1e-4, 1e-4, 3.0], dtype=torch.float64, requires_grad=True)
    found = indicator(excess)
    assert found.tolist() == [0.0, 0.0, 1.0, 1.0]
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    (found * weights).sum().backward()
    soft = torch.sigmoid(excess.detach())
    assert torch.allclose(excess.grad, weights * soft * (1 - soft))


def test_thresholds_above_the_norms_lead_to_the_fastest_network() -> None:
    net = small_net()
    assert set(net.choices().values()) == {"5x5-6"}
    gates = net.gates()
    optimizer = torch.optim.Adam(net.parameters(), 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        torch.log(net.runtime_ms()).backward()
        optimizer.step()
    assert all(gate > 0 for gate in gates)
    assert net.choices() == net.plan.fastest
    assert set(net.choices().values()) == {"3x3-3", SKIP}
    assert net.runtime_ms().item() == pytest.approx(net.plan.runtime_ms(net.plan.fastest))


def test_blocks_have_the_options_of_the_study() -> None:
    net = small_net(s1b2=("3x3-6", "5x5-6"), s2b1=("3x3-3",), s2b3=("5x5-3", SKIP))
    found = {n: sorted(b.thresholds) for n, b in net.blocks.items() if isinstance(b, SuperBlock)}
    both = ["expansion", "kernel"]
    assert found == {
        "s1b1": both, "s1b2": ["kernel"], "s1b3": [*both, "presence"],
        "s2b1": [], "s2b2": [*both, "presence"], "s2b3": ["presence"],
    }  # fmt: skip
    assert net.choices()["s2b1"] == "3x3-3"
    with pytest.raises(InputError, match=r"must combine .* but got 3x3-3, 5x5-6"):
        small_net(s1b1=("3x3-3", "5x5-6"))


def test_a_supernet_has_one_shape() -> None:
    with pytest.raises(InputError, match=r"parameters.width must be one value .*\[0.3, 1\]"):
        small_plan(width=(0.3, 1.0))


def test_a_plan_survives_json() -> None:
    plan = small_plan()
    assert SupernetPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert network_text(plan.fastest) == "3x3-3 skip skip | 3x3-3 skip skip"
    assert math.isclose(plan.runtime_ms(plan.fastest), min_runtime(plan))


def min_runtime(plan: SupernetPlan) -> float:
    """The least over all networks, block by block."""
    return plan.fixed_ms + sum(
        min(plan.rows_ms[name][c] for c in options) for name, options in plan.options.items()
    )
