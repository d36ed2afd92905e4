"""Batch norms between ranks, and batch-norm statistics that are worth evaluating with."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from betanas.devices.ranks import Ranks


def synchronize_norms(model: nn.Module, ranks: Ranks) -> nn.Module:
    """Lets each batch norm normalise with the statistics of all ranks' images.

    On GPUs these are torch's own; torch has none for CPUs, so there they are this module's.

    Args:
        model: Its ``BatchNorm2d`` modules are replaced, weights and statistics kept.
        ranks: Their batches may differ in size.
    """
    if ranks.size == 1:
        return model
    if ranks.device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                child.__class__ = _SharedBatchNorm2d  # the same state, another forward
                assert getattr(parent, name) is child  # noqa: S101
    return model


class _SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the batches of all ranks, each ``b x C x H x W`` on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """As ``nn.BatchNorm2d``; in training it takes part in two collectives, one each way."""
        if not self.training:
            return super().forward(x)
        output, mean, variance, count = _SharedNormalisation.apply(
            x, self.weight, self.bias, self.eps
        )
        self._remember(mean, variance, count)
        return output  # type: ignore[no-any-return]

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        assert self.running_mean is not None  # noqa: S101 - these track their statistics
        assert self.running_var is not None  # noqa: S101
        assert self.num_batches_tracked is not None  # noqa: S101
        self.num_batches_tracked += 1
        rate = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance * (count / (count - 1)), rate)


class _SharedNormalisation(torch.autograd.Function):
    """Normalises with the mean and variance over all ranks; gradients flow through both.

    With x' = (x - mean) / std, means over all ranks' pixels of a channel:
    dx = weight / std * (dy - mean(dy) - x' * mean(dy * x')) (Ioffe and Szegedy, 2015).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # In float32, as torch keeps them: x may be bf16.
        variance, mean = torch.var_mean(x.float(), dim=(0, 2, 3), correction=0)
        own = torch.stack([variance, mean, torch.full_like(mean, x.numel() // x.shape[1])])
        all_ranks = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(all_ranks, own)
        variances, means, counts = torch.stack(all_ranks).unbind(1)
        count = counts[:, 0].sum()
        shares = counts / count
        mean = (shares * means).sum(0)
        # The variance of all is that within the ranks' batches plus that between them.
        variance = (shares * (variances + (means - mean).square_())).sum(0)
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, count)
        output = functional.batch_norm(x, mean, variance, weight, bias, eps=eps)
        return output, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, variance, count = ctx.saved_tensors
        # As if mean and variance were constants; torch's kernel also adds up dy and dy * x'.
        train = False
        dx, d_weight, d_bias = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, variance, None, None, train, ctx.eps, [True, True, True]
        )
        sums = torch.stack([d_bias, d_weight])
        dist.all_reduce(sums)
        mean_dy, mean_dyx = sums.div_(count)
        inverse_std = (variance + ctx.eps).rsqrt_()
        slope = weight * inverse_std.square() * mean_dyx
        offset = slope * mean - weight * inverse_std * mean_dy
        channels = (1, -1, 1, 1)
        dx = (
            dx.float()
            .add_(offset.view(channels))
            .addcmul_(x.float(), slope.view(channels), value=-1)
        )
        return dx.to(x.dtype), d_weight, d_bias, None


@torch.no_grad()
def measure_norms(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Measures batch-norm statistics anew, as the mean over some batches.

    The running averages of a short training lag behind its weights. Only the norms are in training
    mode meanwhile: no branch is dropped.

    Args:
        model: On the batches' device.
        batches: Images, ``b x 3 x R x R`` each; at least one batch.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001
    with _averaging(norms):
        for number, inputs in enumerate(batches, start=1):
            for norm in norms:
                # The plain mean over all batches. Torch's own sign for it, no momentum, asks the
                # device how many there were: a wait for each norm and batch.
                norm.momentum = 1 / number
            model(inputs)


@contextmanager
def _averaging(norms: list[nn.modules.batchnorm._BatchNorm]) -> Iterator[None]:
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
