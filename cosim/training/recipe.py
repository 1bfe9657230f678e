"""Training recipes: what `cosim train` needs to make the same network again, as TOML."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from cosim.config import load_toml, parse_toml
from cosim.errors import InputError
from cosim.network.levels import LEVEL_BITS_MAX

Count = Annotated[int, Field(gt=0)]
Width = Annotated[int, Field(gt=0, le=65_536)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]

_YOUNGER = {
    *("pool_kind", "first", "last", "global_average", "weight_bits", "activation_bits", "activations", "scale_inputs"),
}

Bits = Annotated[int, Field(ge=1, le=LEVEL_BITS_MAX)]


@dataclass(frozen=True, slots=True)
class Convolution:
    """One binary convolution with its max pooling; batch norm and sign follow it.

    Attributes:
        channels: Output channels before the recipe's width factor.
        kernel: Height and width.
        stride: Step down and right.
        padding: Rows and columns around the map, fewer than the kernel has; the first convolution's hold 0.
        pad_value: What the padding of the others holds: 0, +1 or -1.
        pool: Height, width and step of the pooling; 1 for none.
        pool_of: "sums": convolution, pool, norm, sign; "outputs": convolution, norm, sign, pool.
        pool_kind: "max", or "average".
    """

    channels: Width
    kernel: Annotated[int, Field(ge=1, le=15)] = 3
    stride: Annotated[int, Field(ge=1, le=15)] = 1
    padding: Annotated[int, Field(ge=0, le=14)] = 1
    pad_value: Literal[-1, 0, 1] = 0
    pool: Annotated[int, Field(ge=1, le=15)] = 1
    pool_of: Literal["sums", "outputs"] = "sums"
    pool_kind: Literal["max", "average"] = "max"

    def __post_init__(self) -> None:
        """Refuse an average of nothing.

        Raises:
            InputError: pool_kind "average" without a pool.
        """
        if self.pool_kind == "average" and self.pool == 1:
            raise InputError('pool_kind = "average" of a [[convolution]] without a pool')


@dataclass(frozen=True, slots=True)
class Block:
    """Residual blocks of two 3x3 convolutions after the convolutions; the first of them has the stride.

    Attributes:
        channels: Output channels before the recipe's width factor.
        count: How many blocks, one after the other.
        stride: Step of the first convolution of the first block.
        pad_value: What the padding holds: 0, +1 or -1.
    """

    channels: Width
    count: Annotated[int, Field(ge=1, le=100)] = 1
    stride: Annotated[int, Field(ge=1, le=3)] = 1
    pad_value: Literal[-1, 0, 1] = 0


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """Everything that a training run depends on, besides the images and the version of torch.

    The network is the convolutions, if there are any, then the residual blocks, then the hidden dense layers, then
    one dense layer of a logit a class; batch norm and sign follow every layer but the last. Ranges are checked where
    a recipe is read (`load_recipe`, `check_recipe`, `train`).

    Attributes:
        name: Name of the network; its file is `<name>.h5`.
        dataset: The images to train on; their test images are looked at once, at the end.
        hidden: Widths of the hidden dense layers, at most 65,536 each, before the width factor; it may be empty
            where there are convolutions.
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
        first: Whether the first layer's weights are "binary" or "real"; it takes the pixels either way.
        last: The same for the last layer, of which real weights take real numbers where the layer before gives such.
        weight_bits: Bits of a weight that is not real, each in a column of its own.
        activation_bits: Bits of what every layer but the first takes, where it takes no real numbers.
        activations: What every layer but the first takes: "binary", +1 and -1, or "on_off", 1 and 0 (HBNN; Liu et al.,
            DAC 2018), where 0 turns a row off; not what takes real numbers.
        scale_inputs: Whether the sums of every binary layer but the first are multiplied by the mean magnitude of the
            numbers whose signs it takes (XNOR-Net's K); the outputs of all layers are then real.
        global_average: Whether the last map, of real numbers then, is averaged to one value a channel, as a ResNet's.
        convolution: The convolutions before the dense layers, each a table `[[convolution]]`.
        block: The residual blocks after them, each a table `[[block]]`.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    dataset: Literal["mnist", "fashion_mnist", "cifar10"]
    hidden: tuple[Width, ...]
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
    first: Literal["binary", "real"] = "binary"
    last: Literal["binary", "real"] = "binary"
    weight_bits: Bits = 1
    activation_bits: Bits = 1
    activations: Literal["binary", "on_off"] = "binary"
    scale_inputs: bool = False
    global_average: bool = False
    convolution: tuple[Convolution, ...] = ()
    block: tuple[Block, ...] = ()

    def __post_init__(self) -> None:
        """Refuse parts that do not fit together.

        Raises:
            InputError: Naming the part.
        """
        if not self.hidden and not self.convolution:
            raise InputError("hidden needs at least 1 entries where there is no [[convolution]]")
        if self.block and not self.convolution:
            raise InputError("a [[block]] needs a [[convolution]] before it, which makes its stream of the pixels")
        if self.global_average and not self.convolution:
            raise InputError("global_average needs a [[convolution]]")
        if self.scale_inputs and self.activation_bits > 1:
            raise InputError("scale_inputs is for activations of one bit, activation_bits must be 1")
        if self.scale_inputs and self.activations == "on_off":
            raise InputError('scale_inputs is for activations = "binary"')
        if self.activations == "on_off" and any(each.pad_value == -1 for each in (*self.convolution[1:], *self.block)):
            raise InputError('activations = "on_off" are padded with 0 or 1, got pad_value -1')
        averaged = any((each.pool_kind, each.pool_of) == ("average", "outputs") for each in self.convolution)
        if self.activation_bits > 1 and averaged:
            raise InputError("outputs of several bits have max pooling, an average is one of sums or of a last map")
        last = self.convolution[-1] if self.convolution else None
        if self.global_average and not self.block and last is not None and last.pool > 1:
            raise InputError("global_average and a pool of the last [[convolution]]: a layer has one pooling")

    @property
    def is_chain(self) -> bool:
        """Whether every layer takes the signs of the one before it, all weights are binary, all poolings maxima."""
        averaged = any(each.pool > 1 and each.pool_kind == "average" for each in self.convolution)
        real = "real" in (self.first, self.last)
        several = self.weight_bits > 1 or self.activation_bits > 1
        other = several or self.scale_inputs or self.activations == "on_off"
        return not (self.block or self.global_average or averaged or real or other)

    def scaled(self, width: int) -> int:
        """A width times the width factor.

        >>> TrainingRecipe("tiny", "mnist", (4,), 1, 8, 0.01, 0, width=0.3).scaled(128)
        38
        """
        return max(1, round(width * self.width))

    def text(self) -> str:
        """The recipe as TOML: two recipes are the same when their texts are.

        Every value is in it, but for options that are younger than the first recipes where they are at their defaults.

        >>> TrainingRecipe("tiny", "mnist", (4,), 1, 8, 0.01, 0).text().splitlines()[:3]
        ['name = "tiny"', 'dataset = "mnist"', 'hidden = [4]']
        """
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        tables = {key: named.pop(key) for key in ("convolution", "block")}
        lines = _lines(self, named)
        for key, table in ((key, each) for key, all_ in tables.items() for each in all_):
            lines.append(f"\n[[{key}]]\n")
            lines += _lines(table, {field.name: getattr(table, field.name) for field in fields(table)})
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


def _lines(table: object, values: dict[str, object]) -> list[str]:
    """`key = value` for each; younger options only where they are not at their defaults."""
    default = {each.name: each.default for each in fields(type(table))}  # pyright: ignore[reportArgumentType]
    kept = {key: value for key, value in values.items() if key not in _YOUNGER or value != default[key]}
    return [f"{key} = {_toml(value)}\n" for key, value in kept.items()]


def _toml(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(str(item) for item in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)
