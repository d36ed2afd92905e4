"""AutoAugment with the CIFAR-10 policy, for a whole batch at once and on any device.

Source: Cubuk et al., AutoAugment: Learning Augmentation Strategies from Data (CVPR 2019,
arXiv:1805.09501), Table 7. On uint8 images every result is the one that
``torchvision.transforms.AutoAugment(AutoAugmentPolicy.CIFAR10)`` gives for the same image,
sub-policy and sign: nearest neighbour sampling, black where a moved image leaves a gap.

Drawing is apart from applying: ``draw_operations`` fills a small CPU tensor of codes, indices
into ``OPERATIONS``; ``apply_operations`` groups the images of a batch by operation and treats
each group in one go, with a magnitude for each of its images.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms import functional

from betanas.devices.work import upload

BINS = 10

# 25 sub-policies of two (operation, probability, magnitude bin or None) each, as in Table 7.
POLICY: tuple[tuple[tuple[str, float, int | None], tuple[str, float, int | None]], ...] = (
    (("Invert", 0.1, None), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, None), ("Equalize", 0.9, None)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, None), ("Equalize", 0.5, None)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, None), ("AutoContrast", 0.4, None)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, None)),
    (("Equalize", 0.2, None), ("AutoContrast", 0.6, None)),
    (("Equalize", 0.2, None), ("Equalize", 0.6, None)),
    (("Color", 0.9, 9), ("Equalize", 0.6, None)),
    (("AutoContrast", 0.8, None), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, None)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, None), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, None), ("Invert", 0.1, None)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, None)),
)

_MOVES = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
_BLENDS = ("Brightness", "Color", "Contrast", "Sharpness")
_LEVELLED = ("Posterize", "Solarize")
_PLAIN = ("Identity", "AutoContrast", "Equalize", "Invert")


class Operation(NamedTuple):
    """One operation as an image can meet it.

    Attributes:
        name: Operation of the paper's Table 6.
        bin: Magnitude bin in [0, 9]; None for an operation without a magnitude.
        negative: Whether the magnitude counts below zero (moves and blends only).
    """

    name: str
    bin: int | None = None
    negative: bool = False

    def magnitude(self, image_size: tuple[int, int]) -> float:
        """Signed magnitude in the operation's own unit, 0 where it has none.

        Shears are slopes, translations pixels, rotations degrees, blends the distance of the
        factor from 1; Posterize counts the bits it keeps, Solarize the level it inverts from.

        Args:
            image_size: Height and width in pixels; only translations depend on them.

        Raises:
            KeyError: The operation has a bin but no magnitudes.
        """
        if self.bin is None:
            return 0.0
        if self.name == "Posterize":
            return float(8 - round(self.bin * 4 / (BINS - 1)))
        height, width = image_size
        start, stop = {
            "TranslateX": (0.0, 150 / 331 * width),
            "TranslateY": (0.0, 150 / 331 * height),
            "ShearX": (0.0, 0.3),
            "ShearY": (0.0, 0.3),
            "Rotate": (0.0, 30.0),
            "Solarize": (255.0, 0.0),
            **dict.fromkeys(_BLENDS, (0.0, 0.9)),
        }[self.name]
        # In float32 as torchvision has it, so that a blend rounds to the same level.
        size = torch.linspace(start, stop, BINS, device="cpu")[self.bin].item()
        return -size if self.negative else size


OPERATIONS: tuple[Operation, ...] = (
    *(Operation(name) for name in _PLAIN),
    *(Operation(name, level) for name in _LEVELLED for level in range(BINS)),
    *(
        Operation(name, level, negative)
        for name in _BLENDS + _MOVES
        for level in range(BINS)
        for negative in (False, True)
    ),
)

_CODES = {operation: code for code, operation in enumerate(OPERATIONS)}
IDENTITY = _CODES[Operation("Identity")]


def _code(name: str, level: int | None, *, negative: bool) -> int:
    return _CODES[Operation(name, level, negative and name in _BLENDS + _MOVES)]


_POLICY_CODES = torch.tensor(
    [
        [[_code(name, level, negative=sign) for sign in (False, True)] for name, _, level in pair]
        for pair in POLICY
    ]
)
_POLICY_PROBABILITIES = torch.tensor([[probability for _, probability, _ in p] for p in POLICY])


def draw_operations(batch_size: int, generator: torch.Generator) -> Tensor:
    """Draws a sub-policy for each image, and whether and with which sign its operations act.

    Args:
        batch_size: Number of images ``n``.
        generator: CPU generator; it advances by the same amount whatever is drawn.

    Returns:
        ``n x 2`` int64 on the CPU: codes of the first and second operation, indices into
        ``OPERATIONS``; an operation that does not act is ``Identity``.
    """
    policy = torch.randint(len(POLICY), (batch_size,), generator=generator)
    acts = torch.rand(batch_size, 2, generator=generator) < _POLICY_PROBABILITIES[policy]
    sign = torch.randint(2, (batch_size, 2, 1), generator=generator)
    codes = _POLICY_CODES[policy].gather(2, sign).squeeze(2)
    return codes.where(acts, IDENTITY)


def apply_operations(images: Tensor, operations: Tensor) -> Tensor:
    """Applies each image's operations, the first column before the second.

    Args:
        images: ``n x 3 x H x W`` uint8 on any device; left as they are.
        operations: ``n x k`` int64 on the CPU, indices into ``OPERATIONS``.

    Returns:
        ``n x 3 x H x W`` uint8 on the same device.
    """
    for codes in operations.unbind(1):
        order = _GROUP_OF_CODE[codes].argsort(stable=True)
        # Sorted, a group is a slice; two copies of the batch cost a CPU far less than scattering
        # the groups' results over it.
        ordered = images.index_select(0, upload(order, images.device))
        _apply_sorted_(ordered, codes[order])
        images = ordered.index_select(0, upload(order.argsort(), images.device))
    return images


# All moves are one group, known by the first of their names; Identity (0) is left out.
_GROUP_NAMES = (*_PLAIN, *_LEVELLED, *_BLENDS, _MOVES[0])
_GROUP_OF_CODE = torch.tensor(
    [_GROUP_NAMES.index(_MOVES[0] if o.name in _MOVES else o.name) for o in OPERATIONS]
)
_MAGNITUDES = torch.tensor([operation.magnitude((0, 0)) for operation in OPERATIONS])


def _apply_sorted_(images: Tensor, codes: Tensor) -> None:
    """Overwrites ``n`` images, sorted by group, by the results of their ``n`` codes (CPU)."""
    magnitudes = upload(_MAGNITUDES[codes], images.device).view(-1, 1, 1, 1)
    sizes = _GROUP_OF_CODE[codes].bincount(minlength=len(_GROUP_NAMES))
    ends = sizes.cumsum(0).tolist()
    for name, start, end in zip(_GROUP_NAMES[1:], ends[:-1], ends[1:], strict=True):
        if start == end:
            continue
        group = images[start:end]
        if name in _MOVES:
            group.copy_(_move(group, codes[start:end]))
        else:
            group.copy_(_KERNELS[name](group, magnitudes[start:end]))


def _move(images: Tensor, codes: Tensor) -> Tensor:
    """Moves pixels, each image by its own operation: ``n x 3 x H x W`` and ``n`` codes."""
    height, width = images.shape[2:]
    row_of_code = {code: row for row, code in enumerate(set(codes.tolist()))}
    table = torch.stack(
        [_source_pixels(OPERATIONS[code], height, width, images.device) for code in row_of_code]
    )
    which = upload(torch.tensor([row_of_code[code] for code in codes.tolist()]), images.device)
    sources = table.index_select(0, which)
    # Pixel 0 is the black that fills the gaps, so one gather does both.
    pixels = torch.nn.functional.pad(images.flatten(2), (1, 0))
    return pixels.gather(2, sources[:, None].expand(-1, 3, -1)).view_as(images)


@lru_cache(maxsize=64)
def _source_pixels(operation: Operation, height: int, width: int, device: torch.device) -> Tensor:
    """Where each pixel of a moved image comes from.

    A picture of pixel numbers goes through torchvision itself, on the CPU, so the choice of the
    nearest pixel is torchvision's own, down to the ties, and the same on every device.

    Returns:
        ``H * W`` int64 on the device: 1 + row-major index of the source pixel, 0 for a gap.
    """
    name, magnitude = operation.name, operation.magnitude((height, width))
    numbers = torch.arange(1, height * width + 1, dtype=torch.float32, device="cpu")
    picture = numbers.view(1, height, width)
    if name == "Rotate":
        moved: Tensor = functional.rotate(picture, magnitude)
    else:
        slope = math.degrees(math.atan(magnitude))
        moved = functional.affine(
            picture,
            angle=0.0,
            scale=1.0,
            translate=[
                int(magnitude) if name == "TranslateX" else 0,
                int(magnitude) if name == "TranslateY" else 0,
            ],
            shear=[slope if name == "ShearX" else 0.0, slope if name == "ShearY" else 0.0],
            center=[0, 0] if name.startswith("Shear") else None,
        )
    return moved.flatten().long().to(device)


def _blend(images: Tensor, others: Tensor, magnitudes: Tensor) -> Tensor:
    """``(1 + m) * images - m * others`` clamped to uint8, rounding down."""
    blended = images.float().mul_(1 + magnitudes).sub_(others * magnitudes)
    return blended.clamp_(0, 255).to(torch.uint8)


def _gray(images: Tensor) -> Tensor:
    """ITU-R 601-2 luma, whole levels as float32: ``n x 3 x H x W`` to ``n x 1 x H x W``."""
    red, green, blue = images.float().unbind(1)
    return (red * 0.2989).add_(green * 0.587).add_(blue * 0.114).floor_().unsqueeze(1)


def _brightness(images: Tensor, magnitudes: Tensor) -> Tensor:
    return images.float().mul_(1 + magnitudes).clamp_(max=255).to(torch.uint8)


def _color(images: Tensor, magnitudes: Tensor) -> Tensor:
    return _blend(images, _gray(images), magnitudes)


def _contrast(images: Tensor, magnitudes: Tensor) -> Tensor:
    return _blend(images, _gray(images).mean(dim=(1, 2, 3), keepdim=True), magnitudes)


def _sharpness(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Blends with a 3 x 3 smoothing (weights 1, centre 5, over 13) that spares the border."""
    if min(images.shape[2:]) <= 2:
        return images
    smooth = images.float()
    centre = smooth[..., 1:-1, 1:-1]
    columns = smooth[..., :-2, :] + smooth[..., 1:-1, :] + smooth[..., 2:, :]
    total = columns[..., :-2] + columns[..., 1:-1] + columns[..., 2:]
    # Whole sums over 13 never lie halfway between levels: any order of adding rounds alike.
    centre.copy_(total.add_(centre, alpha=4).div_(13).round_())
    return _blend(images, smooth, magnitudes)


