"""Phases of gpu.py: how fast the device is, and what trials cost beside their training."""

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_tasks import (
    SHORT_NETWORKS,
    Row,
    make_task,
    member,
    network,
    random_images,
    seconds_of,
    synchronize,
)

from betanas.architecture.complexity import count
from betanas.devices.ranks import Ranks
from betanas.images.mixing import Targets
from betanas.launcher.client import TrainerServer
from betanas.models.network import build_network
from betanas.study.recipe import Budget, DatasetConfig, Recipe
from betanas.training.captured import captured_step
from betanas.training.engine import Engine, prepare_engine
from betanas.training.recipe import Precision, build_optimizer
from betanas.training.trainer import Training
from betanas.trial import TrialTask


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
    step = captured_step(optimizer) if engine.name == "graph" else optimizer.step
    for steps in itertools.count():
        if steps == 20:
            synchronize(device)
            began = time.perf_counter()
        if steps > 20 and steps % 8 == 0:
            synchronize(device)
            if time.perf_counter() - began > seconds:
                return (steps - 20) * batch / (time.perf_counter() - began)
        engine.learn(images, targets)
        step()
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


def _step(engine: Engine, batch: tuple[torch.Tensor, Targets], optimizer: Any) -> None:
    engine.learn(*batch)
    optimizer.step()


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
        engine = prepare_engine(model, recipe, precision, ranks, lambda: None, lambda: ready)  # noqa: B023 - called in this turn
        synchronize(device)
        prepared = time.perf_counter()

        learn, times = partial(engine.learn, *ready), 3 if quick else 10
        alone = seconds_of(learn, device, times, repeats)
        taken = seconds_of(partial(_step, engine, ready, optimizer), device, times, repeats)
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


def short(device: torch.device, quick: bool) -> Iterator[Row]:
    """Steps of plain and residual convolutions with the preset ``short``, and of its optimiser."""
    images, times = random_images(2000 if quick else 50_000), 2 if quick else 20
    cells = itertools.product(("plain",) if quick else SHORT_NETWORKS, ("tf32", "bf16"), (200, 500))
    for name, precision, batch in list(cells)[: 1 if quick else None]:
        with tempfile.TemporaryDirectory() as folder:
            recipe = {"preset": "short", "precision": precision, "batch_size": batch}
            budget = Budget(seconds=0.2 if quick else 1.2)
            told = {"architecture": member(name), "device": device.type}
            task = make_task(folder, 32, recipe, budget, **told)
            training = Training(task, images, Ranks(0, 1, device), time.time())
            training._prepare()
            learn = partial(training._engine.learn, *training._batches[0])
            learnt = seconds_of(learn, device, 5, times)
            turned = seconds_of(training._apply_gradients, device, 5, times)
            result = Training(task, images, Ranks(0, 1, device), time.time()).run()
        yield {
            "network": name, "precision": precision, "batch": batch, "engine": result.engine,
            "gradients_ms": round(1e3 * learnt, 3), "optimizer_ms": round(1e3 * turned, 3),
            "images_per_s": round(result.images_per_second),
        }  # fmt: skip


def without_budget(device: torch.device, quick: bool) -> Iterator[Row]:
    """What a trial takes beside its budget and its evaluations, from launch to result."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = DatasetConfig(name="digits")
        with TrainerServer(dataset, 32, Path(folder)) as server:
            server.wait()
            rows = []
            for number in range(2 if quick else 8):
                recipe = {"batch_size": 100}
                # Kinds of networks by turns, as in a search.
                told = {"architecture": member(SHORT_NETWORKS[number // 2])} if number % 2 else {}
                task = make_task(
                    f"{folder}/{number}", 32, recipe, Budget(seconds=1 if quick else 3),
                    number=number, seed=number, device=device.type, cache=folder, **told,
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
