"""Random binary convolutional torch networks: odd channels, kernels, strides, paddings, poolings, norms of any sign."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from cosim.training.binary import BinaryLinear, ClassAffine, Sign
from cosim.training.convolutional import BinaryConv2d

Norm = nn.BatchNorm1d | nn.BatchNorm2d


def random_cnn(seed: int, *, pad_value: int | None = None) -> tuple[nn.Sequential, tuple[int, ...]]:
    """A network in eval mode with one to three convolutions, and the shape of its images."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    channels = int(rng.integers(1, 4))
    image_shape = (int(rng.integers(6, 12)), int(rng.integers(6, 12)), channels)
    shape = (channels, *image_shape[:2])
    modules: list[nn.Module] = []
    for number in range(int(rng.integers(1, 4))):
        columns = int(rng.integers(1, 70))
        conv = _convolution(rng, generator, shape, columns, pad_value if number else 0)
        modules += _order(rng, generator, conv, columns, 255.0 if number == 0 else 1.0, shape)
        with torch.no_grad():
            shape = tuple(nn.Sequential(*modules).eval()(torch.zeros(1, channels, *image_shape[:2])).shape[1:])
    hidden, inputs = int(rng.integers(1, 40)), int(np.prod(shape))
    modules += [nn.Flatten(), BinaryLinear(_weight(generator, hidden, inputs)), norm(generator, hidden, inputs, 1)]
    modules += [nn.Hardtanh(), Sign(), BinaryLinear(_weight(generator, 3, hidden))]
    modules.append(ClassAffine(torch.randn(3, generator=generator), torch.randn(3, generator=generator)))
    return nn.Sequential(*modules).eval(), image_shape if channels > 1 or seed % 2 else image_shape[:2]


def norm(generator: torch.Generator, columns: int, inputs: int, dimensions: int, value: float = 1.0) -> Norm:
    """A batch norm with gammas of both signs and zero, and means that are whole, so that ties occur."""
    module = (nn.BatchNorm1d if dimensions == 1 else nn.BatchNorm2d)(columns)
    reach = inputs**0.5 * value
    with torch.no_grad():
        module.weight.copy_(torch.randn(columns, generator=generator))
        module.weight[: columns // 8] = 0.0
        module.bias.copy_(torch.randn(columns, generator=generator).round())
        assert module.running_mean is not None
        assert module.running_var is not None
        module.running_mean.copy_((torch.randn(columns, generator=generator) * reach).round())
        module.running_var.copy_(torch.rand(columns, generator=generator) * reach**2 + 1e-3)
    return module


def pixels_of(images: np.ndarray, image_shape: tuple[int, ...]) -> Tensor:
    """8-bit images as the network takes them, (image, channel, row, column)."""
    height, width, channels = (*image_shape, 1)[:3]
    maps = images.reshape(len(images), height, width, channels).transpose(0, 3, 1, 2)
    return torch.from_numpy(maps.astype(np.float32))


def _weight(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator) * 2.0 - 1.0


def _convolution(
    rng: np.random.Generator,
    generator: torch.Generator,
    shape: tuple[int, ...],
    columns: int,
    pad_value: int | None,
) -> BinaryConv2d:
    kernel = tuple(int(rng.integers(1, min(size, 4) + 1)) for size in shape[1:])
    pad = int(rng.integers(-1, 2)) if pad_value is None else pad_value
    return BinaryConv2d(
        _weight(generator, columns, shape[0], *kernel),
        stride=(int(rng.integers(1, 3)), int(rng.integers(1, 3))),
        padding=(int(rng.integers(0, kernel[0])), int(rng.integers(0, kernel[1]))),
        pad_value=pad,
    )


def _order(
    rng: np.random.Generator,
    generator: torch.Generator,
    conv: BinaryConv2d,
    columns: int,
    value: float,
    shape: tuple[int, ...],
) -> list[nn.Module]:
    """Convolution, norm and sign, perhaps with a pooling in one of the places where it may stand."""
    with torch.no_grad():
        height, width = conv(torch.zeros(1, *shape)).shape[2:]
    inputs = int(np.prod(conv.weight.shape[1:]))
    modules = [conv, norm(generator, columns, inputs, 2, value), Sign()]
    if rng.random() < 0.3:
        modules.insert(2, nn.Hardtanh() if rng.random() < 0.5 else nn.Tanh())
    if rng.random() < 0.7:
        size = (int(rng.integers(1, min(height, 3) + 1)), int(rng.integers(1, min(width, 3) + 1)))
        padding = tuple(int(rng.integers(0, each // 2 + 1)) for each in size)
        pool = nn.MaxPool2d(size, (int(rng.integers(1, 3)), int(rng.integers(1, 3))), padding)
        modules.insert(int(rng.integers(1, len(modules) + 1)), pool)
    return modules
