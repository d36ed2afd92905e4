"""Images a second of the batched augmentation beside torchvision's pipeline per image.

    python benchmarks/augment.py
    python benchmarks/augment.py --images path/to/a/folder/of/images

AutoAugment, random resized crop, flip, resize and normalisation on 32 x 32 images and one thread.
torchvision does the same work in the same order, image by image and then stacked: on PIL images,
on tensors, and on tensors with its v2 transforms; the table names the fastest of the three. (In
the usual order, with AutoAugment after the resize, torchvision is slower from 64 pixels on.)
Both run by turns, and the medians are shown. On Linux, THP_MEM_ALLOC_ENABLE=1 before the command
lets torch use huge pages, which spares a large result most of its page faults.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import functional, v2

from betanas.images.augment import TrainAugment

MEAN, STD = (0.5071, 0.4866, 0.4409), (0.2009, 0.1984, 0.2023)
SOURCE = 32
BATCHES = (100, 512)
RESOLUTIONS = (32, 64, 224)


def load_images(folder: Path | None, count: int) -> Tensor:
    """``count x 32 x 32 x 3`` uint8: from the folder, repeated as needed, or random ones."""
    if folder is None:
        generator = torch.Generator().manual_seed(0)
        shape = (count, SOURCE, SOURCE, 3)
        return torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    suffixes = {".jpg", ".jpeg", ".png"}
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    if not paths:
        raise SystemExit(f"{folder}: must hold .jpg or .png images, but got none")
    paths = paths[:: max(1, len(paths) // count)][:count]
    images = []
    for path in paths:
        with Image.open(path) as image:
            resized = image.convert("RGB").resize((SOURCE, SOURCE))
        images.append(functional.pil_to_tensor(resized).permute(1, 2, 0))
    return torch.stack(images)[torch.arange(count) % len(images)]


def peers(images: Tensor, resolution: int) -> dict[str, Callable[[], Tensor]]:
    """The three ways torchvision has to augment all images one by one."""
    planes = [image.permute(2, 0, 1).contiguous() for image in images]
    pictures = [functional.to_pil_image(plane) for plane in planes]
    first = [
        transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10),
        transforms.RandomResizedCrop(resolution),
        transforms.RandomHorizontalFlip(),
    ]
    last = transforms.Normalize(MEAN, STD)
    on_pil = transforms.Compose([*first, transforms.ToTensor(), last])
    on_tensors = transforms.Compose([*first, transforms.ConvertImageDtype(torch.float32), last])
    with_v2 = v2.Compose(
        [
            v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10),
            v2.RandomResizedCrop(resolution),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return {
        "PIL": lambda: torch.stack([on_pil(picture) for picture in pictures]),
        "tensor": lambda: torch.stack([on_tensors(plane) for plane in planes]),
        "tensor v2": lambda: torch.stack([with_v2(plane) for plane in planes]),
    }


def ours(images: Tensor, resolution: int) -> Callable[[], Tensor]:
    """Drawing and applying for the whole batch."""
    augment = TrainAugment(resolution, MEAN, STD)
    generator = torch.Generator().manual_seed(0)
    size = (images.shape[1], images.shape[2])
    return lambda: augment(images, augment.draw(len(images), size, generator))


def median_seconds(jobs: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, float]:
    """Median time of each job, all of them by turns, after one run to warm up."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(repeats + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(own) for name, own in times.items()}


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="folder of images; default: random images")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each (default: 5)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # Like a training process, which has freed large blocks before: glibc learns from the first
    # one to keep freed memory instead of asking the kernel for it at every step.
    torch.empty(30 * 2**20, dtype=torch.uint8)

    print("| R | batch | BetaNAS, images/s | torchvision, images/s | its fastest | ratio |")
    print("|---|---|---|---|---|---|")
    images = load_images(arguments.images, max(BATCHES))
    for resolution in RESOLUTIONS:
        for batch in BATCHES:
            jobs = peers(images[:batch], resolution)
            jobs["ours"] = ours(images[:batch], resolution)
            seconds = median_seconds(jobs, arguments.repeats)
            own = batch / seconds.pop("ours")
            peer = min(seconds, key=lambda name: seconds[name])
            theirs = batch / seconds[peer]
            print(
                f"| {resolution} | {batch} | {own:,.0f} | {theirs:,.0f} | {peer} "
                f"| {own / theirs:.1f} |"
            )


if __name__ == "__main__":
    main()
