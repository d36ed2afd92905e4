"""AutoAugment that begins after some passes over the training images."""

from pathlib import Path

import pytest
import torch
from trainings import DIGITS, TaskMaker

from betanas.devices.ranks import Ranks
from betanas.images.batches import Batches
from betanas.images.placement import TrainingImages

CPU = torch.device("cpu")


@pytest.mark.parametrize("elastic", ["none", "dynamic"])
def test_each_image_is_augmented_from_its_pass_on(
    make_task: TaskMaker, tmp_path: Path, elastic: str
) -> None:
    images = TrainingImages.load(DIGITS, 16, tmp_path)

    def batches(**recipe: object) -> Batches:
        # 60 images a batch: passes end within groups of steps that are drawn together.
        return Batches(
            images,
            make_task(recipe={"batch_size": 60, "elastic": elastic, **recipe}),
            Ranks(0, 1, CPU),
        )

    never, always = batches(autoaugment=False), batches(autoaugment=True)
    late = batches(autoaugment=True, autoaugment_after=1.5)
    first = round(1.5 * late.images_per_epoch)
    differ = 0
    for step in range(3 * late.images_per_epoch // 60):
        (found, _), (plain, _), (augmented, _) = late[step], never[step], always[step]
        differ += not torch.equal(plain, augmented)
        before = min(max(0, first - 60 * step), 60)
        assert torch.equal(found[:before], plain[:before])
        assert torch.equal(found[before:], augmented[before:])
    assert differ > 0
