"""The ProxylessNAS supernet: one path at a time, and gates that learn from two of them."""

import pytest
import torch
from test_single_path import CLASSES, RESOLUTION, small_plan
from torch import Tensor
from torch.nn.functional import cross_entropy

from betanas.architecture.mbconv import MBCONV
from betanas.models.network import build_model
from betanas.models.proxyless import MixedBlock, ProxylessNet

IMAGES = torch.randn(4, 3, RESOLUTION, RESOLUTION, generator=torch.Generator().manual_seed(1))


def small_net() -> ProxylessNet:
    torch.manual_seed(0)
    return ProxylessNet(small_plan(), RESOLUTION, CLASSES)


def mixed(net: ProxylessNet) -> list[MixedBlock]:
    return [b for b in net.blocks.values() if isinstance(b, MixedBlock)]


def prefer(net: ProxylessNet, choices: dict[str, str]) -> None:
    with torch.no_grad():
        for name, choice in choices.items():
            block = net.blocks[name]
            assert isinstance(block, MixedBlock)
            block.logits[block.options.index(choice)] = 3.0
    net.settle()


def test_the_most_likely_network_is_what_build_model_makes_of_it() -> None:
    net = small_net()
    choices = {"s1b1": "5x5-3", "s1b2": "skip", "s1b3": "3x3-6", "s2b1": "3x3-3"}
    choices |= {"s2b2": "5x5-6", "s2b3": "skip"}
    prefer(net, choices)
    assert net.choices() == choices
    alone = build_model(MBCONV.decode(net.plan.kernel(choices), RESOLUTION, CLASSES))
    paths = {name: net.blocks[name].active for name in choices}  # type: ignore[union-attr]
    state, place = {}, 0
    for i, module in enumerate(net.features):
        name = net.plan.block_layers().get(i)
        if name is not None and choices[name] == "skip":
            continue
        taken = module if name is None else module.paths[paths[name]]
        state |= {f"features.{place}.{k}": v for k, v in taken.state_dict().items()}
        place += 1
    state |= {
        k: v
        for k, v in net.state_dict().items()
        if k.split(".")[0] in dict(alone.named_children()) and not k.startswith("features")
    }
    alone.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(net.eval()(IMAGES), alone.eval()(IMAGES))
    assert float(net.runtime_ms()) == pytest.approx(net.plan.runtime_ms(choices), rel=1e-6)


def test_weights_learn_along_one_path() -> None:
    net = small_net()
    net.before_step(torch.Generator().manual_seed(2))
    net(IMAGES).sum().backward()
    for block in mixed(net):
        touched = {
            i for i, p in enumerate(block.paths) if any(w.grad is not None for w in p.parameters())
        }
        assert touched <= {block.active}
        assert block.logits.grad is None


def test_gates_learn_what_the_answer_would_change_by() -> None:
    """Equation 3, its left factor by finite differences."""
    net = small_net().double().eval()
    images, labels = IMAGES.double(), torch.tensor([0, 1, 2, 3])
    net.draw_pairs(torch.Generator().manual_seed(3))
    block = mixed(net)[1]
    pair = [block.active, block.other]
    block.logits.data += torch.arange(len(block.options))
    cross_entropy(net(images), labels).backward()

    def loss_at(weights: list[float]) -> Tensor:
        def forward(x: Tensor) -> Tensor:
            return sum(w * block.paths[i](x) for w, i in zip(weights, pair, strict=True))

        old, block.forward = block.forward, forward  # type: ignore[method-assign]
        with torch.no_grad():
            found = cross_entropy(net(images), labels)
        block.forward = old  # type: ignore[method-assign]
        return found

    step, slopes = 1e-5, []
    for j in range(2):
        ends = []
        for sign in (1, -1):
            weights = [1.0, 0.0]
            weights[j] += sign * step
            ends.append(loss_at(weights))
        slopes.append((ends[0] - ends[1]) / (2 * step))
    p = torch.softmax(block.logits.detach()[pair], dim=0)
    expected = torch.zeros(len(block.options), dtype=torch.float64)
    for i in range(2):
        expected[pair[i]] = sum(slopes[j] * p[j] * (float(i == j) - p[i]) for j in range(2))
    assert torch.allclose(block.logits.grad, expected, rtol=1e-4, atol=1e-9)


def test_expected_runtime_is_the_mean_over_paths_and_teaches_the_two() -> None:
    net = small_net().double()
    net.draw_pairs(torch.Generator().manual_seed(4))
    block = mixed(net)[4]
    block.logits.data.copy_(torch.tensor([0.3, -0.2, 0.9, 0.0, -1.0]))
    rows = [net.plan.rows_ms["s2b2"][c] for c in block.options]
    chances = torch.softmax(block.logits.detach(), dim=0)
    assert block.runtime_ms().item() == pytest.approx(float(chances @ torch.tensor(rows).double()))
    torch.log(net.runtime_ms()).backward()
    learns = set(torch.nonzero(block.logits.grad).flatten().tolist())
    assert learns == {block.active, block.other}

    def log_runtime(pair: Tensor) -> Tensor:
        whole = block.logits.detach().clone().index_copy(0, torch.tensor(sorted(learns)), pair)
        return torch.log(torch.softmax(whole, 0) @ block.rows)

    assert torch.autograd.gradcheck(
        log_runtime, block.logits.detach()[sorted(learns)].requires_grad_()
    )


def test_paths_that_are_not_compared_stay_as_likely_as_they_were() -> None:
    net = small_net()
    net.draw_pairs(torch.Generator().manual_seed(5))
    block = mixed(net)[2]
    before = block.probabilities()
    block.logits.data[block.active] += 0.7
    net.after_gates()
    after = block.probabilities()
    for i, choice in enumerate(block.options):
        if i not in (block.active, block.other):
            assert after[choice] == pytest.approx(before[choice], rel=1e-5)
    assert after[block.options[block.active]] > before[block.options[block.active]]


def test_rewards_find_the_network_that_is_rewarded() -> None:
    net, generator = small_net(), torch.Generator().manual_seed(6)
    wanted = {name: options[-1] for name, options in net.plan.options.items()}
    optimizer = torch.optim.Adam(net.gates(), 0.1, betas=net.gate_betas)
    for _ in range(300):
        net.before_step(generator)
        drawn = {n: b.options[b.active] for n, b in zip(wanted, mixed(net), strict=True)}
        reward = sum(drawn[name] == wanted[name] for name in wanted) / len(wanted)
        optimizer.zero_grad()
        net.reinforce_loss(reward).backward()
        optimizer.step()
    assert net.choices() == wanted
