"""The network that a training recipe describes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from cosim.training.convolutional import chain_network
from cosim.training.graph import Graph
from cosim.training.recipe import TrainingRecipe
from cosim.training.residual import graph_network


def binary_network(recipe: TrainingRecipe, image_shape: Sequence[int], classes: int) -> nn.Sequential | Graph:
    """The network of a recipe before training: modules in a row where that is enough, and a graph where it is not.

    It takes pixels 0..255 as float32: (image, pixel) without convolutions, (image, channel, row, column) with them.

    Args:
        recipe: The recipe.
        image_shape: Rows, columns and, for colours, channels of an image.
        classes: Number of logits.

    Raises:
        InputError: A kernel is larger than its map; the convolution's number is the place.
    """
    made = chain_network if recipe.is_chain else graph_network
    return made(recipe, image_shape, classes)
