"""Pictures of random colours, written where a test needs them."""

from pathlib import Path

import numpy as np
from PIL import Image

from betanas.study.recipe import DatasetConfig


def draw(path: Path, size: tuple[int, int] = (8, 8), seed: int = 0) -> Path:
    """Writes a picture with the given (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def folder_config(root: Path) -> DatasetConfig:
    return DatasetConfig(name="imagefolder", root=str(root))
