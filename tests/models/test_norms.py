import torch
from torch import nn
from torchvision.ops import StochasticDepth

from betanas.models.depth import DepthNoise
from betanas.models.norms import measure_norms


def test_measured_statistics_are_those_of_the_batches() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5)).eval()
    batches = [torch.randn(50, 3, 4, 4) * 2 + 1 for _ in range(4)]
    momentum = model[0].momentum
    measure_norms(model, batches)
    torch.testing.assert_close(model[0].running_mean, torch.cat(batches).mean(dim=(0, 2, 3)))
    expected = torch.stack([batch.transpose(0, 1).flatten(1).var(1) for batch in batches]).mean(0)
    torch.testing.assert_close(model[0].running_var, expected)
    assert not model[0].training
    assert model[0].momentum == momentum


class Residual(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.drop = StochasticDepth(p, "row")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(x * self.weight)


def noise_of(mine: slice, step: int) -> torch.Tensor:
    model = Residual(0.25)
    DepthNoise(model, 11, 200, mine, steps_at_once=4).load(step)
    return model(torch.ones(mine.stop - mine.start, 1, 1, 1)).detach().flatten()


def test_branches_are_dropped_for_whole_images_at_the_right_rate() -> None:
    noise = torch.cat([noise_of(slice(0, 200), step) for step in range(50)])
    assert set(noise.tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert abs((noise > 0).float().mean() - 0.75) < 4 * (0.75 * 0.25 / 10_000) ** 0.5


def test_ranks_drop_their_share_of_the_whole() -> None:
    whole = noise_of(slice(0, 200), 6)
    assert torch.equal(whole, torch.cat([noise_of(slice(0, 90), 6), noise_of(slice(90, 200), 6)]))
    assert not torch.equal(whole, noise_of(slice(0, 200), 7))


def test_evaluation_drops_nothing() -> None:
    model = Residual(0.25)
    DepthNoise(model, 11, 8, slice(0, 8), steps_at_once=4).load(0)
    assert torch.equal(model.eval()(torch.ones(3, 1, 1, 1)), torch.ones(3, 1, 1, 1))
    assert "drop.scale" not in model.state_dict()
