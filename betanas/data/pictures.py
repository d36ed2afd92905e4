"""One picture file to RGB pixels, whatever its mode, depth, size and orientation."""

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

# How a picture is turned upright that was stored in each of EXIF's orientations.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadablePictureError(Exception):
    """A file that cannot become RGB pixels; its text is the reason, without the path."""


def read_size(path: str) -> tuple[int, int]:
    """Returns (width, height) in pixels as stored, from the file's header alone."""
    try:
        with Image.open(path) as image:
            return image.size
    except Exception as error:
        raise UnreadablePictureError(_reason(error)) from error


def decode_picture(path: str, side: int) -> npt.NDArray[np.uint8]:
    """Decodes a picture upright, centre-cropped square and resized (antialiased).

    A square picture of ``side`` pixels comes back pixel for pixel.

    Args:
        path: The picture's file.
        side: Width and height of the result in pixels.

    Returns:
        uint8, ``side x side x 3``, RGB; what is transparent lies over white.

    Raises:
        UnreadablePictureError: If the file is damaged, no picture, or has pixels without a fixed
            range.
    """
    try:
        with Image.open(path) as image:
            # JPEG can be decoded at 1/2, 1/4 or 1/8; twice the side keeps resizing exact enough.
            image.draft(None, (2 * side, 2 * side))
            image.load()
            return _square(_to_rgb(_upright(image)), side)
    except UnreadablePictureError:
        raise
    # Pillow's readers raise whatever a damaged file leads them to: OSError, SyntaxError,
    # struct.error, IndexError, DecompressionBombError ...
    except Exception as error:
        raise UnreadablePictureError(_reason(error)) from error


def resize_pixels(pixels: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """The same for pixels in memory, ``height x width x 3`` RGB or ``height x width`` of grey."""
    return _square(Image.fromarray(pixels).convert("RGB"), side)


def _square(rgb: Image.Image, side: int) -> npt.NDArray[np.uint8]:
    width, height = rgb.size
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    box = (left, top, left + short, top + short)
    square = rgb.resize((side, side), Image.Resampling.BILINEAR, box, reducing_gap=2.0)
    return np.asarray(square)


def _upright(image: Image.Image) -> Image.Image:
    # Pillow's exif_transpose writes all other tags anew, and fails where one has a wrong type.
    turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.mode == "F":
        raise UnreadablePictureError(
            "floating-point pixels have no fixed range; convert to 8 or 16 bits"
        )
    if image.mode in {"LA", "La", "PA", "RGBA", "RGBa"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    # Pillow's own conversion of these modes clips at 255 instead of scaling.
    pixels = np.asarray(image).astype(np.int64)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise UnreadablePictureError(
            f"grey values must be in [0, 65535], but reach from {pixels.min()} to {pixels.max()}"
        )
    return Image.fromarray(np.rint(pixels / 257).astype(np.uint8)).convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a picture of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
