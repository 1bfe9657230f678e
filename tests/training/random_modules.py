"""Random binary convolutional torch networks: odd channels, kernels, strides, paddings, poolings, norms of any sign."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from cosim.training.binary import BinaryLinear, ClassAffine, Sign
from cosim.training.convolutional import BinaryConv2d
from cosim.training.graph import Graph, GraphLayer
from cosim.training.real import AffineNorm1d, AffineNorm2d, GlobalAverage, RealConv2d, RealLinear

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


def random_graph(seed: int) -> tuple[Graph, tuple[int, ...]]:
    """A graph in eval mode of binary and real layers, streams and shortcuts, maxima and averages."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    channels = int(rng.integers(1, 4))
    image_shape = (int(rng.integers(5, 10)), int(rng.integers(5, 10)), channels)
    shape, layers = (channels, *image_shape[:2]), list[GraphLayer]()
    for number in range(int(rng.integers(1, 4))):
        layer = _graph_convolution(rng, generator, layers, shape, f"conv{number}")
        layers.append(layer)
        if layer.real and rng.random() < 0.7:
            layers.append(_on_a_stream(rng, generator, layer, f"block{number}"))
        shape = _shape_after(layers, image_shape)
    hidden, real = int(rng.integers(1, 20)), rng.random() < 0.5
    layers.append(_graph_dense(rng, generator, layers, int(np.prod(shape)), hidden, "hidden"))
    weight = _weight(generator, 3, hidden)
    affine = ClassAffine(torch.randn(3, generator=generator), torch.randn(3, generator=generator))
    kind = "real" if real and layers[-1].gives_reals else "binary"
    weights = RealLinear(weight) if real else BinaryLinear(weight, _bits(rng))
    bits = _input_bits(rng, layers)
    scaled = not real and bits == 1 and layers[-1].gives_reals
    about = {"activation_bits": bits, "scale_inputs": scaled}
    layers.append(GraphLayer("last", weights, affine=affine, input=kind, **about))
    return Graph(layers).eval(), image_shape


def _graph_convolution(
    rng: np.random.Generator, generator: torch.Generator, layers: list[GraphLayer], shape: tuple[int, ...], name: str
) -> GraphLayer:
    columns, real = int(rng.integers(1, 30)), bool(rng.random() < 0.4)
    kind = _kind(rng, layers, real=real)
    conv = _convolution(
        rng, generator, shape, columns, 0 if not layers else int(rng.integers(0 if kind == "on_off" else -1, 2))
    )
    if real:
        options = {"stride": conv.stride, "padding": conv.padding, "pad_value": conv.pad_value}
        conv = RealConv2d(_weight(generator, *conv.weight.shape), **options)
    else:
        conv.bits = _bits(rng)
    with torch.no_grad():
        height, width = conv(torch.zeros(1, *shape)).shape[2:]
    stream = real or rng.random() < 0.4
    value = 255.0 if not layers else 1.0
    base = norm(generator, columns, int(np.prod(conv.weight.shape[1:])), 2, value)
    pool = _graph_pool(rng, height, width) if rng.random() < 0.6 else None
    pool_of = "sums" if rng.random() < 0.5 else "outputs"
    averages = pool_of == "outputs" and isinstance(pool, nn.AvgPool2d | GlobalAverage)
    bits = _input_bits(rng, layers)
    may = stream and not real and bits == 1 and kind == "binary" and layers and layers[-1].gives_reals
    return GraphLayer(
        name,
        conv,
        norm=_affine_twin(base) if stream else base,
        pool=pool,
        pool_of=pool_of,
        scale_inputs=bool(may),
        activation_bits=bits,
        output_bits=1 if averages or stream else _bits(rng),
        input=kind,
        hard_tanh=bool(stream and rng.random() < 0.5),
    )


def _on_a_stream(rng: np.random.Generator, generator: torch.Generator, before: GraphLayer, name: str) -> GraphLayer:
    """A convolution of a stream's signs that is added to it, perhaps averaged afterwards."""
    columns = before.weights.weight.shape[0]
    conv = BinaryConv2d(_weight(generator, columns, columns, 3, 3), padding=(1, 1), bits=_bits(rng))
    about = {"source": before.name, "shortcut": before.name, "hard_tanh": bool(rng.random() < 0.5)}
    about |= {"activation_bits": _bits(rng)}
    about["scale_inputs"] = about["activation_bits"] == 1 and bool(rng.random() < 0.5)
    pool = GlobalAverage() if rng.random() < 0.4 else None
    twin = _affine_twin(norm(generator, columns, 9 * columns, 2))
    return GraphLayer(name, conv, norm=twin, pool=pool, pool_of="outputs", **about)


def _graph_dense(
    rng: np.random.Generator, generator: torch.Generator, layers: list[GraphLayer], inputs: int, columns: int, name: str
) -> GraphLayer:
    real, stream = bool(rng.random() < 0.3), bool(rng.random() < 0.4)
    base = norm(generator, columns, inputs, 1)
    weight = _weight(generator, columns, inputs)
    return GraphLayer(
        name,
        RealLinear(weight) if real else BinaryLinear(weight, _bits(rng)),
        norm=_affine_twin(base) if real or stream else base,
        input=_kind(rng, layers, real=real),
        activation_bits=_input_bits(rng, layers),
        output_bits=1 if real or stream else _bits(rng),
    )


def _bits(rng: np.random.Generator) -> int:
    return int(rng.choice([1, 1, 2, 3, 4]))


def _input_bits(rng: np.random.Generator, layers: list[GraphLayer]) -> int:
    """Those of the layer before it; of a real output any."""
    if not layers:
        return 1
    return _bits(rng) if layers[-1].gives_reals else layers[-1].output_bits


def _kind(rng: np.random.Generator, layers: list[GraphLayer], *, real: bool) -> Literal["binary", "on_off", "real"]:
    if layers and layers[-1].gives_reals and real:
        return "real"
    return "on_off" if layers and rng.random() < 0.3 else "binary"


def _graph_pool(rng: np.random.Generator, height: int, width: int) -> nn.Module:
    size = (int(rng.integers(1, min(height, 3) + 1)), int(rng.integers(1, min(width, 3) + 1)))
    padding = tuple(int(rng.integers(0, each // 2 + 1)) for each in size)
    stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    kind = int(rng.integers(0, 3))
    return GlobalAverage() if kind == 2 else (nn.MaxPool2d, nn.AvgPool2d)[kind](size, stride, padding)


def _affine_twin(base: Norm) -> nn.Module:
    twin = (AffineNorm1d if isinstance(base, nn.BatchNorm1d) else AffineNorm2d)(base.num_features, eps=base.eps)
    twin.load_state_dict(base.state_dict())
    return twin


def _shape_after(layers: list[GraphLayer], image_shape: tuple[int, ...]) -> tuple[int, ...]:
    height, width, channels = image_shape
    with torch.no_grad():
        return tuple(Graph(layers).eval().outputs(torch.zeros(1, channels, height, width))[-1].shape[1:])
