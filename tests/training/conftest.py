"""Small images and recipes that train in a second."""

from __future__ import annotations

import numpy as np
import pytest

from cosim.datasets import Images
from cosim.training.recipe import TrainingRecipe


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