def _posterize(images: Tensor, magnitudes: Tensor) -> Tensor:
    return images & (256 - 2 ** (8 - magnitudes)).to(torch.uint8)


def _solarize(images: Tensor, magnitudes: Tensor) -> Tensor:
    bright = images >= magnitudes.ceil().to(torch.uint8)
    # Inverting by xor with 0 or 255: torch.where on uint8 takes 7 times as long on a CPU.
    return images ^ bright.to(torch.uint8).neg_()


def _invert(images: Tensor, _: Tensor) -> Tensor:
    return ~images


def _autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """Stretches each channel to [0, 255]; a channel of one level stays as it is."""
    low = images.amin(dim=(2, 3), keepdim=True).float()
    high = images.amax(dim=(2, 3), keepdim=True).float()
    flat = low == high
    scale = torch.where(flat, 1.0, 255 / (high - low))
    low = low.masked_fill_(flat, 0)
    return images.float().sub_(low).mul_(scale).clamp_(0, 255).to(torch.uint8)


def _equalize(images: Tensor, _: Tensor) -> Tensor:
    """Equalises each channel's histogram with a table of 256 levels, as Pillow does."""
    levels = images.flatten(2).flatten(0, 1).long()
    counts = torch.zeros(len(levels), 256, dtype=torch.int32, device=images.device)
    counts.scatter_add_(1, levels, torch.ones_like(counts[:, :1]).expand_as(levels))
    brightest = counts.gather(1, levels.amax(dim=1, keepdim=True))
    step = (levels.shape[1] - brightest) // 255
    below = counts.cumsum(1, dtype=torch.int32) - counts
    # Rounding down a float32 quotient is exact here and far faster than integer division: the
    # levels in use have quotients up to 256 and divisors up to H * W / 255.
    table = ((below + step // 2) / step.clamp(min=1)).floor_().clamp_(max=255)
    unchanged = torch.arange(256, dtype=torch.float32, device=images.device)
    table = torch.where(step == 0, unchanged, table).to(torch.uint8)
    return table.gather(1, levels).view_as(images)


_KERNELS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "AutoContrast": _autocontrast,
    "Equalize": _equalize,
    "Invert": _invert,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "Brightness": _brightness,
    "Color": _color,
    "Contrast": _contrast,
    "Sharpness": _sharpness,
}
