"""Depthwise convolutions whose gradients are computed in float32 on CPUs.

In bf16 oneDNN, which computes a CPU's convolutions for torch, has fast kernels for the forward pass
of all depthwise convolutions, but for the gradients of those only that have stride 1, 3x3 kernels
and sides of 3 or more. Milliseconds of both gradients of 100 images, in bf16 and as here, casts
included (torch 2.14, one core with AVX-512's bf16):

    96 channels at 16x16, 5x5 kernels                  59      28
    96 channels at 16x16, 5x5 kernels, stride 2       141      11
    48 channels at 32x32, 3x3 kernels, stride 2        69      16
    384 channels at 2x2, 3x3 kernels                   11     2.4
    960 channels at 1x1, 3x3 kernels                   14     3.0
    96 channels at 16x16, 3x3 kernels                 3.6     7.7   left as it is
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_SIDE = 3  # of kernels, at most, and of images, at least, whose gradients in bf16 are fast


def fast_gradients(model: nn.Module) -> nn.Module:
    """Has a model's depthwise convolutions compute gradients in float32 where that is faster.

    Nothing changes but under autocast on a CPU.

    Args:
        model: Its depthwise ``Conv2d`` modules, or itself, get another forward; weights are kept.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and _is_depthwise(module):
            module.__class__ = _Float32GradientConv2d  # the same state, another forward
    return model


def _is_depthwise(conv: nn.Conv2d) -> bool:
    plain = not isinstance(conv.padding, str) and conv.padding_mode == "zeros" and conv.bias is None
    return plain and 1 < conv.groups == conv.in_channels


class _Float32GradientConv2d(nn.Conv2d):
    """A depthwise convolution, ``b x C x H x W``."""

    def forward(self, x: Tensor) -> Tensor:
        """As ``nn.Conv2d``."""
        on_cpu = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if not on_cpu or not torch.is_grad_enabled() or self._is_fast(x):
            return super().forward(x)
        found: Tensor = _Float32Gradient.apply(
            x, self.weight, self.stride, self.padding, self.dilation, self.groups
        )
        return found

    def _is_fast(self, x: Tensor) -> bool:
        """Whether gradients in bf16 are fast."""
        return max(self.stride) == 1 and max(self.kernel_size) <= _SIDE <= min(x.shape[-2:])


class _Float32Gradient(torch.autograd.Function):
    """Forward in bf16, backward in float32; autograd gives gradients their inputs' types."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, *how: Any) -> Tensor:
        x = x.to(torch.bfloat16)
        ctx.save_for_backward(x, weight)
        ctx.how = how
        stride, padding, dilation, groups = how
        return torch.nn.functional.conv2d(
            x, weight.to(x.dtype), None, stride, padding, dilation, groups
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.how
        wanted = [*ctx.needs_input_grad[:2], False]
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            gradient.float(), x.float(), weight.float(), None,
            stride, padding, dilation, False, [0, 0], groups, wanted,  # noqa: FBT003 - it is aten's
        )  # fmt: skip
        return of_x, of_weight, None, None, None, None
