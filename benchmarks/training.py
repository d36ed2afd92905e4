"""Images a second of a training beside its limit and beside a plain torchvision loop.

    python benchmarks/training.py --images FOLDER      # FOLDER/train/CLASS/*.jpg
    python benchmarks/training.py --quick              # random images, a minute or two

ours: the steps that a trial makes, augmentation included (AutoAugment, crop, flip, resize).
limit: the same model and optimiser on one batch that is already augmented and in memory.
loop: torchvision's data set and transforms in a DataLoader with workers, the same model.

All three run by turns on as many threads as there are cores. Shown are the medians of the turns,
and of the ratios within each turn, which a busy machine disturbs less. The loop's workers stand
idle while the others run, and fill their queue before they count.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets, models, transforms

from betanas.architecture.decoding import decode
from betanas.architecture.families import FAMILIES
from betanas.devices.ranks import Ranks
from betanas.images.batches import Batches
from betanas.images.placement import TrainingImages
from betanas.models.network import build_model
from betanas.study.recipe import Budget, DatasetConfig, Recipe
from betanas.training.recipe import build_optimizer
from betanas.training.trainer import Training
from betanas.trial import TrialTask

MODELS = ("betanet2", "betanet3", "MobileNetV2")
# Resolution: images in a batch, steps in a turn, turns.
SIZES = {32: (100, 8, 7), 64: (100, 4, 5), 224: (32, 1, 3)}
QUICK = {32: (100, 4, 3), 64: (50, 2, 3), 224: (16, 1, 1)}
WORKERS = 2
CLASSES = 10
CPU = torch.device("cpu")


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images in memory behind transforms that want Pillow's, as torchvision's own data sets."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable[[Any], Tensor]) -> None:
        self._images, self._labels = images.numpy(), labels.tolist()
        self._transform = transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._images[index])), self._labels[index]


def random_images(count: int) -> TrainingImages:
    """As many images of 32 x 32 random pixels, a tenth of them held out."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 32, 32, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    order = torch.arange(count)
    half = (0.5, 0.5, 0.5)
    return TrainingImages(images, labels, order[count // 10 :], order[: count // 10], half, half)


def make_task(family: str, resolution: int, batch: int, folder: str) -> TrialTask:
    """A published kernel under the published recipe."""
    architecture = decode(FAMILIES[family], FAMILIES[family].published, resolution, CLASSES)
    return TrialTask(
        number=0,
        seed=0,
        architecture=architecture,
        dataset=DatasetConfig(name="imagefolder"),
        recipe=Recipe(batch_size=batch),
        budget=Budget(steps=10**9),
        nproc_per_node=1,
        device="cpu",
        folder=folder,
        cache=folder,
    )


def make_model(name: str, task: TrialTask) -> nn.Module:
    """The network of that name, in the memory format that all three loops use."""
    if name == "MobileNetV2":
        model: nn.Module = models.mobilenet_v2(num_classes=CLASSES)
    else:
        model = build_model(task.architecture)
    return model.to(memory_format=torch.channels_last).train()


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, labels: Tensor) -> None:
    """One step and nothing else."""
    loss = nn.functional.cross_entropy(model(x), labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def ours(name: str, task: TrialTask, images: TrainingImages) -> Callable[[int], float]:
    """Returns a function that makes steps and returns their seconds, as the two below."""
    training = Training(task, images, Ranks(0, 1, CPU), time.time(), make_model(name, task))

    def turn(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            training.step(0.5)
        return time.perf_counter() - began

    return turn


def limit(name: str, task: TrialTask) -> Callable[[int], float]:
    """The same model without input work."""
    model = make_model(name, task)
    optimizer = build_optimizer(task.recipe, model)
    resolution, batch = task.architecture.resolution, task.recipe.batch_size
    x = torch.randn(batch, 3, resolution, resolution).to(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (batch,))

    def turn(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            learn(model, optimizer, x, labels)
        return time.perf_counter() - began

    return turn


def loop(
    name: str, task: TrialTask, images: TrainingImages, folder: Path | None
) -> Callable[[int], float]:
    """As torchvision has it, with the transforms in their usual order."""
    model = make_model(name, task)
    optimizer = build_optimizer(task.recipe, model)
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(task.architecture.resolution),
            transforms.RandomHorizontalFlip(),
            transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10),
            transforms.ToTensor(),
            transforms.Normalize(images.mean, images.std),
        ]
    )
    source: Dataset[tuple[Tensor, int]] = (
        datasets.ImageFolder(str(folder / "train"), transform)
        if folder
        else Pictures(images.images, images.labels, transform)
    )
    loader = DataLoader(
        source,
        task.recipe.batch_size,
        shuffle=True,
        num_workers=WORKERS,
        prefetch_factor=1,
        drop_last=True,
    )

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loader

    def turn(steps: int) -> float:
        supply = batches()
        began = 0.0
        for step in range(WORKERS + steps):
            if step == WORKERS:  # the first batches were made while nothing else was done
                began = time.perf_counter()
            x, labels = next(supply)
            learn(model, optimizer, x.contiguous(memory_format=torch.channels_last), labels)
        return time.perf_counter() - began

    return turn


def measure(
    name: str,
    resolution: int,
    size: tuple[int, int, int],
    images: TrainingImages,
    data: Path | None,
) -> list[float]:
    """Images a second of ours, the limit and the loop; ours as a share of the other two."""
    batch, steps, turns = size
    with tempfile.TemporaryDirectory() as folder:
        family = name if name in FAMILIES else "betanet2"
        task = make_task(family, resolution, batch, folder)
        contestants = (ours(name, task, images), limit(name, task), loop(name, task, images, data))
        for turn in contestants:
            turn(1)
        rates = [[batch * steps / turn(steps) for turn in contestants] for _ in range(turns)]
    rows = [[a, b, c, a / b, a / c] for a, b, c in rates]
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def peak_memory(images: TrainingImages, resolution: int, steps: int = 200) -> float:
    """What making batches takes beside the images themselves, as a share of their bytes (Linux)."""
    with tempfile.TemporaryDirectory() as folder:
        task = make_task("betanet2", resolution, 100, folder)
        batches = Batches(images, task, Ranks(0, 1, CPU))
        images.images.sum()  # all of a memory map's pages count from the beginning
        batches[0]  # torch's own first needs
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        for step in range(1, steps):
            batches[step]
        return (_status("VmHWM") - before + task_bytes(batches)) / images.images.nbytes


def task_bytes(batches: Batches) -> int:
    """The batches that are ready: they were there before the measurement began."""
    inputs, _ = batches[0]
    return inputs.untyped_storage().nbytes()


def _status(key: str) -> int:
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.split(f"{key}:")[1].split()[0])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder with train/CLASS/ in it")
    parser.add_argument("--resolutions", default="", help="only these, such as 32,64")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller steps")
    arguments = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as cache:
        images = (
            TrainingImages.load(
                DatasetConfig(name="imagefolder", root=str(arguments.images)), 32, Path(cache)
            )
            if arguments.images
            else random_images(5000)
        )
        for resolution in (32, 64):
            share = peak_memory(images, resolution)
            print(f"R={resolution}: batches take {share:.1%} of the images' memory beside them")
        print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, images a second")
        print(f"{'R':>4} {'model':12} {'batch':>5} {'ours':>8} {'limit':>8} {'loop':>8}", end=" ")
        print(f"{'ours/limit':>10} {'ours/loop':>9}")
        chosen = [int(r) for r in arguments.resolutions.split(",") if r] or list(SIZES)
        for resolution, size in (QUICK if arguments.quick else SIZES).items():
            if resolution not in chosen:
                continue
            for name in MODELS:
                *rates, of_limit, of_loop = measure(
                    name, resolution, size, images, arguments.images
                )
                print(
                    f"{resolution:4} {name:12} {size[0]:5}", *(f"{r:8.1f}" for r in rates), end=" "
                )
                print(f"{of_limit:10.2f} {of_loop:9.2f}", flush=True)


if __name__ == "__main__":
    main()
