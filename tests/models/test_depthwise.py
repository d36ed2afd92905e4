"""Depthwise convolutions with gradients in float32: the same answers, better gradients."""

import pytest
import torch
from test_single_path import small_net
from torch import Tensor, nn

from betanas.models.depthwise import fast_gradients
from betanas.models.single_path import SinglePathNet


def bf16(*shape: int) -> Tensor:
    """Random float32 numbers that bf16 can hold."""
    return torch.randn(*shape).bfloat16().float()


def in_bf16(x: Tensor) -> bool:
    return torch.equal(x, x.bfloat16().float())


@pytest.mark.parametrize(
    ("kernel_size", "stride", "side"), [(3, 2, 12), (5, 1, 12), (5, 2, 12), (3, 1, 2)]
)
def test_gradients_are_exact_to_float32(kernel_size: int, stride: int, side: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, kernel_size, stride, kernel_size // 2, groups=8, bias=False)
    conv.weight.data = bf16(8, 1, kernel_size, kernel_size)
    plain = nn.Sequential(conv)
    x = bf16(4, 8, side, side).to(memory_format=torch.channels_last).requires_grad_()
    exact = torch.nn.functional.conv2d(
        x.double(), conv.weight.double(), None, stride, kernel_size // 2, groups=8
    )
    towards = bf16(*exact.shape)
    expected = torch.autograd.grad(exact, [x, conv.weight], towards.double())

    with torch.autocast("cpu", torch.bfloat16):
        before = plain(x)
        found = fast_gradients(plain)(x)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, before)
    of_x, of_weight = torch.autograd.grad(found, [x, conv.weight], towards.bfloat16())
    torch.testing.assert_close(of_weight, expected[1], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(of_x, expected[0], rtol=2**-7, atol=1e-2)
    assert not in_bf16(of_weight)


def test_other_convolutions_are_left_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.Conv2d(8, 8, 5, padding=2, bias=False),
        nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False),
    )
    x, weights = bf16(2, 8, 6, 6), model.state_dict()
    expected = model(x)
    assert torch.equal(fast_gradients(model)(x), expected)
    assert list(model.state_dict()) == list(weights)
    with torch.autocast("cpu", torch.bfloat16):
        model(x).sum().backward()
    exact = [not in_bf16(weight.grad) for weight in model.parameters() if weight.grad is not None]
    assert exact == [False, False, True]


def test_superkernels_have_them_too() -> None:
    net = fast_gradients(small_net())
    assert isinstance(net, SinglePathNet)
    with torch.autocast("cpu", torch.bfloat16):
        net(torch.randn(4, 3, 32, 32)).float().square().sum().backward()  # type: ignore[no-untyped-call]
    for block in net.blocks.values():
        gradient = block.get_parameter("block.1.0.weight").grad
        assert gradient is not None
        assert not in_bf16(gradient)
