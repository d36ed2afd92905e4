"""GPUs are claimed by processes, and free again when those end, however they do."""

import signal
import subprocess
import sys
import uuid
from types import SimpleNamespace

import pytest
import torch

from betanas.devices.claims import claim_gpu, claimed_gpus
from betanas.devices.find import Devices, find_devices
from betanas.errors import DeviceError

HOLD = """
import sys, time
from betanas.devices.claims import claim_gpu
print(claim_gpu(sys.argv[1]), flush=True)
time.sleep(60)
"""


def test_claim_ends_with_its_process_even_by_sigkill() -> None:
    gpu = f"GPU-{uuid.uuid4()}"
    other = subprocess.Popen([sys.executable, "-c", HOLD, gpu], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "True\n"
    assert not claim_gpu(gpu)
    assert gpu not in claimed_gpus().get("CUDA_VISIBLE_DEVICES", "")
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert claim_gpu(gpu)
    assert claim_gpu(gpu), "its own process may ask again"
    assert gpu in claimed_gpus()["CUDA_VISIBLE_DEVICES"]
    brief = HOLD.replace("60", "0")
    again = subprocess.run(
        [sys.executable, "-c", brief, gpu], check=False, capture_output=True, text=True
    )
    assert again.stdout == "False\n"


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:0,", "cpu:1"])
def test_device_that_cannot_be(device: str) -> None:
    with pytest.raises(DeviceError, match="must be auto, cpu, cuda, or GPUs such as cuda:1"):
        find_devices(device, None)


def give_gpus(monkeypatch: pytest.MonkeyPatch, generations: tuple[int, ...]) -> list[int]:
    """Has torch find GPUs of these generations; returns which are made the current one."""
    gpus = [SimpleNamespace(uuid=uuid.uuid4(), total_memory=1000, major=m) for m in generations]
    current: list[int] = []
    monkeypatch.setattr("betanas.devices.find._count_gpus", lambda: len(gpus))
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda i: gpus[i])
    monkeypatch.setattr("torch.cuda.set_device", current.append)
    return current


def test_this_process_computes_on_the_gpu_that_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    current = give_gpus(monkeypatch, (9, 9, 9))
    find_devices("cuda:2,1", 1, claim=False)
    assert current == [2]
    gpu = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
    other = subprocess.Popen([sys.executable, "-c", HOLD, gpu], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "True\n"
    find_devices("auto", 1)
    assert current == [2, 1]
    other.kill()
    other.wait()


@pytest.mark.parametrize(("generations", "has_bf16"), [((9, 8), True), ((8, 7), False)])
def test_gpus_have_bf16_if_all_have(
    monkeypatch: pytest.MonkeyPatch, generations: tuple[int, ...], has_bf16: bool
) -> None:
    give_gpus(monkeypatch, generations)
    found = find_devices("auto", None, claim=False)
    assert found == Devices("cuda", 2, 900, has_bf16=has_bf16)
    assert find_devices("cuda:0", None, claim=False).has_bf16
