"""The phases of gpu.py: each a function from (device, quick) to rows of plain data."""

import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from betanas.architecture.complexity import count
from betanas.architecture.decoding import decode
from betanas.architecture.families import FAMILIES
from betanas.architecture.layers import Architecture
from betanas.devices.ranks import Ranks
from betanas.images.augment import TrainAugment
from betanas.images.autoaugment import OPERATIONS, apply_operations
from betanas.images.mixing import Targets
from betanas.images.placement import TrainingImages
from betanas.launcher.client import TrainerServer
from betanas.models.network import build_network
from betanas.study.recipe import Budget, DatasetConfig, Recipe
from betanas.training.engine import prepare_engine
from betanas.training.recipe import Precision, build_optimizer, parallel
from betanas.training.trainer import Training
from betanas.trial import TrialTask

Row = dict[str, Any]

# The best of the recorded study ``demo``: 145,009 weights at R=32.
DEMO = {
    "k": 2.8951, "K": 2.0, "Da": 0.1029, "Db": 0.3973, "Wa": 0.031, "Wb": -0.3393, "G0": 2.333,
    "G1": 1.3709, "B": 0.6625, "E0": 3.0428, "E1": 3.3461, "S0": 13.8727, "S1": 18.0549,
}  # fmt: skip
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


def network(resolution: int) -> Architecture:
    """The small network at R=32, the published BetaNet2 elsewhere."""
    family = FAMILIES["betanet2"]
    kernel = DEMO if resolution <= 32 else family.published
    return decode(family, kernel, resolution, 10)


def make_task(
    folder: str, resolution: int, recipe: dict[str, Any], budget: Budget, **changes: Any
) -> TrialTask:
    """A task of its own; its data set is never opened."""
    told = {
        "number": 0,
        "seed": 3,
        "architecture": network(resolution),
        "dataset": DatasetConfig(name="digits"),
        "recipe": Recipe(**{"preset": "fast", "gradient_compression": "none", **recipe}),
        "budget": budget,
        "nproc_per_node": 1,
        "device": "cuda",
        "folder": folder,
        "cache": folder,
        **changes,
    }
    return TrialTask(**told)


def random_images(number: int, side: int = 32) -> TrainingImages:
    """Noise in the place of a data set, a tenth of it held out."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (number, side, side, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(10, (number,), generator=generator)
    indices = torch.arange(number)
    return TrainingImages(
        images, labels, indices[number // 10 :], indices[: number // 10], MEAN, STD
    )


def synchronize(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], object], device: torch.device, times: int) -> float:
    """Median time of some work, after one warm-up."""
    work()
    taken = []
    for _ in range(times):
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def relative(found: Tensor, reference: Tensor) -> float:
    """Norm of the difference over the norm of the reference."""
    found, reference = found.double().cpu(), reference.double().cpu()
    return float((found - reference).norm() / reference.norm())


def ceilings(device: torch.device, quick: bool) -> Iterator[Row]:
    """What the card can do: copies and matrix products."""
    side, size = (1024, 2**22) if quick else (8192, 2**30)
    one = torch.randn(side, side, device=device).bfloat16()
    other = torch.randn(side, side, device=device).bfloat16()
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = seconds_of(lambda: target.copy_(source), device, 10)
    multiplied = seconds_of(lambda: one @ other, device, 10)
    on_gpu = device.type == "cuda"
    yield {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "cores": os.cpu_count(),
        "copy_tb_per_s": 2 * size / copied / 1e12,
        "bf16_tflop_per_s": 2 * side**3 / multiplied / 1e12,
    }


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
    """Twenty steps by a graph against the same by eager calls, in float32."""
    weights = {}
    for engine in ("eager", "graph"):
        with tempfile.TemporaryDirectory() as folder:
            recipe = {"engine": engine, "precision": "float32", "batch_size": 50, "mixup": 0.2}
            task = make_task(folder, 32, recipe, Budget(steps=20))
            training = Training(task, random_images(2000), Ranks(0, 1, device), time.time())
            result = training.run()
            weights[engine] = torch.cat(
                [p.detach().flatten().cpu() for p in training._model.parameters()]
            )
            yield {
                "what": f"engine asked: {engine}, used: {result.engine}",
                "loss": result.history[-1].train_loss,
            }
    error = relative(weights["graph"], weights["eager"])
    yield {"what": "weights after 20 steps, graph and eager", "error": error, "ok": error < 1e-3}


@contextmanager
def group(backend: str, rank: int, size: int, folder: str) -> Iterator[None]:
    """A process group of torch's."""
    dist.init_process_group(
        backend, init_method=f"file://{folder}/meeting", rank=rank, world_size=size
    )
    try:
        yield
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


