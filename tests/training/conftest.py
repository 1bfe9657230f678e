"""Small images and recipes that train in a second."""

from __future__ import annotations

import numpy as np
import pytest

from cosim.datasets import Images
from cosim.training.recipe import Convolution, TrainingRecipe


@pytest.fixture
def images() -> Images:
    """300 images of 28 x 28 pixels in 10 classes: a bright row tells the class."""
    rng = np.random.default_rng(0)
    labels = np.arange(300, dtype=np.uint8) % 10
    pixels = rng.integers(0, 128, (300, 28, 28), dtype=np.uint8)
    pixels[np.arange(300), 2 * labels + 4] = 250
    return Images("mnist", "train", pixels, labels)


@pytest.fixture
def recipe() -> TrainingRecipe:
    """Two odd hidden layers, every augmentation on."""
    return TrainingRecipe(
        name="tiny",
        dataset="mnist",
        hidden=(70, 37),
        epochs=4,
        batch=32,
        learning_rate=0.01,
        seed=3,
        holdout_images=50,
        shift_pixels=1,
        flip_probability=0.5,
        pixel_dropout=0.1,
        label_smoothing=0.1,
    )


@pytest.fixture
def colours() -> Images:
    """200 images of 32 x 32 pixels in three colours and 10 classes: a bright row of one colour tells the class."""
    rng = np.random.default_rng(0)
    labels = np.arange(200, dtype=np.uint8) % 10
    pixels = rng.integers(0, 128, (200, 32, 32, 3), dtype=np.uint8)
    pixels[np.arange(200), 2 * labels + 4, :, labels % 3] = 250
    return Images("cifar10", "train", pixels, labels)


@pytest.fixture
def cnn_recipe() -> TrainingRecipe:
    """Two convolutions of odd widths, poolings of both kinds, a padding of -1."""
    return TrainingRecipe(
        name="tiny_cnn",
        dataset="cifar10",
        hidden=(20,),
        epochs=3,
        batch=40,
        learning_rate=0.01,
        seed=3,
        shift_pixels=2,
        flip_probability=0.5,
        width=0.5,
        convolution=(
            Convolution(14, stride=2, pool=2),
            Convolution(18, pad_value=-1, pool=2, pool_of="outputs"),
        ),
    )
