"""Pictures in one folder a class, as ImageNet's are: read, scaled and cropped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cosim.datasets import Images
from cosim.errors import InputError

SCALE = 256 / 224
"""The shorter side is scaled to this many times the crop, as usual in the evaluation on ImageNet."""

_SUFFIXES = {".jpeg", ".jpg", ".png"}
_LARGEST_PIXELS = 64 << 20


def load_image_folder(folder: str | Path, *, side: int = 224, most: int | None = None) -> Images:
    """Images (image, side, side, 3) of a folder with one folder of JPEG or PNG pictures a class.

    Classes are numbered from 0 in the order of their folders' names. The shorter side of a picture is scaled to
    256/224 of the crop (bilinear), and the middle is cut out; grey pictures and palettes become RGB.

    Args:
        folder: Holds the classes' folders.
        side: Of the crop, in pixels.
        most: The most pictures, the first ones of each class in turn; all where it is None.

    Raises:
        InputError: No pictures, one that cannot be read or is too large, or a side or number below 1.
    """
    if side < 1 or (most is not None and most < 1):
        raise InputError(f"side = {side} and most = {most}, expected at least 1")
    folder = Path(folder)
    classes = sorted(each for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []
    pictures = [(path, label) for label, each in enumerate(classes) for path in _pictures(each)]
    if not pictures:
        hint = "expected folder/CLASS/PICTURE.jpeg"
        raise InputError("no folders of JPEG or PNG pictures are here", place=str(folder), hint=hint)
    if most is not None:
        rank = {path: index for each in classes for index, path in enumerate(_pictures(each))}
        pictures = sorted(pictures, key=lambda picture: (rank[picture[0]], picture[1]))[:most]
    images = np.stack([_read(path, side) for path, _ in pictures])
    return Images(folder.name, "test", images, np.array([label for _, label in pictures], np.int64))


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())


def _read(path: Path, side: int) -> UInt8[np.ndarray, "row column channel"]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=["JPEG", "PNG"]) as picture:
            width, height = picture.size
            if width * height > _LARGEST_PIXELS:
                raise InputError(f"expected at most {_LARGEST_PIXELS} pixels, got {width} x {height}", place=str(path))
            factor = SCALE * side / min(width, height)
            size = max(side, round(factor * width)), max(side, round(factor * height))
            scaled = picture.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"not a picture that can be read: {error}", place=str(path)) from error
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return np.asarray(scaled.crop((left, top, left + side, top + side)))
