"""From a recipe to the optimiser, the precision and the gradients' way between ranks."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from betanas.cores import multiplies_bf16
from betanas.devices.ranks import Ranks
from betanas.study.recipe import Recipe
from betanas.training.muon import Muon

_FP16_MOST = 2.0**15  # half of fp16's range: a sum of rounded shares stays inside


def build_optimizer(
    recipe: Recipe, model: nn.Module, without: Iterable[Tensor] = ()
) -> "torch.optim.Optimizer | Muon":
    """Builds the optimiser; weight decay spares norms and biases (all tensors of one dimension).

    Args:
        recipe: Which, and its rates.
        model: Whose weights.
        without: Those among them that are not its business; Muon takes all.
    """
    left_out = {id(p) for p in without}
    weights = [p for p in model.parameters() if id(p) not in left_out]
    decayed = [p for p in weights if p.ndim > 1]
    spared = [p for p in weights if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    rate, eps = recipe.learning_rate, recipe.optimizer_epsilon
    fused = True  # one kernel for all tensors, on GPUs and CPUs
    match recipe.optimizer:
        case "adam":
            return torch.optim.Adam(groups, rate, recipe.betas, eps, fused=fused)
        case "adamw":
            return torch.optim.AdamW(groups, rate, recipe.betas, eps, fused=fused)
        case "sgd":
            nesterov = recipe.momentum > 0
            return torch.optim.SGD(groups, rate, recipe.momentum, nesterov=nesterov, fused=fused)
        case "rmsprop":
            return torch.optim.RMSprop(
                groups, rate, recipe.rmsprop_decay, eps, momentum=recipe.momentum, foreach=True
            )
        case "muon":
            return Muon(recipe, model)


class Precision:
    """In which numbers a model computes.

    Args:
        recipe: Says which (``Recipe.numbers``): ``tf32`` rounds what convolutions multiply to 10
            bits, on GPUs; ``bf16`` is autocast. On a GPU without bf16 ``auto`` is float32.
        device: Where the model is.
        resolution: Input side in pixels.
        by_trial: Whether cuDNN tries its kernels for every convolution and keeps the fastest. On an
            H100 that took 13 s for the published BetaNet2 at R=64 and made its steps 5 % faster,
            and nothing for a small network at R=32 (measured).

    Attributes:
        name: ``float32``, ``tf32`` or ``bf16``.
        dtype: What batches are best handed over in.
    """

    def __init__(
        self, recipe: Recipe, device: torch.device, resolution: int, *, by_trial: bool = False
    ) -> None:
        self._device = device.type
        on_gpu = device.type == "cuda"
        self.name = recipe.numbers(device.type, resolution, cpu_has_bf16=multiplies_bf16())
        automatic = on_gpu and recipe.precision == "auto"
        if automatic and not torch.cuda.is_bf16_supported(including_emulation=False):
            self.name = "float32"
        self.dtype = torch.bfloat16 if self.name == "bf16" else torch.float32
        if on_gpu:
            torch.backends.cudnn.benchmark = by_trial
            torch.backends.cudnn.allow_tf32 = self.name == "tf32"
            # Images are resampled by products of matrices, which TF32 would round.
            torch.backends.cuda.matmul.allow_tf32 = False

    def applied(self) -> torch.autocast:
        """A context for forward passes and losses."""
        return torch.autocast(self._device, torch.bfloat16, enabled=self.name == "bf16")


def fp16_within_range(
    group: dist.ProcessGroup | None,
    bucket: dist.GradBucket,  # type: ignore[name-defined]
) -> torch.futures.Future[Tensor]:
    """Averages gradients over the ranks in fp16, as torch's own hook does, but within its range.

    Numbers beyond fp16's range would arrive as infinities, and a sound training would end as
    diverged: they become the largest that fit. Infinities that were there before stay.

    Args:
        group: The ranks; None for all.
        bucket: Gradients of this rank, changed in place.
    """
    own = bucket.buffer()
    own.copy_(torch.where(own.isinf(), own, own.clamp(-_FP16_MOST, _FP16_MOST)))
    return default_hooks.fp16_compress_hook(group, bucket)  # type: ignore[arg-type]


def parallel(recipe: Recipe, model: nn.Module, ranks: Ranks) -> nn.Module:
    """Wraps the model so that backward averages gradients over the ranks, and compiles it."""
    if ranks.size == 1:
        return torch.compile(model) if recipe.compile else model  # type: ignore[return-value]
    wrapped = DistributedDataParallel(
        model,
        device_ids=[ranks.device.index] if ranks.device.type == "cuda" else None,
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
    )
    if recipe.gradient_compression == "fp16":
        wrapped.register_comm_hook(None, fp16_within_range)
    elif recipe.gradient_compression == "bf16":
        wrapped.register_comm_hook(None, default_hooks.bf16_compress_hook)
    return torch.compile(wrapped) if recipe.compile else wrapped  # type: ignore[return-value]
