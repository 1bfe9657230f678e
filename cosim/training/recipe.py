"""Training recipes: what `cosim train` needs to make the same network again, as TOML."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from cosim.config import load_toml, parse_toml

Count = Annotated[int, Field(gt=0)]
Width = Annotated[int, Field(gt=0, le=65_536)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


@dataclass(frozen=True, slots=True)
class Convolution:
    """One binary convolution with its max pooling; batch norm and sign follow it.

    Attributes:
        channels: Output channels before the recipe's width factor.
        kernel: Height and width.
        stride: Step down and right.
        padding: Rows and columns around the map, fewer than the kernel has; the first convolution's hold 0.
        pad_value: What the padding of the others holds: 0, +1 or -1.
        pool: Height, width and step of the max pooling; 1 for none.
        pool_of: "sums": convolution, pool, norm, sign; "outputs": convolution, norm, sign, pool.
    """

    channels: Width
    kernel: Annotated[int, Field(ge=1, le=15)] = 3
    stride: Annotated[int, Field(ge=1, le=15)] = 1
    padding: Annotated[int, Field(ge=0, le=14)] = 1
    pad_value: Literal[-1, 0, 1] = 0
    pool: Annotated[int, Field(ge=1, le=15)] = 1
    pool_of: Literal["sums", "outputs"] = "sums"


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """Everything that a training run depends on, besides the images and the version of torch.

    The network is the convolutions, if there are any, then the hidden dense layers, then one dense layer of a
    logit a class; batch norm and sign follow every layer but the last. Ranges are checked where a recipe is read
    (`load_recipe`, `check_recipe`, `train`).

    Attributes:
        name: Name of the network; its file is `<name>.h5`.
        dataset: The images to train on; their test images are looked at once, at the end.
        hidden: Widths of the hidden dense layers, at most 65,536 each, before the width factor.
        epochs: Passes over the training images.
        batch: Images in an optimizer step, at least 2.
        learning_rate: Adam's step at the start; it falls to 0 along half a cosine.
        seed: Seed of the first weights and of every epoch's order and augmentation.
        holdout_images: Training images kept out of training and used for validation; 0 trains on all.
        shift_pixels: Each image moves by up to this many pixels up, down, left and right, filled with 0.
        flip_probability: Probability that an image is mirrored left to right.
        pixel_dropout: Probability that a pixel is set to 0; the others grow by 1 / (1 - probability).
        label_smoothing: Share of the target spread evenly over the classes.
        initial_spread: Latent weights start uniform in [-initial_spread, initial_spread].
        precision: "bfloat16" computes the convolutions' sums of a training step in it (2 to 3 times as fast where the
            processor has it; sums above 256 are rounded); the finished network is exact either way.
        threads: Threads of torch; sums differ in their last bits between thread counts.
        width: Factor of all channels and hidden widths, rounded to whole ones, at least 1.
        convolution: The convolutions before the dense layers, each a table `[[convolution]]`.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    dataset: Literal["mnist", "fashion_mnist", "cifar10"]
    hidden: Annotated[tuple[Width, ...], Field(min_length=1)]
    epochs: Count
    batch: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0.0)]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    holdout_images: Annotated[int, Field(ge=0, lt=60_000)] = 0
    shift_pixels: Annotated[int, Field(ge=0, le=14)] = 0
    flip_probability: Share = 0.0
    pixel_dropout: Share = 0.0
    label_smoothing: Share = 0.0
    initial_spread: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    precision: Literal["float32", "bfloat16"] = "float32"
    threads: Count = 1
    width: Annotated[float, Field(gt=0.0, le=16.0)] = 1.0
    convolution: tuple[Convolution, ...] = ()

    def scaled(self, width: int) -> int:
        """A width times the width factor.

        >>> TrainingRecipe("tiny", "mnist", (4,), 1, 8, 0.01, 0, width=0.3).scaled(128)
        38
        """
        return max(1, round(width * self.width))

    def text(self) -> str:
        """The recipe as TOML, every value included: two recipes are the same when their texts are.

        >>> TrainingRecipe("tiny", "mnist", (4,), 1, 8, 0.01, 0).text().splitlines()[:3]
        ['name = "tiny"', 'dataset = "mnist"', 'hidden = [4]']
        """
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        tables: tuple[Convolution, ...] = named.pop("convolution")
        lines = [f"{key} = {_toml(value)}\n" for key, value in named.items()]
        for table in tables:
            lines.append("\n[[convolution]]\n")
            lines += [f"{field.name} = {_toml(getattr(table, field.name))}\n" for field in fields(table)]
        return "".join(lines)


def load_recipe(path: Path | str) -> TrainingRecipe:
    """The training recipe in a TOML file.

    Raises:
        InputError: The file is missing, is not TOML, has an unknown key or a value outside its range.
    """
    return load_toml(Path(path), TrainingRecipe)


def check_recipe(recipe: TrainingRecipe) -> TrainingRecipe:
    """The same recipe, with every value within its range.

    Raises:
        InputError: A value lies outside its range; the place is the line of the recipe's text.
    """
    return parse_toml(recipe.text(), TrainingRecipe, place=f"recipe {recipe.name!r}")


def _toml(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(str(item) for item in value)}]"
    return repr(value)
