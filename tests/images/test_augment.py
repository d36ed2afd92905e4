"""The whole augmentation: crops, flips, resizing and normalisation, against torchvision's."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as reference

from betanas.images import resampling
from betanas.images.augment import Draws, EvalTransform, TrainAugment, draw_boxes
from betanas.images.autoaugment import IDENTITY
from betanas.images.resampling import resize_matrix

MEAN = (0.5071, 0.4866, 0.4409)
STD = (0.2009, 0.1984, 0.2023)
ONE_LEVEL = 1 / 255 / min(STD)


def noise(count: int, height: int = 32, width: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    shape = (count, height, width, 3)
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def train_augment(resolution: int = 32, **changes: Any) -> TrainAugment:
    return TrainAugment(resolution, MEAN, STD, **changes)


def normalized(images: Tensor) -> Tensor:
    return reference.normalize(images.permute(0, 3, 1, 2).float() / 255, MEAN, STD)


def draws_of(boxes: list[tuple[int, int, int, int]], flips: list[bool]) -> Draws:
    operations = torch.full((len(boxes), 2), IDENTITY)
    return Draws(operations, torch.tensor(boxes), torch.tensor(flips))


@pytest.mark.parametrize("autoaugment", [False, True])
def test_the_result_is_float32_channels_last_and_the_images_stay(autoaugment: bool) -> None:
    images = noise(9)
    before = images.clone()
    transform = train_augment(48, autoaugment=autoaugment)
    output = transform(images, transform.draw(9, (32, 32), seeded()))
    assert output.shape == (9, 3, 48, 48)
    assert output.dtype == torch.float32
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert not output.requires_grad
    assert torch.equal(images, before)


def test_identity_settings_give_exactly_the_normalized_image() -> None:
    images = noise(200)
    transform = train_augment(autoaugment=False, flip=False, crop_scale=(1, 1), crop_ratio=(1, 1))
    output = transform(images, transform.draw(200, (32, 32), seeded()))
    assert torch.equal(output, normalized(images))
    assert torch.equal(EvalTransform(32, MEAN, STD)(images), normalized(images))


def test_a_flip_alone_mirrors_exactly() -> None:
    images = noise(2)
    output = train_augment()(images, draws_of([(0, 0, 32, 32)] * 2, [False, True]))
    assert torch.equal(output[0], normalized(images)[0])
    assert torch.equal(output[1], normalized(images)[1].flip(-1))


def parts(draw: st.DrawFn) -> tuple[int, int]:
    """First pixel and size of a part of an axis of 32 pixels."""
    size = draw(st.integers(1, 32))
    return draw(st.integers(0, 32 - size)), size


@st.composite
def crops(draw: st.DrawFn) -> tuple[tuple[int, int, int, int], bool]:
    """Box and flip."""
    (top, height), (left, width) = parts(draw), parts(draw)
    return (top, left, height, width), draw(st.booleans())


@settings(max_examples=40)
@given(st.lists(crops(), min_size=1, max_size=6), st.integers(1, 70))
def test_one_step_equals_torchvisions_crop_resize_and_flip(
    chosen: list[tuple[tuple[int, int, int, int], bool]], resolution: int
) -> None:
    images = noise(len(chosen))
    draws = draws_of([box for box, _ in chosen], [flip for _, flip in chosen])
    output = train_augment(resolution)(images, draws)
    floats = images.permute(0, 3, 1, 2).float() / 255
    for image, (box, flip), result in zip(floats, chosen, output, strict=True):
        expected = reference.resized_crop(
            image, *box, [resolution] * 2, InterpolationMode.BILINEAR, antialias=True
        )
        expected = reference.normalize(expected, MEAN, STD)
        expected = expected.flip(-1) if flip else expected
        torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)
        if max(box[2:]) <= resolution:
            plain = reference.resized_crop(
                image, *box, [resolution] * 2, InterpolationMode.BILINEAR, antialias=False
            )
            plain = reference.normalize(plain.flip(-1) if flip else plain, MEAN, STD)
            torch.testing.assert_close(result, plain, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("size", "resolution"), [((32, 32), 64), ((96, 80), 32), ((20, 50), 33), ((28, 28), 224)]
)
def test_evaluation_equals_torchvisions_resize(size: tuple[int, int], resolution: int) -> None:
    images = noise(5, *size)
    output = EvalTransform(resolution, MEAN, STD)(images)
    floats = images.permute(0, 3, 1, 2).float() / 255
    expected = reference.resize(floats, [resolution] * 2, antialias=True)
    torch.testing.assert_close(output, reference.normalize(expected, MEAN, STD), atol=1e-4, rtol=0)
    assert output.is_contiguous(memory_format=torch.channels_last)


def test_uint8_rounding_is_all_that_parts_us_from_torchvision_on_uint8() -> None:
    images = noise(8)
    transform = train_augment(48, autoaugment=False)
    draws = transform.draw(8, (32, 32), seeded())
    output = transform(images, draws)
    for i, (box, flip) in enumerate(zip(draws.boxes.tolist(), draws.flips, strict=True)):
        planes = images[i].permute(2, 0, 1)
        expected = reference.resized_crop(planes, *box, [48, 48], antialias=True)
        expected = normalized((expected.flip(-1) if flip else expected).permute(1, 2, 0)[None])[0]
        assert (output[i] - expected).abs().max() <= 0.51 * ONE_LEVEL


@pytest.mark.parametrize("crop", [(0, 32, 32), (5, 20, 32), (3, 29, 8), (31, 1, 4)])
def test_rows_of_a_resize_matrix_sum_to_one_within_the_crop(crop: tuple[int, int, int]) -> None:
    start, size, resolution = crop
    matrix = resize_matrix(torch.tensor([1.0 * start]), torch.tensor([1.0 * size]), 32, resolution)
    torch.testing.assert_close(matrix.sum(dim=2), torch.ones(1, resolution))
    assert matrix.min() >= 0
    assert matrix[..., :start].sum() == matrix[..., start + size :].sum() == 0


def test_images_of_a_batch_get_different_crops_and_flips() -> None:
    images = noise(1).expand(64, -1, -1, -1)
    transform = train_augment(autoaugment=False)
    draws = transform.draw(64, (32, 32), seeded())
    assert len(draws.boxes.unique(dim=0)) > 55
    assert 20 < draws.flips.sum() < 44
    assert len(transform(images, draws).flatten(1).unique(dim=0)) > 55


@pytest.mark.parametrize(
    ("size", "scale", "ratio"),
    [
        ((32, 32), (0.08, 1.0), (3 / 4, 4 / 3)),
        ((40, 24), (0.5, 1.0), (0.5, 2.0)),
        ((10, 60), (0.7, 1.0), (3 / 4, 4 / 3)),
        ((60, 10), (0.9, 1.0), (3 / 4, 4 / 3)),
    ],
)
def test_crops_have_torchvisions_distribution(
    size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    count = 6000
    ours = draw_boxes(count, size, scale, ratio, seeded()).double()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        image = torch.empty(3, *size)
        theirs = torch.tensor(
            [RandomResizedCrop.get_params(image, scale, ratio) for _ in range(count)]
        ).double()
    for column in range(4):
        # Two-sample Kolmogorov-Smirnov: 1.95 is the 0.1 per cent point.
        levels = torch.arange(max(size) + 1).double()
        shares = [
            (drawn[:, column, None] <= levels).double().mean(dim=0) for drawn in (ours, theirs)
        ]
        assert (shares[0] - shares[1]).abs().max() < 1.95 * (2 / count) ** 0.5
    for drawn in (ours, theirs):
        assert (drawn[:, :2] + drawn[:, 2:] <= torch.tensor(size)).all()
    correlations = [torch.corrcoef(drawn.T).nan_to_num() for drawn in (ours, theirs)]
    assert (correlations[0] - correlations[1]).abs().max() < 5 * (2 / count) ** 0.5


def test_an_image_no_try_fits_gets_the_largest_central_crop() -> None:
    for size in ((10, 60), (60, 10), (20, 20)):
        image = torch.empty(3, *size)
        expected = RandomResizedCrop.get_params(image, (50.0, 50.0), (3 / 4, 4 / 3))
        drawn = draw_boxes(3, size, (50.0, 50.0), (3 / 4, 4 / 3), seeded())
        assert drawn.tolist() == [list(expected)] * 3


def test_the_same_seed_gives_the_same_result() -> None:
    images = noise(30)
    transform = train_augment(40)

    def run(seed: int) -> Tensor:
        return transform(images, transform.draw(30, (32, 32), seeded(seed)))

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))


@pytest.mark.parametrize("resolution", [24, 32, 50])
def test_slices_of_a_batch_equal_the_whole(resolution: int) -> None:
    images = noise(200)
    transform = train_augment(resolution)
    draws = transform.draw(200, (32, 32), seeded())
    whole = transform(images, draws)
    halves = [transform(images[p], draws[p]) for p in (slice(0, 77), slice(77, 200))]
    assert len(draws[10:40]) == 30
    # A product may add up in another order when the batch has another size.
    torch.testing.assert_close(torch.cat(halves), whole, atol=1e-5, rtol=0)


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(20)
    transform = train_augment(40)
    draws = transform.draw(20, (32, 32), seeded())
    whole = transform(images, draws)
    monkeypatch.setattr(resampling, "_CHUNK_VALUES_CPU", 1)
    torch.testing.assert_close(transform(images, draws), whole, atol=1e-5, rtol=0)


def test_switching_a_part_off_leaves_the_other_draws() -> None:
    both = train_augment().draw(50, (32, 32), seeded())
    neither = train_augment(autoaugment=False, flip=False).draw(50, (32, 32), seeded())
    assert torch.equal(both.boxes, neither.boxes)
    assert not neither.flips.any()
    assert (neither.operations == IDENTITY).all()


def test_autocast_does_not_lower_the_precision() -> None:
    images = noise(4)
    transform = train_augment(40)
    draws = transform.draw(4, (32, 32), seeded())
    expected = transform(images, draws)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(transform(images, draws), expected)


def test_empty_batches_pass() -> None:
    transform = train_augment(40)
    assert transform(noise(0), transform.draw(0, (32, 32), seeded())).shape == (0, 3, 40, 40)
    assert EvalTransform(40, MEAN, STD)(noise(0)).shape == (0, 3, 40, 40)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 0}, "resolution must be >= 1, but got 0"),
        ({"std": (0.2, 0.0, 0.2)}, "std must be > 0"),
        ({"crop_scale": (0.0, 1.0)}, r"crop_scale: 0 < low <= high <= 1 .* \(low=0, high=1\)"),
        ({"crop_scale": (0.5, 1.5)}, "crop_scale"),
        ({"crop_ratio": (2.0, 1.0)}, r"crop_ratio: 0 < low <= high .* \(low=2, high=1\)"),
    ],
)
def test_settings_that_break_a_rule_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainAugment(**{"resolution": 32, "mean": MEAN, "std": STD, **changes})


def test_images_that_do_not_fit_are_refused() -> None:
    transform = train_augment()
    draws = transform.draw(4, (32, 32), seeded())
    with pytest.raises(ValueError, match=r"n x height x width x 3, but got .*float32 of 4 x 32"):
        transform(noise(4).float(), draws)
    with pytest.raises(ValueError, match="uint8 of 4 x 3 x 32 x 32"):
        EvalTransform(32, MEAN, STD)(noise(4).permute(0, 3, 1, 2))
    with pytest.raises(ValueError, match="as many draws as images must be given, but got 4 and 5"):
        transform(noise(5), draws)
    with pytest.raises(ValueError, match=r"within the images \(9 x 9\)"):
        transform(noise(4, 9, 9), draws)


def test_a_padded_crop_shows_the_image_shifted_and_reflected() -> None:
    images = noise(64)
    transform = train_augment(
        autoaugment=False, flip=False, crop_scale=(1, 1), crop_ratio=(1, 1), crop_padding=0.125
    )
    draws = transform.draw(64, (32, 32), seeded())
    assert set(draws.boxes[:, 0].tolist()) == set(range(-4, 5))
    padded = torch.nn.functional.pad(normalized(images), (4, 4, 4, 4), mode="reflect")
    for i, (top, left, height, width) in enumerate(draws.boxes.tolist()):
        assert (height, width) == (32, 32)
        expected = padded[i, :, top + 4 : top + 36, left + 4 : left + 36]
        assert torch.equal(transform(images, draws)[i], expected)


def test_crops_beyond_the_padding_are_refused() -> None:
    transform = train_augment(crop_padding=0.125)
    with pytest.raises(ValueError, match="crops must lie within"):
        transform(noise(1), draws_of([(5, 0, 32, 32)], [False]))
