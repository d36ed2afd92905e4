"""Scores of networks with fresh weights: how good a network may become, guessed without training.

NASWOT: Mellor et al., 2021, "Neural Architecture Search without Training", equation 2. SynFlow:
Tanaka et al., 2020, "Pruning Neural Networks without Any Data by Iteratively Conserving Synaptic
Flow", summed over a network by Abdelfattah et al., 2021, "Zero-Cost Proxies for Lightweight NAS".
More is better in both, and both grow with the network: hold them against ``num_params``.
"""

import math
from collections import deque
from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from betanas.architecture.layers import IMAGE_CHANNELS
from betanas.models.cellnet import CellModule

# Their inputs' signs are a network's activation pattern; exact for ReLU, near for the smooth ones.
NONLINEARITIES = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Hardswish)
_SHARED = 2  # latest inputs that another nonlinearity may read, too
_MANY = 256  # columns from which a product of whole numbers is worth it
_FREED = 32_000_000  # bytes


@torch.no_grad()
def naswot(model: nn.Module, batches: Iterable[Tensor]) -> float:
    """Logarithm of the determinant of a kernel of activation patterns, mean over batches.

    Two images' entry in the kernel counts the nonlinearities' inputs that are above 0 for both, or
    for neither. Batch norms use the batch's statistics, stochastic depth and dropout are off.

    Args:
        model: Of normalised images; it stays as it is.
        batches: ``b x 3 x R x R`` each, b >= 2, on the model's device; at least one.

    Returns:
        The score, natural logarithm; ``-inf`` where two images look the same to the network.
    """
    model = deepcopy(model).eval()
    # An array of this size, once freed, teaches glibc to keep the memory of freed activations
    # instead of having the system clear it anew for each: a sixth of the time.
    torch.empty(_FREED, dtype=torch.uint8)
    kernel = _PatternKernel()
    _quicken(model)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.train()
        if isinstance(module, NONLINEARITIES):
            module.register_forward_pre_hook(kernel.add)
    scores = []
    for images in batches:
        kernel.clear(len(images))
        model(images)
        # numpy gives -inf for a singular kernel.
        scores.append(float(np.linalg.slogdet(kernel.values().double().numpy()).logabsdet))
    return math.fsum(scores) / len(scores)


def _quicken(model: nn.Module) -> None:
    """Has the model compute the same patterns with less work, of cells a fifth less."""
    for parent in list(model.modules()):
        if isinstance(parent, CellModule):
            parent.leave_out_idle()
        for name, child in parent.named_children():
            if isinstance(child, nn.AvgPool2d) and _Pool3.computes(child):
                setattr(parent, name, _Pool3())


class _Pool3(nn.Module):
    """Mean of 3x3 pixels, stride 1, without the padding: by a convolution, 2.4 times as fast."""

    @staticmethod
    def computes(pool: nn.AvgPool2d) -> bool:
        """Whether it is this mean."""
        sizes = (pool.kernel_size, pool.stride, pool.padding)
        return sizes == (3, 1, 1) and not (pool.count_include_pad or pool.divisor_override)

    def forward(self, x: Tensor) -> Tensor:
        """Pools ``b x c x h x w``."""
        if x.is_cuda or min(x.shape[2:]) < 2:
            return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        ninth = torch.full((x.shape[1], 1, 3, 3), 1 / 9)
        mean = functional.conv2d(x, ninth, padding=1, groups=x.shape[1])
        for border in (0, -1):  # has six pixels, corners four
            mean[:, :, border] *= 1.5
            mean[:, :, :, border] *= 1.5
        return mean


class _PatternKernel:
    """Gathers the kernel while a batch passes, in whole numbers.

    Several nonlinearities often read one tensor, as the edges of a cell that leave one node: what
    they add is computed once.
    """

    def clear(self, images: int) -> None:
        """Begins with another batch."""
        self._both = torch.zeros(images, images, dtype=torch.int64)
        self._inputs = 0
        self._latest: deque[tuple[Tensor, int, Tensor]] = deque(maxlen=_SHARED)

    def add(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Counts which of a nonlinearity's inputs are above 0 for two images."""
        (x,) = inputs
        version = x._version  # noqa: SLF001 - counts changes in place
        known = (c for read, then, c in self._latest if read is x and then == version)
        both = next(known, None)
        if both is None:
            both = _both_above(x)
            self._latest.append((x, version, both))
        self._both = self._both.to(both.device) + both
        self._inputs += x[0].numel()

    def values(self) -> Tensor:
        """How many inputs are above 0 for both images, or for neither: ``b x b``, on the CPU."""
        both = self._both.cpu()
        own = both.diagonal()
        return self._inputs - own[:, None] - own + 2 * both


def _both_above(x: Tensor) -> Tensor:
    """How many of ``b x ...`` values are above 0 for both images: ``b x b`` whole numbers."""
    if x.dim() == 4:  # in the order of ``channels_last`` there is nothing to copy
        x = x.permute(0, 2, 3, 1)
    if x.is_cuda or x[0].numel() < _MANY:
        codes = (x > 0).flatten(1).float()
        return (codes @ codes.T).long()  # exact below 2**24
    # A third of the time of float32's product. It has no public name, and is wrong of one column
    # (torch 2.14). numpy compares faster than torch.
    codes = torch.from_numpy(x.numpy() > 0).flatten(1).view(torch.int8)
    return torch._int_mm(codes, codes.T)  # noqa: SLF001


def synflow(model: nn.Module, resolution: int) -> float:
    """Logarithm of the sum of weight times gradient, all weights made positive, for an image of 1s.

    Convolutions' and linear layers' weights count; batch norms are left out, all is in float64,
    and the gradient is of the sum of the logits.

    Args:
        model: Of normalised images; it stays as it is.
        resolution: Input side in pixels.

    Returns:
        The score, natural logarithm; ``-inf`` where nothing of the image reaches the logits,
        ``inf`` where float64 cannot hold the sum.
    """
    model = deepcopy(model).double().eval()
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                setattr(parent, name, nn.Identity())
    device = next(model.parameters()).device
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    ones = torch.ones(1, IMAGE_CHANNELS, resolution, resolution, dtype=torch.float64, device=device)
    weights = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    gradients = torch.autograd.grad(model(ones).sum(), weights, materialize_grads=True)
    terms = [(w.detach() * g).sum() for w, g in zip(weights, gradients, strict=True)]
    flow = float(torch.stack(terms).sum())
    return math.log(flow) if 0 < flow < math.inf else (math.inf if flow else -math.inf)
