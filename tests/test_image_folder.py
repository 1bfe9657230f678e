"""Pictures in one folder a class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cosim.errors import InputError
from cosim.image_folder import load_image_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes, two pictures each: colour, grey, palette; wide, high and small."""
    rng = np.random.default_rng(0)
    sizes = {"n01": [(64, 48), (40, 90)], "n02": [(20, 20), (256, 256)], "n03": [(33, 47), (48, 64)]}
    for label, (name, shapes) in enumerate(sizes.items()):
        (tmp_path / name).mkdir()
        for index, (width, height) in enumerate(shapes):
            pixels = np.full((height, width, 3), 80 * label + 10 * index, np.uint8)
            picture = Image.fromarray(pixels)
            if index:
                picture = (picture, picture.convert("L"), picture.quantize(2))[label]
            picture.save(tmp_path / name / f"{index}.{('JPEG', 'png')[index]}")
    (tmp_path / "n02" / "notes.txt").write_text("no picture")
    Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(tmp_path / "loose.png")
    return tmp_path


def test_classes_sizes_and_values(folder: Path) -> None:
    (folder / "n03" / "0.JPEG").unlink(missing_ok=True)
    images = load_image_folder(folder, side=32)
    assert images.images.shape == (5, 32, 32, 3)
    assert images.labels.tolist() == [0, 0, 1, 1, 2]
    # Flat pictures stay flat; JPEG rounds by a level or two.
    expected = np.array([0, 10, 80, 90, 170])[:, None, None, None]
    assert np.abs(images.images.astype(int) - expected).max() <= 2


def test_the_middle_is_cut_out(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    pixels = np.zeros((256, 512, 3), np.uint8)
    pixels[:, 256 - 50 : 256 + 50] = 200
    Image.fromarray(pixels).save(tmp_path / "a" / "x.png")
    (image,) = load_image_folder(tmp_path, side=224).images
    # 256 high is 256/224 of the crop: no scaling, and columns 144 to 367 are left.
    np.testing.assert_array_equal(image, pixels[16:240, 144:368])


def test_most_takes_classes_in_turn(folder: Path) -> None:
    (folder / "n03" / "0.JPEG").unlink(missing_ok=True)
    assert load_image_folder(folder, side=8, most=4).labels.tolist() == [0, 1, 2, 0]


def test_what_is_no_picture_is_named(folder: Path) -> None:
    (folder / "n01" / "0.JPEG").write_bytes(b"\xff\xd8\xff but no more")
    with pytest.raises(InputError, match=r"n01/0.JPEG: not a picture that can be read"):
        load_image_folder(folder)
    with pytest.raises(InputError, match="no folders of JPEG or PNG pictures"):
        load_image_folder(folder / "n01")
    with pytest.raises(InputError, match="no folders of JPEG or PNG pictures"):
        load_image_folder(folder / "nowhere")
    with pytest.raises(InputError, match="side = 0"):
        load_image_folder(folder, side=0)
