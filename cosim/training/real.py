"""Modules of real numbers whose results are fixed to the bit: sums with real weights, batch norm as scale and offset.

In training they are torch's own. In eval mode sums are products in float64, where each is exact, added one after
the other in the order of the inputs (of a convolution kernel position by kernel position, then channel) and rounded to
float32 once: on any machine, in any batch, as in a packed network.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cosim.network.outputs import BatchNorm, affine_of
from cosim.network.window import PadValue

_AT_ONCE = 2**20  # Sums in work at once: they stay in the cache.


class RealLinear(nn.Module):
    """A dense layer of real weights without bias.

    Args:
        weight: Shape (column, input).
    """

    def __init__(self, weight: Float[Tensor, "column input"]) -> None:
        """Take the weights as the parameter."""
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Float[Tensor, "image input"]) -> Float[Tensor, "image column"]:
        """Sums of the inputs times the weights; in float32 under autocast too."""
        with torch.autocast(x.device.type, enabled=False):
            if self.training:
                return x.float() @ self.weight.T
            return _in_order(x.float()[:, :, None], self.weight)[:, :, 0]


class RealConv2d(nn.Module):
    """A convolution of real weights without bias.

    Args:
        weight: Shape (column, channel, kernel row, kernel column).
        stride: Step down and right.
        padding: Rows above and below, columns left and right.
        pad_value: What the padding holds, as a bit of each input.
        input_bits: Bits of an input: the padding then holds pad_value * (2**input_bits - 1).
    """

    def __init__(
        self,
        weight: Float[Tensor, "column channel height width"],
        *,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        pad_value: PadValue = 0,
        input_bits: int = 1,
    ) -> None:
        """Take the weights as the parameter."""
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.stride = stride
        self.padding = padding
        self.pad_value: PadValue = pad_value
        self.input_bits = input_bits

    def forward(self, x: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image column row place"]:
        """Sums of the inputs times the weights at every position."""
        down, right = self.padding
        padded = nn.functional.pad(
            x, (right, right, down, down), value=float(self.pad_value * (2**self.input_bits - 1))
        )
        if self.training:
            return convolve(padded, self.weight, self.stride)
        with torch.autocast(x.device.type, enabled=False):
            return self._ordered(padded.float())

    def _ordered(self, padded: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image column row place"]:
        """The sums of some images at a time."""
        columns, _, *kernel = self.weight.shape
        (tall, wide), (down, right) = kernel, self.stride
        height, width = (padded.shape[2] - tall) // down + 1, (padded.shape[3] - wide) // right + 1
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        parts: list[Tensor] = []
        for images in padded.split(max(1, _AT_ONCE // (columns * height * width))):
            seen = nn.functional.unfold(images, (tall, wide), stride=self.stride)
            by_tap = seen.unflatten(1, (-1, tall * wide)).transpose(1, 2).flatten(1, 2)
            parts.append(_in_order(by_tap, weight).unflatten(2, (height, width)))
        return torch.cat(parts)


class AffineNorm1d(nn.BatchNorm1d):
    """Batch norm whose eval mode is sum * scale + offset, each rounded; see `cosim.network.outputs.Residual`."""

    def forward(self, input: Float[Tensor, "image column"]) -> Float[Tensor, "image column"]:
        """Normalized columns."""
        return super().forward(input) if self.training else _scaled(self, input)


class AffineNorm2d(nn.BatchNorm2d):
    """`AffineNorm1d` for maps."""

    def forward(self, input: Float[Tensor, "image column height width"]) -> Float[Tensor, "image column height width"]:
        """Normalized maps."""
        return super().forward(input) if self.training else _scaled(self, input)


class GlobalAverage(nn.Module):
    """The average of a whole map, as nn.AvgPool2d computes it: row by row from 0, then divided."""

    def forward(self, x: Float[Tensor, "image column height width"]) -> Float[Tensor, "image column 1 1"]:
        """Maps of one place."""
        return nn.functional.avg_pool2d(x, (x.shape[2], x.shape[3]))


def convolve(
    x: Float[Tensor, "image channel height width"],
    weight: Float[Tensor, "column channel tall wide"],
    stride: tuple[int, int],
    padding: tuple[int, int] = (0, 0),
) -> Float[Tensor, "image column row place"]:
    """`torch.nn.functional.conv2d`, where a strided kernel of 1x1 is given only the inputs that it sees.

    The same sums and gradients. The weights' gradient of torch's own (2.13.0 on a CPU with AVX-512, 9 images of 12x12,
    channels last, stride 2, 2 threads) writes behind its working memory.
    """
    if weight.shape[2:] == (1, 1) and stride != (1, 1):
        down, right = padding
        x = nn.functional.pad(x, (right, right, down, down)) if any(padding) else x
        return nn.functional.conv2d(x[:, :, :: stride[0], :: stride[1]], weight)
    return nn.functional.conv2d(x, weight, stride=stride, padding=padding)


def input_scales(
    x: Float[Tensor, "image channel height width"],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    pad_value: PadValue,
    *,
    exact: bool,
) -> Float[Tensor, "image 1 row place"]:
    """K of XNOR-Net at every position of a convolution: the mean magnitude of what it sees.

    Rastegari et al., ECCV 2016, section 3.2. `exact` adds the channels one after the other, as packed networks do;
    the box filter is torch's average pooling, and padding counts as |pad_value|.
    """
    if exact:
        total = torch.zeros_like(x[:, :1])
        for channel in range(x.shape[1]):
            total = total + x[:, channel : channel + 1].abs()
        mean = total / x.shape[1]
    else:
        mean = x.abs().mean(1, keepdim=True)
    down, right = padding
    padded = nn.functional.pad(mean, (right, right, down, down), value=float(abs(pad_value)))
    return nn.functional.avg_pool2d(padded, kernel, stride)


def scale_and_offset(
    norm: nn.BatchNorm1d | nn.BatchNorm2d,
) -> tuple[Float[Tensor, " column"], Float[Tensor, " column"]]:
    """A batch norm as a factor and an offset, computed in float64 and rounded once."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    values = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    gamma, beta, mean, variance = (each.detach().cpu().float().numpy() for each in values)
    found = affine_of(BatchNorm(gamma, beta, mean, variance, norm.eps))
    scale, offset = (torch.from_numpy(each).to(norm.weight.device) for each in found)
    return scale, offset


def _scaled(norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor:
    scale, offset = scale_and_offset(norm)
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return x.float() * scale.view(shape) + offset.view(shape)


def _in_order(
    x: Float[Tensor, "image input position"], weight: Float[Tensor, "column input"]
) -> Float[Tensor, "image column position"]:
    """Products in float64 added input by input; a fused multiplication changes nothing, as products are exact."""
    wide = weight.double()
    total = torch.zeros(len(x), len(weight), x.shape[2], dtype=torch.float64, device=x.device)
    for i in range(x.shape[1]):
        total = total.addcmul(x[:, i, None].double(), wide[:, i, None])
    return total.float()
