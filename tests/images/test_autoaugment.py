"""AutoAugment for batches against torchvision's, image by image and in distribution."""

from collections import Counter

import pytest
import torch
from torch import Tensor
from torchvision.transforms import AutoAugment, AutoAugmentPolicy, InterpolationMode
from torchvision.transforms.autoaugment import _apply_op

from betanas.images.autoaugment import (
    IDENTITY,
    OPERATIONS,
    POLICY,
    Operation,
    apply_operations,
    draw_operations,
)


def pictures(height: int, width: int) -> Tensor:
    """Noise, a ramp, and the histograms that have broken equalisers before: ``10 x 3 x H x W``."""
    generator = torch.Generator().manual_seed(7)
    images = torch.randint(256, (10, 3, height, width), dtype=torch.uint8, generator=generator)
    images[1] = 77
    images[2] //= 4
    images[3] = images[3] // 8 + 100
    images[4, 1] = 3
    images[5] = (images[5] > 128) * 255
    images[6, :, 1:] = 200
    images[7] = (torch.arange(height * width) % 256).view(height, width)
    images[8], images[9] = 0, 255
    return images


def by_torchvision(image: Tensor, operation: Operation) -> Tensor:
    space = AutoAugment(AutoAugmentPolicy.CIFAR10)._augmentation_space(10, tuple(image.shape[1:]))
    magnitude = 0.0
    if operation.bin is not None:
        magnitudes, signed = space[operation.name]
        magnitude = float(magnitudes[operation.bin])
        magnitude *= -1 if signed and operation.negative else 1
    return _apply_op(image, operation.name, magnitude, InterpolationMode.NEAREST, None)


def test_the_policy_is_torchvisions() -> None:
    assert list(POLICY) == AutoAugment(AutoAugmentPolicy.CIFAR10).policies


def test_operations_are_all_of_torchvisions_space_with_every_bin_and_sign() -> None:
    space = AutoAugment(AutoAugmentPolicy.CIFAR10)._augmentation_space(10, (32, 32))
    expected = {Operation("Identity")}
    for name, (magnitudes, signed) in space.items():
        bins = range(10) if magnitudes.ndim else [None]
        expected |= {Operation(name, b, s) for b in bins for s in ((False, True)[: 1 + signed])}
    assert set(OPERATIONS) == expected
    assert len(OPERATIONS) == len(expected)


@pytest.mark.parametrize("size", [(32, 32), (33, 20), (2, 5)])
@pytest.mark.parametrize("name", sorted({operation.name for operation in OPERATIONS}))
def test_each_operation_at_each_magnitude_equals_torchvision(
    name: str, size: tuple[int, int]
) -> None:
    images = pictures(*size)
    for code, operation in enumerate(OPERATIONS):
        if operation.name == name:
            ours = apply_operations(images, torch.full((len(images), 1), code))
            theirs = torch.stack([by_torchvision(image, operation) for image in images])
            assert torch.equal(ours, theirs), operation


def test_a_mixed_batch_equals_torchvision_image_by_image() -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (300, 3, 32, 32), dtype=torch.uint8, generator=generator)
    before = images.clone()
    codes = draw_operations(len(images), generator)
    ours = apply_operations(images, codes)
    for image, (first, second), result in zip(images, codes.tolist(), ours, strict=True):
        expected = by_torchvision(image, OPERATIONS[first])
        expected = by_torchvision(expected, OPERATIONS[second])
        assert torch.equal(result, expected), (OPERATIONS[first], OPERATIONS[second])
    assert torch.equal(images, before)


def test_an_empty_batch_stays_empty() -> None:
    images = torch.zeros(0, 3, 32, 32, dtype=torch.uint8)
    codes = draw_operations(0, torch.Generator())
    assert apply_operations(images, codes).shape == images.shape


def policy_probabilities() -> dict[tuple[int, int], float]:
    """Probability of every (first, second) code, from torchvision's own tables."""
    reference = AutoAugment(AutoAugmentPolicy.CIFAR10)
    space = reference._augmentation_space(10, (32, 32))
    probabilities: Counter[tuple[int, int]] = Counter()
    for pair in reference.policies:
        outcomes = []
        for name, probability, level in pair:
            signs = (False, True) if space[name][1] else (False,)
            acting = [
                (OPERATIONS.index(Operation(name, level, sign)), probability / len(signs))
                for sign in signs
            ]
            outcomes.append([(IDENTITY, 1 - probability), *acting])
        for first, p in outcomes[0]:
            for second, q in outcomes[1]:
                probabilities[first, second] += p * q / len(reference.policies)
    return {codes: p for codes, p in probabilities.items() if p > 0}


def chi_square(counts: Counter[tuple[int, int]], total: int) -> tuple[float, int]:
    expected = {codes: p * total for codes, p in policy_probabilities().items()}
    statistic = sum((counts[codes] - e) ** 2 / e for codes, e in expected.items())
    return statistic, len(expected) - 1


def test_drawn_operations_have_the_policys_distribution() -> None:
    total = 200_000
    codes = draw_operations(total, torch.Generator().manual_seed(0))
    counts = Counter(map(tuple, codes.tolist()))
    assert set(counts) <= set(policy_probabilities())
    statistic, freedom = chi_square(counts, total)
    # Four standard deviations of the chi-square distribution.
    assert abs(statistic - freedom) < 4 * (2 * freedom) ** 0.5


def test_torchvisions_own_draws_pass_the_same_test() -> None:
    """Guards the reference: get_params and the acting rule give the table's distribution."""
    total = 20_000
    reference = AutoAugment(AutoAugmentPolicy.CIFAR10)
    space = reference._augmentation_space(10, (32, 32))
    counts: Counter[tuple[int, int]] = Counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(total):
            policy, probabilities, signs = reference.get_params(len(reference.policies))
            codes = [IDENTITY, IDENTITY]
            for slot, (name, p, level) in enumerate(reference.policies[policy]):
                if probabilities[slot] <= p:
                    negative = space[name][1] and signs[slot].item() == 0
                    codes[slot] = OPERATIONS.index(Operation(name, level, negative))
            counts[codes[0], codes[1]] += 1
    statistic, freedom = chi_square(counts, total)
    assert abs(statistic - freedom) < 4 * (2 * freedom) ** 0.5


def test_draws_follow_the_generator_alone() -> None:
    first = draw_operations(64, torch.Generator().manual_seed(3))
    torch.rand(5)
    again = draw_operations(64, torch.Generator().manual_seed(3))
    other = draw_operations(64, torch.Generator().manual_seed(4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
