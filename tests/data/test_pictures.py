import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from betanas.data.pictures import UnreadablePictureError, decode_picture, read_size

PIXELS = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def decoded(image: Image.Image, path: Path, side: int = 16, **options: object) -> np.ndarray:
    image.save(path, **options)
    pixels = decode_picture(str(path), side)
    assert (pixels.shape, pixels.dtype) == ((side, side, 3), np.uint8)
    return pixels


def test_square_of_the_wanted_side_is_kept(tmp_path: Path) -> None:
    assert np.array_equal(decoded(Image.fromarray(PIXELS), tmp_path / "a.png"), PIXELS)


def test_grey_is_repeated(tmp_path: Path) -> None:
    grey = PIXELS[..., 0]
    pixels = decoded(Image.fromarray(grey), tmp_path / "a.png")
    assert np.array_equal(pixels, np.stack([grey] * 3, axis=-1))


def test_black_and_white(tmp_path: Path) -> None:
    pixels = decoded(Image.fromarray(PIXELS[..., 0] > 127), tmp_path / "a.png")
    assert set(np.unique(pixels)) == {0, 255}


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_grey_is_scaled(tmp_path: Path, suffix: str) -> None:
    grey = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    pixels = decoded(Image.fromarray(grey), tmp_path / f"a.{suffix}")
    assert np.array_equal(pixels[..., 0], np.arange(256).reshape(16, 16))


def test_palette(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS).quantize(16)
    assert np.array_equal(decoded(image, tmp_path / "a.png"), np.asarray(image.convert("RGB")))


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    alpha = np.zeros((16, 16, 1), dtype=np.uint8)
    alpha[8:] = 255
    image = Image.fromarray(np.concatenate([PIXELS, alpha], axis=-1))
    pixels = decoded(image, tmp_path / "a.png")
    assert (pixels[:8] == 255).all()
    assert np.array_equal(pixels[8:], PIXELS[8:])


def test_transparent_palette_entry_lies_over_white(tmp_path: Path) -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.paste(1, (0, 0, 16, 8))
    pixels = decoded(image, tmp_path / "a.png", transparency=0)
    assert tuple(pixels[0, 0]) == (40, 50, 60)
    assert tuple(pixels[15, 15]) == (255, 255, 255)


def test_cmyk(tmp_path: Path) -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red = decoded(image, tmp_path / "a.jpg", quality=95)[0, 0]
    assert red[0] > 240
    assert red[1:].max() < 15


def test_exif_orientation_turns_the_picture_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored a quarter turn to the left
    stored = np.rot90(PIXELS)
    pixels = decoded(Image.fromarray(stored), tmp_path / "a.png", exif=exif)
    assert np.array_equal(pixels, PIXELS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_wrong_tag_beside_the_orientation_does_no_harm(tmp_path: Path, orientation: int) -> None:
    """A camera wrote the resolution as a text, at which Pillow's own function fails."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(PIXELS)
    image.save(tmp_path / "right.png", exif=exif)
    with Image.open(tmp_path / "right.png") as right:
        expected = np.asarray(ImageOps.exif_transpose(right))
    tags = struct.pack("<HHIHxxHHI4s", 0x0112, 3, 1, orientation, 0x011A, 2, 3, b"72")
    wrong = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + tags + bytes(4)
    assert np.array_equal(decoded(image, tmp_path / "wrong.png", exif=wrong), expected)


def test_crop_is_central(tmp_path: Path) -> None:
    wide = np.full((10, 30, 3), 255, dtype=np.uint8)
    wide[:, 10:20] = 7
    assert (decoded(Image.fromarray(wide), tmp_path / "a.png", side=10) == 7).all()


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_shrinking_is_antialiased(tmp_path: Path, suffix: str) -> None:
    board = np.indices((512, 512)).sum(axis=0) % 2 * 255
    pixels = decoded(Image.fromarray(board.astype(np.uint8)), tmp_path / f"a.{suffix}", side=32)
    assert np.abs(pixels.astype(int) - 127).max() < 12


@pytest.mark.parametrize("content", [b"", b"not a picture at all"])
def test_no_picture(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    for read in (read_size, lambda name: decode_picture(name, 8)):
        with pytest.raises(UnreadablePictureError, match="not a picture of a known format"):
            read(str(path))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp"])
def test_truncated(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(PIXELS).resize((64, 64)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadablePictureError):
        decode_picture(str(path), 64)


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(path)
    with pytest.raises(UnreadablePictureError, match="convert to 8 or 16 bits"):
        decode_picture(str(path), 4)
