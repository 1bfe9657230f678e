"""Binary convolutions, and the networks that a training recipe describes."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cosim.errors import InputError
from cosim.network.window import PadValue, Pool, Window
from cosim.training.binary import Sign, binarize_weights, binary_mlp
from cosim.training.real import convolve
from cosim.training.recipe import Convolution, TrainingRecipe


class BinaryConv2d(nn.Module):
    """A convolution without bias whose weights are the signs of its latent weights; sign(0) is +1.

    In eval mode the sums are rounded to integers: torch may use a transform (Winograd) for a convolution, whose
    sums are only nearly whole. So inputs of +-1, and pixels 0..255, give exact sums below 2^24. Weights of several
    bits are odd integers (see `cosim.training.levels`), and their sums are taken in float64 in eval mode.

    Args:
        weight: Latent weights, shape (column, channel, kernel row, kernel column), within [-1, 1].
        stride: Step down and right.
        padding: Rows above and below, columns left and right.
        pad_value: What the padding holds, as a bit of each input.
        bits: Bits of a weight.
        input_bits: Bits of an input: the padding then holds pad_value * (2**input_bits - 1).
    """

    def __init__(
        self,
        weight: Float[Tensor, "column channel height width"],
        *,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        pad_value: PadValue = 0,
        bits: int = 1,
        input_bits: int = 1,
    ) -> None:
        """Take the latent weights as the parameter."""
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.stride = stride
        self.padding = padding
        self.pad_value: PadValue = pad_value
        self.bits, self.input_bits = bits, input_bits

    def forward(self, x: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image column row place"]:
        """Sums of the inputs with the signs of the weights at every position."""
        padding = self.padding
        if self.pad_value and any(padding):
            down, right = padding
            x = nn.functional.pad(x, (right, right, down, down), value=float(self.pad_value * (2**self.input_bits - 1)))
            padding = (0, 0)
        weight = binarize_weights(self.weight, self.bits).contiguous(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
        if not self.training and self.bits + self.input_bits > 2:
            with torch.autocast(x.device.type, enabled=False):
                return convolve(x.double(), weight.double(), self.stride, padding).float()
        sums = convolve(x, weight, self.stride, padding)
        return sums if self.training else sums + (sums.round() - sums).detach()

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        columns, channels, *kernel = self.weight.shape
        sizes = f"{channels}, {columns}, kernel_size={tuple(kernel)}, stride={self.stride}, padding={self.padding}"
        return f"{sizes}, pad_value={self.pad_value}"

    @torch.no_grad()
    def clip(self) -> None:
        """Clip the latent weights to [-1, 1], as after every optimizer step."""
        self.weight.clamp_(-1.0, 1.0)


def chain_network(recipe: TrainingRecipe, image_shape: Sequence[int], classes: int) -> nn.Sequential:
    """The network of a recipe before training, where `recipe.is_chain`.

    It takes pixels 0..255 as float32: (image, pixel) without convolutions, (image, channel, row, column) with them.

    Args:
        recipe: The recipe.
        image_shape: Rows, columns and, for colours, channels of an image.
        classes: Number of logits.

    Raises:
        InputError: A kernel is larger than its map; the convolution's number is the place.
    """
    hidden = [recipe.scaled(width) for width in recipe.hidden]
    if not recipe.convolution:
        return binary_mlp((math.prod(image_shape), *hidden, classes), seed=recipe.seed, spread=recipe.initial_spread)
    generator = torch.Generator().manual_seed(recipe.seed)
    height, width, channels = (*image_shape, 1)[:3]
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    shape = (channels, height, width)
    for number, convolution in enumerate(recipe.convolution, start=1):
        columns = recipe.scaled(convolution.channels)
        modules |= _block(convolution, number, (columns, shape[0]), recipe.initial_spread, generator)
        shape = map_after(convolution, columns, shape, number)
    modules["flatten"] = nn.Flatten()
    dense = binary_mlp(
        (math.prod(shape), *hidden, classes), seed=recipe.seed, spread=recipe.initial_spread, generator=generator
    )
    return nn.Sequential(modules | OrderedDict(dense.named_children()))


def map_after(convolution: Convolution, columns: int, shape: tuple[int, int, int], number: int) -> tuple[int, int, int]:
    """Channels, height and width of the map after a convolution and its pooling.

    Raises:
        InputError: The kernel or the pooling is larger than the map, or the padding as large as the kernel.
    """
    c, p = convolution, convolution.pool
    try:
        window = Window(shape, (c.kernel, c.kernel), (c.stride, c.stride), (c.padding, c.padding), c.pad_value)
        height, width = window.out_size
        if p > 1:
            height, width = Pool((p, p), (p, p)).window(height, width).out_size
    except InputError as error:
        raise InputError(error.message, place=f"convolution {number}", hint=error.hint) from error
    return columns, height, width


def _block(
    convolution: Convolution, number: int, shape: tuple[int, int], spread: float, generator: torch.Generator
) -> OrderedDict[str, nn.Module]:
    """Convolution, pooling, norm and sign, in the order that `pool_of` says."""
    c = convolution
    weight = (torch.rand((*shape, c.kernel, c.kernel), generator=generator) * 2.0 - 1.0) * spread
    pad_value = c.pad_value if number > 1 else 0
    both = (c.stride, c.stride), (c.padding, c.padding)
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    modules[f"conv{number}"] = BinaryConv2d(weight, stride=both[0], padding=both[1], pad_value=pad_value)
    if c.pool > 1 and c.pool_of == "sums":
        modules[f"pool{number}"] = nn.MaxPool2d(c.pool)
    modules[f"convnorm{number}"] = nn.BatchNorm2d(shape[0])
    modules[f"convsign{number}"] = Sign()
    if c.pool > 1 and c.pool_of == "outputs":
        modules[f"pool{number}"] = nn.MaxPool2d(c.pool)
    return modules
