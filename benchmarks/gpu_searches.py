"""Phases of gpu.py: failures on the device, and a search with a killed worker."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from gpu_tasks import Row, make_task, network

from betanas.architecture.decoding import decode
from betanas.architecture.families import FAMILIES
from betanas.launcher.client import TrainerServer
from betanas.study.recipe import Budget, DatasetConfig
from betanas.trial import TrialTask


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
