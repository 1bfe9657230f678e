"""Binary layers that read every partial sum through a surrogate, with the gradient of the exact sum."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cosim.errors import InputError
from cosim.network.mapping import Order
from cosim.network.window import Window
from cosim.surrogate.model import Surrogate
from cosim.training.binary import BinaryLinear, binarize_weights
from cosim.training.convolutional import BinaryConv2d
from cosim.training.planes import Taken
from cosim.training.reader import Reader

SIGNS = Taken()
"""+1 and -1, which come from no map."""


class SimulatedLinear(BinaryLinear):
    """A `BinaryLinear` of signs or levels whose partial sums are read; mode ideal is `BinaryLinear` itself.

    The gradient passes straight through the read: it is that of the exact sum.

    Args:
        weight: Latent weights, shape (column, input).
        bits: Of a weight.
        taken: What it takes. Of a map that was flattened before, its inputs lie in the rows place by place, as those
            of a convolution.
        surrogate, order, layer, mode: See `Reader`.
    """

    def __init__(
        self,
        weight: Float[Tensor, "column input"],
        surrogate: Surrogate,
        *,
        bits: int = 1,
        taken: Taken = SIGNS,
        order: Order = "flat",
        layer: int = 0,
        mode: str = "iid",
    ) -> None:
        super().__init__(weight, bits)
        columns, inputs = weight.shape
        channels = taken.channels or inputs
        if inputs % channels:
            raise InputError(f"{inputs} inputs are no map of {channels} channels")
        self.window = Window((channels, inputs // channels, 1), (inputs // channels, 1))
        self.reader = Reader(
            surrogate, columns, self.window, taken=taken, weight_bits=bits, order=order, layer=layer, mode=mode
        )

    def forward(self, x: Float[Tensor, "image input"]) -> Float[Tensor, "image column"]:
        """Sums of the inputs with the weights, as they are read; (image, column)."""
        if self.reader.mode == "ideal" and self.reader.histogram is None:
            return super().forward(x)
        self.reader.taken.check(x)

        with torch.autocast(x.device.type, enabled=False):
            w = self.window
            weight = binarize_weights(self.weight.detach().float(), self.bits)
            weight = weight.view(-1, w.channels, w.taps).transpose(1, 2).flatten(1)
            read = self.reader.read(x.view(len(x), *w.in_shape), weight, w)[:, :, 0]
        return self.reader.result(read, super().forward, x, self.weight)


class SimulatedConv2d(BinaryConv2d):
    """A `BinaryConv2d` of signs or levels whose partial sums are read; mode ideal is `BinaryConv2d` itself.

    Rows in zero padding and left-over rows are off. The gradient is that of the exact sum.

    Args:
        conv: The weights, their bits, stride and padding.
        taken: What it takes; its bits are those of the convolution's inputs.
        surrogate, order, layer, mode: See `Reader`.
    """

    def __init__(
        self,
        conv: BinaryConv2d,
        surrogate: Surrogate,
        *,
        taken: Taken = SIGNS,
        order: Order = "flat",
        layer: int = 0,
        mode: str = "iid",
    ) -> None:
        weight = conv.weight.detach().clone()
        super().__init__(
            weight,
            stride=conv.stride,
            padding=conv.padding,
            pad_value=conv.pad_value,
            bits=conv.bits,
            input_bits=taken.bits,
        )
        columns, channels, *kernel = weight.shape
        smallest = Window((channels, kernel[0], kernel[1]), (kernel[0], kernel[1]))
        self.reader = Reader(
            surrogate, columns, smallest, taken=taken, weight_bits=conv.bits, order=order, layer=layer, mode=mode
        )

    def forward(self, x: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image column row place"]:
        """Sums of the inputs with the weights at every position, as they are read."""
        if self.reader.mode == "ideal" and self.reader.histogram is None:
            return super().forward(x)
        self.reader.taken.check(x)
        columns, channels, *kernel = self.weight.shape
        shape = (channels, int(x.shape[2]), int(x.shape[3]))
        pad_value = self.pad_value if any(self.padding) else 0
        window = Window(shape, (kernel[0], kernel[1]), self.stride, self.padding, pad_value)

        with torch.autocast(x.device.type, enabled=False):
            weight = binarize_weights(self.weight.detach().float(), self.bits)
            read = self.reader.read(x, weight.permute(0, 2, 3, 1).reshape(columns, -1), window)
        read = read.view(len(x), columns, *window.out_size)
        return self.reader.result(read, super().forward, x, self.weight)


Simulated = SimulatedLinear | SimulatedConv2d


def plain(module: BinaryLinear | BinaryConv2d) -> BinaryLinear | BinaryConv2d:
    """The same layer without reads, its weights copied."""
    weight = module.weight.detach().clone()
    if isinstance(module, BinaryLinear):
        return BinaryLinear(weight, module.bits)
    about = module.pad_value, module.bits, module.input_bits
    return BinaryConv2d(
        weight, stride=module.stride, padding=module.padding, pad_value=about[0], bits=about[1], input_bits=about[2]
    )