def _limit(task: TrialTask, device: torch.device, seconds: float) -> float:
    """Images a second of the engine alone: one batch that is there already, nothing around it."""
    side, batch = task.architecture.resolution, task.recipe.batch_size
    model = build_network(task.architecture).to(device).to(memory_format=torch.channels_last)
    precision = Precision(task.recipe, device, side)
    images = torch.randn(batch, 3, side, side, device=device, dtype=precision.dtype)
    images = images.to(memory_format=torch.channels_last)
    targets = Targets(torch.arange(batch, device=device) % 10)
    optimizer = build_optimizer(task.recipe, model)
    engine = prepare_engine(
        model, task.recipe, precision, Ranks(0, 1, device), lambda: None, lambda: (images, targets)
    )
    for steps in itertools.count():
        if steps == 20:
            synchronize(device)
            began = time.perf_counter()
        if steps > 20 and steps % 8 == 0:
            synchronize(device)
            if time.perf_counter() - began > seconds:
                return (steps - 20) * batch / (time.perf_counter() - began)
        engine.learn(images, targets)
        optimizer.step()
    raise AssertionError


def throughput(device: torch.device, quick: bool) -> Iterator[Row]:
    """Images a second of a training, beside the engine's alone and what the card could do."""
    seconds = 0.5 if quick else 2.0
    images = random_images(1000 if quick else 50_000)
    cells = [(32, 100)] if quick else [(32, 100), (32, 500), (64, 100), (224, 100)]
    ways = [(p, e) for p in ("tf32", "bf16") for e in ("eager", "graph")]
    ways = ways[:2] if quick else [*ways, ("bf16", "compile")]
    for (resolution, batch), (precision, engine) in itertools.product(cells, ways):
        if engine == "compile" and (resolution, batch) not in ((32, 500), (224, 100)):
            continue
        recipe = {
            "batch_size": batch, "precision": precision, "autoaugment": True,
            "engine": "auto" if engine == "compile" else engine, "compile": engine == "compile",
        }  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            task = make_task(folder, resolution, recipe, Budget(seconds=seconds))
            try:
                limit = _limit(task, device, seconds)
                result = Training(task, images, Ranks(0, 1, device), time.time()).run()
            except RuntimeError as error:
                yield {
                    "R": resolution,
                    "batch": batch,
                    "precision": precision,
                    "engine": engine,
                    "error": str(error).splitlines()[0][:200],
                    "ok": False,
                }
                continue
        macs = count(task.architecture, batch).macs
        yield {
            "R": resolution, "batch": batch, "precision": precision, "engine": result.engine,
            "images_per_s": round(result.images_per_second), "limit": round(limit),
            "ours_of_limit": round(result.images_per_second / limit, 3),
            "data_share": round(result.data_wait_seconds / result.train_seconds, 3),
            "startup_s": round(result.startup_seconds, 2),
            "tflop_per_s": round(6 * macs * result.images_per_second / 1e12, 2),
        }  # fmt: skip


def start_up(device: torch.device, quick: bool) -> Iterator[Row]:
    """Where a fresh process's first seconds go, and what choosing kernels by trial brings."""
    began = time.perf_counter()
    torch.ones(2, device=device).sum().item()
    yield {"what": "context", "seconds": round(time.perf_counter() - began, 2)}
    repeats = 3 if quick else 20
    cells = [(32, 100, True), (32, 100, True), (32, 101, False), (64, 100, True), (64, 101, False)]
    for resolution, batch, by_trial in cells[: 2 if quick else None]:
        began = time.perf_counter()
        recipe = Recipe(batch_size=batch)
        precision, ranks = Precision(recipe, device, resolution), Ranks(0, 1, device)
        torch.backends.cudnn.benchmark = by_trial
        model = build_network(network(resolution)).to(device).to(memory_format=torch.channels_last)
        optimizer = build_optimizer(recipe, model)
        images = torch.randn(batch, 3, resolution, resolution, device=device, dtype=precision.dtype)
        ready = (
            images.to(memory_format=torch.channels_last),
            Targets(torch.arange(batch, device=device) % 10),
        )
        built = time.perf_counter()
        engine = prepare_engine(model, recipe, precision, ranks, lambda: None, lambda: ready)  # noqa: B023
        synchronize(device)
        prepared = time.perf_counter()

        def gradients_alone() -> None:
            for _ in range(repeats):
                engine.learn(*ready)  # noqa: B023

        def steps() -> None:
            for _ in range(repeats):
                engine.learn(*ready)  # noqa: B023
                optimizer.step()  # noqa: B023

        taken = seconds_of(steps, device, 3 if quick else 10) / repeats
        alone = seconds_of(gradients_alone, device, 3 if quick else 10) / repeats
        asked = time.perf_counter()
        optimizer.step()
        asked = time.perf_counter() - asked
        yield {
            "R": resolution,
            "batch": batch,
            "by_trial": by_trial,
            "build_s": round(built - began, 2),
            "prepare_s": round(prepared - built, 2),
            "step_ms": round(1e3 * taken, 3),
            "gradients_ms": round(1e3 * alone, 3),
            "optimizer_call_ms": round(1e3 * asked, 3),
        }


