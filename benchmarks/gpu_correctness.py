"""Phases of gpu.py: the device computes what a CPU does."""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from gpu_tasks import MEAN, STD, Row, make_task, network, random_images, relative
from torch import Tensor, nn

from betanas.devices.ranks import Ranks
from betanas.images.augment import TrainAugment
from betanas.images.autoaugment import OPERATIONS, apply_operations
from betanas.models.network import build_network
from betanas.study.recipe import Budget, Recipe
from betanas.training.recipe import parallel
from betanas.training.trainer import Training


def augmentation(device: torch.device, quick: bool) -> Iterator[Row]:
    """Each augmentation on the device against the CPU, and resampling."""
    generator = torch.Generator().manual_seed(1)
    codes = torch.arange(len(OPERATIONS))[:, None]
    images = torch.randint(
        256, (len(OPERATIONS), 3, 32, 32), dtype=torch.uint8, generator=generator
    )
    here = apply_operations(images, codes)
    there = apply_operations(images.to(device), codes).cpu()
    wrong = (here != there).flatten(1).any(1)
    names = sorted({OPERATIONS[i].name for i in torch.nonzero(wrong).flatten().tolist()})
    yield {"what": "operations", "codes": len(OPERATIONS), "wrong": names, "ok": not names}
    torch.backends.cudnn.allow_tf32 = True
    for resolution in (32, 64) if quick else (32, 64, 224):
        augment = TrainAugment(resolution, MEAN, STD, autoaugment=False)
        draws = augment.draw(64, (32, 32), generator)
        pixels = torch.randint(256, (64, 32, 32, 3), dtype=torch.uint8, generator=generator)
        error = relative(augment(pixels.to(device), draws), augment(pixels, draws))
        yield {"what": f"resampling R={resolution}", "error": error, "ok": error < 1e-5}


def gradients(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and all gradients of a training step, flat."""
    model.zero_grad(set_to_none=True)
    logits = model(images)
    nn.functional.cross_entropy(
        logits.float() if logits.dtype != torch.float64 else logits, labels
    ).backward()
    return logits.detach(), torch.cat([p.grad.double().flatten().cpu() for p in model.parameters()])


def arithmetic(device: torch.device, quick: bool) -> Iterator[Row]:
    """Forward pass and gradients against the CPU's in float64."""
    bounds = {"float32": 1e-4, "tf32": 3e-3, "bf16": 2e-2}
    for resolution, batch in ((32, 32),) if quick else ((32, 64), (64, 16)):
        torch.manual_seed(0)
        model = build_network(network(resolution)).eval()
        images, labels = torch.randn(batch, 3, resolution, resolution), torch.arange(batch) % 10
        logits, slopes = gradients(model.double(), images.double(), labels)
        for name, bound in bounds.items():
            torch.backends.cudnn.allow_tf32 = name == "tf32"
            own = model.float().to(device).to(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=name == "bf16"):
                found, found_slopes = gradients(own, images.to(device), labels.to(device))
            errors = relative(found, logits), relative(found_slopes, slopes)
            yield {
                "what": f"R={resolution} {name}", "forward": errors[0], "gradients": errors[1],
                "bound": bound, "ok": max(errors) < bound,
            }  # fmt: skip
            model = own.cpu().to(memory_format=torch.contiguous_format)


def graph(device: torch.device, quick: bool) -> Iterator[Row]:
    """Twenty steps by graphs against the same by eager calls, in float32, with each optimiser.

    Muon computes in bf16, where a difference in the last digit of a sum is soon one of 1 %, and
    RMSprop divides small gradients by their own size.
    """
    steps = 3 if quick else 20
    bounds = {"adam": 1e-3, "sgd": 1e-3, "rmsprop": 1e-2, "muon": 5e-2}
    for optimizer, bound in bounds.items():
        weights = {}
        for engine in ("eager", "graph"):
            with tempfile.TemporaryDirectory() as folder:
                recipe = {
                    "engine": engine, "precision": "float32", "batch_size": 50, "mixup": 0.2,
                    "optimizer": optimizer, "clip_gradient_norm": 5.0,
                }  # fmt: skip
                task = make_task(folder, 32, recipe, Budget(steps=steps))
                training = Training(task, random_images(2000), Ranks(0, 1, device), time.time())
                result = training.run()
                weights[engine] = torch.cat(
                    [p.detach().flatten().cpu() for p in training._model.parameters()]
                )
                yield {
                    "what": f"{optimizer}, engine asked: {engine}, used: {result.engine}",
                    "loss": result.history[-1].train_loss,
                }
        error = relative(weights["graph"], weights["eager"])
        what = f"{optimizer}: weights after {steps} steps, graph and eager"
        yield {"what": what, "error": error, "ok": error < bound}


@contextmanager
def group(backend: str, rank: int, size: int, folder: str) -> Iterator[None]:
    """A process group of torch's."""
    dist.init_process_group(
        backend, init_method=f"file://{folder}/meeting", rank=rank, world_size=size
    )
    try:
        yield
        dist.barrier()  # who leaves first closes the others' connections
    finally:
        dist.destroy_process_group()


def hooks(device: torch.device, quick: bool) -> Iterator[Row]:
    """DistributedDataParallel in a group of one, with each way to compress gradients."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    for compression in ("none", "fp16", "bf16"):
        with tempfile.TemporaryDirectory() as folder, group(backend, 0, 1, folder):
            torch.manual_seed(0)
            model = build_network(network(32)).to(device)
            made = Recipe(gradient_compression=compression)
            wrapped = parallel(made, model, Ranks(0, 2, device))
            images, labels = (
                torch.randn(32, 3, 32, 32, device=device),
                torch.arange(32, device=device) % 10,
            )
            nn.functional.cross_entropy(wrapped(images), labels).backward()
            finite = all(bool(p.grad.isfinite().all()) for p in model.parameters())
            yield {"what": f"DDP, {backend}, compression {compression}", "ok": finite}


def _rank_of_two(rank: int, folder: str, device: str) -> None:
    place = torch.device(device)
    with group("gloo", rank, 2, folder):
        recipe = {"batch_size": 25, "precision": "float32"}
        task = make_task(folder, 32, recipe, Budget(steps=10), nproc_per_node=2)
        result = Training(task, random_images(1000), Ranks(rank, 2, place), time.time()).run()
        if rank == 0:
            Path(folder, "result.json").write_text(json.dumps(result.to_json()))


def two_ranks(device: torch.device, quick: bool) -> Iterator[Row]:
    """Two ranks that share one device, over gloo."""
    with tempfile.TemporaryDirectory() as folder:
        place = "cuda:0" if device.type == "cuda" else "cpu"
        torch.multiprocessing.start_processes(
            _rank_of_two, (folder, place), nprocs=2, start_method="spawn"
        )
        result = json.loads(Path(folder, "result.json").read_text())
        yield {
            "what": "two ranks on one device over gloo",
            "steps": result["steps"],
            "ok": result["steps"] == 10,
        }
