"""Batches of augmented training images whose randomness depends on (seed, epoch) alone.

An epoch's order and augmentation come from a generator of its own, so a run that resumes at an epoch
needs no generator's state to see the same images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64, Shaped, UInt8
from torch import Tensor

from cosim.datasets import Images
from cosim.training.recipe import TrainingRecipe


@dataclass(frozen=True, slots=True)
class Split:
    """Pixels 0..255, shape (image, row, column) or (image, channel, row, column), and labels, shape (image,)."""

    images: UInt8[Tensor, "image *channel row column"]
    labels: Int64[Tensor, " image"]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)


def split(images: Images, holdout_images: int) -> tuple[Split, Split]:
    """(training, validation) images: `holdout_images` drawn at random are validation, the others training.

    The draw is the same for every recipe, so that recipes can be compared.
    """
    pixels = torch.from_numpy(np.array(channels_first(images.images)))
    labels = torch.from_numpy(np.array(images.labels)).long()
    order = torch.randperm(len(labels), generator=_generator(0, 0))
    parts = (order[holdout_images:], order[:holdout_images])
    training, validation = (Split(pixels[part], labels[part]) for part in parts)
    return training, validation


def channels_first(
    images: UInt8[np.ndarray, "image row column *channel"],
) -> UInt8[np.ndarray, "image *channel row column"]:
    """Images as torch lays them out; grey ones stay as they are."""
    return images if images.ndim == 3 else np.moveaxis(images, 3, 1)


def batches(data: Split, recipe: TrainingRecipe, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(pixels, labels) of every batch of an epoch: float32 as `network_input` shapes them, int64 (image,).

    A last batch of less than half the size is left out; each epoch leaves out other images.
    """
    generator = _generator(recipe.seed, epoch + 1)
    order = torch.randperm(len(data), generator=generator)
    for start in range(0, len(data), recipe.batch):
        chosen = order[start : start + recipe.batch]
        if start > 0 and 2 * len(chosen) < recipe.batch:
            return
        yield network_input(augment(data.images[chosen], recipe, generator), recipe), data.labels[chosen]


def network_input(
    images: Shaped[Tensor, "image *channel row column"], recipe: TrainingRecipe
) -> Float32[Tensor, "image ..."]:
    """Pixels as the recipe's network takes them: (image, channel, row, column), or (image, pixel) for dense layers."""
    if not recipe.convolution:
        return images.flatten(1).float()
    return (images if images.ndim == 4 else images.unsqueeze(1)).float()


def batch_count(images: int, batch: int) -> int:
    """Number of batches of an epoch.

    >>> batch_count(100, 32), batch_count(120, 32)
    (3, 4)
    """
    full, rest = divmod(images, batch)
    return max(1, full + (2 * rest >= batch))


def augment(
    images: UInt8[Tensor, "image *channel row column"], recipe: TrainingRecipe, generator: torch.Generator
) -> Float32[Tensor, "image *channel row column"]:
    """Shifted, mirrored and dropped-out pixels as the recipe says; all channels of an image move together."""
    if recipe.shift_pixels:
        images = _shift(images, recipe.shift_pixels, generator)
    if recipe.flip_probability:
        mirrored = torch.rand(len(images), 1, 1, generator=generator) < recipe.flip_probability
        images = torch.where(mirrored.view(-1, *[1] * (images.ndim - 1)), images.flip(-1), images)
    pixels = images.float()
    if recipe.pixel_dropout:
        kept = torch.rand(pixels.shape, generator=generator) >= recipe.pixel_dropout
        pixels = pixels * kept / (1.0 - recipe.pixel_dropout)
    return pixels


def _shift(images: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    count, height, width = len(images), *images.shape[-2:]
    padded = torch.nn.functional.pad(images, (reach, reach, reach, reach))
    down = torch.randint(0, 2 * reach + 1, (count, 1, 1), generator=generator)
    right = torch.randint(0, 2 * reach + 1, (count, 1, 1), generator=generator)
    rows = down + torch.arange(height).view(1, height, 1)
    columns = right + torch.arange(width).view(1, 1, width)
    image = torch.arange(count).view(count, 1, 1)
    if images.ndim == 3:
        return padded[image, rows, columns]
    return padded.permute(0, 2, 3, 1)[image, rows, columns].permute(0, 3, 1, 2)


def _generator(seed: int, stream: int) -> torch.Generator:
    state = int(np.random.SeedSequence(seed, spawn_key=(stream,)).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state >> 1)