def without_budget(device: torch.device, quick: bool) -> Iterator[Row]:
    """What a trial takes beside its budget and its evaluations, from launch to result."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = DatasetConfig(name="digits")
        with TrainerServer(dataset, 32, Path(folder)) as server:
            server.wait()
            rows = []
            for number in range(2 if quick else 5):
                recipe = {"batch_size": 100}
                task = make_task(
                    f"{folder}/{number}", 32, recipe, Budget(seconds=1 if quick else 3),
                    number=number, seed=number, device=device.type, cache=folder,
                )  # fmt: skip
                began = time.time()
                result = server.run(task)
                wall = time.time() - began
                rows.append(wall - result.train_seconds - result.evaluation_seconds)
                yield {
                    "trial": number,
                    "outside_s": round(rows[-1], 2),
                    "startup_s": round(result.startup_seconds, 2),
                    "other_s": round(result.other_seconds, 2),
                    "message": result.message,
                    "engine": result.engine,
                    "ok": result.value is not None,
                }
        yield {
            "what": "outside budget and evaluation, median",
            "seconds": round(statistics.median(rows[1:]), 2),
        }


def failures(device: torch.device, quick: bool) -> Iterator[Row]:
    """Out of memory, a killed rank, a stop file: each recorded, and the next trial trains."""
    with tempfile.TemporaryDirectory() as folder:

        def task_of(name: str, budget: Budget, **changes: Any) -> TrialTask:
            recipe = changes.pop("recipe", {})
            told = {"device": device.type, "cache": folder, **changes}
            return make_task(f"{folder}/{name}", 32, recipe, budget, **told)

        with TrainerServer(DatasetConfig(name="digits"), 32, Path(folder)) as server:
            server.wait()
            if device.type == "cuda":
                family = FAMILIES["betanet2"]
                huge = replace(network(224), resolution=224)
                huge = decode(family, {**family.published, "k": 6.5, "K": 5.0, "G0": 5.0}, 1024, 10)
                big = {"batch_size": 700, "evaluations": 0}
                result = server.run(task_of("huge", Budget(steps=3), architecture=huge, recipe=big))
                yield {
                    "what": "out of memory",
                    "found": str(result.failure),
                    "message": result.message[:150],
                    "ok": str(result.failure) == "out_of_memory",
                }
                result = server.run(task_of("next", Budget(steps=30)))
                yield {
                    "what": "the next trial",
                    "ok": result.value is not None,
                    "message": result.message[:150],
                }
            task = task_of("killed", Budget(seconds=6), checkpoint_seconds=0.5)

            def kill() -> None:
                begun.wait(60)
                time.sleep(1)
                for beat in Path(task.folder).glob("agent.pid"):
                    children = (
                        Path(f"/proc/{beat.read_text()}/task/{beat.read_text()}/children")
                        .read_text()
                        .split()
                    )
                    for child in children:
                        os.kill(int(child), signal.SIGKILL)

            begun = threading.Event()
            killer = threading.Thread(target=kill)
            killer.start()
            first = server.run(task, lambda _: begun.set())
            killer.join()
            second = server.run(task)
            yield {
                "what": "SIGKILL, then resumed",
                "found": str(first.failure),
                "seconds": second.train_seconds,
                "message": first.message[:100] + second.message[:100],
                "ok": str(first.failure) == "killed" and second.value is not None,
            }
            task = task_of("stopped", Budget(seconds=20), recipe={"evaluations": 20})
            began = time.time()
            result = server.run(
                task, lambda news: Path(task.folder, "stop").touch() if "accuracy" in news else None
            )
            yield {
                "what": "stop file",
                "wall_s": round(time.time() - began, 1),
                "message": result.message[:150],
                "ok": result.stopped,
            }


def _worker(number: int, folder: str, device: str, seconds: float, batch: int) -> None:
    place = torch.device(device)
    torch.set_num_threads(1)
    own = f"{folder}/{number}"
    Path(own).mkdir()
    recipe = {"batch_size": batch, "autoaugment": True}
    training = Training(
        make_task(own, 32, recipe, Budget(seconds=seconds)),
        random_images(2000),
        Ranks(0, 1, place),
        time.time(),
    )
    Path(folder, f"{number}.ready").touch()
    while len(list(Path(folder).glob("*.ready"))) < int(Path(folder, "size").read_text()):
        time.sleep(0.01)
    Path(own, "result").write_text(str(training.run().images_per_second))


def workers(device: torch.device, quick: bool) -> Iterator[Row]:
    """Several trials at once on one device: images a second together, and of one of them."""
    place = "cuda:0" if device.type == "cuda" else "cpu"
    alone = 0.0
    for size in (1, 2) if quick else (1, 2, 4):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "size").write_text(str(size))
            arguments = (folder, place, 1.0 if quick else 4.0, 100)
            torch.multiprocessing.start_processes(
                _worker, arguments, nprocs=size, start_method="spawn"
            )
            rates = [float(Path(folder, str(n), "result").read_text()) for n in range(size)]
        alone = alone or rates[0]
        yield {
            "workers": size,
            "together": round(sum(rates)),
            "slowest_of_alone": round(min(rates) / alone, 3),
            "together_of_alone": round(sum(rates) / alone, 2),
        }


def search(device: torch.device, quick: bool) -> Iterator[Row]:
    """A real search on the digits whose worker is killed in the middle, and what that leaves."""
    trials, seconds = (3, 0.5) if quick else (12, 2.0)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "betanas", "optimize", "--study", "digits"]
        command += ["--device", device.type, "--set", f"search.trials={trials}"]
        command += ["--set", f"budget.seconds={seconds}", "--set", "limits.memory_gib=4"]
        used = torch.cuda.mem_get_info()[0] if device.type == "cuda" else 0
        worker = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
        folders = Path(folder, "storage", "digits")
        while len(list(folders.glob("*/result.json"))) < trials // 2 and worker.poll() is None:
            time.sleep(0.05)
        time.sleep(seconds / 2)
        worker.kill()
        worker.wait()
        time.sleep(3)
        left = [p for p in folders.glob("*/agent.pid") if Path(f"/proc/{p.read_text()}").exists()]
        free = torch.cuda.mem_get_info()[0] if device.type == "cuda" else 0
        yield {
            "what": "killed with -9 in the middle of a search",
            "processes_left": len(left),
            "device_bytes_left": used - free,
            "ok": not left and used - free < 2**26,
        }
        began = time.monotonic()
        again = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
        status = [*command[:3], "status", "--study", "digits", "--json"]
        told = subprocess.run(
            [*status, *command[8:]], cwd=folder, check=False, capture_output=True, text=True
        )
        found = json.loads(told.stdout) if told.returncode == 0 else {}
        yield {
            "what": "the same command goes on",
            "exit": again.returncode,
            "feasible": found.get("feasible"),
            "running": found.get("trials", {}).get("running"),
            "best": (found.get("best") or {}).get("value"),
            "seconds": round(time.monotonic() - began, 1),
            "ok": found.get("feasible") == trials and found["trials"]["running"] == 0,
        }


PHASES: dict[str, tuple[Callable[[torch.device, bool], Iterator[Row]], float]] = {
    "ceilings": (ceilings, 60),
    "augmentation": (augmentation, 60),
    "arithmetic": (arithmetic, 90),
    "graph": (graph, 90),
    "hooks": (hooks, 60),
    "two_ranks": (two_ranks, 90),
    "start_up": (start_up, 90),
    "without_budget": (without_budget, 120),
    "failures": (failures, 150),
    "search": (search, 120),
    "workers": (workers, 120),
    "throughput": (throughput, 240),
}
"""``name -> (phase, the seconds it may take)``."""
