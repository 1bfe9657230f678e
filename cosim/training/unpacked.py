"""From a packed `Network` back to the digital torch network."""

from __future__ import annotations

import json
from collections import OrderedDict

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cosim.errors import InputError
from cosim.network.layer_options import options_of
from cosim.network.layers import Affine, BatchNorm, ConvLayer, DenseLayer, Network, Pool
from cosim.training.binary import BinaryLinear, ClassAffine, Sign
from cosim.training.convolutional import BinaryConv2d
from cosim.training.packed import Norm
from cosim.training.pixel_sign import PixelSign

_OPTIONS = {"window", "pool", "digital"}  # Others change what a layer computes; digital says only where.


def to_torch(network: Network) -> nn.Sequential:
    """The digital torch network in eval mode: binary layers, poolings, torch's own batch norms, and signs.

    It takes float32 pixels 0..255, of shape (image, pixel), or (image, channel, row, column) where the first layer
    is a convolution, and returns logits of shape (image, class). Modules are named as `binary_network` names them
    (dense1, norm1, sign1, ...) where the layers are, so it can be trained on.

    Raises:
        InputError: The network has an option that these modules cannot have (a shortcut, weights of several bits),
            or a hidden layer was stored without its batch norm.
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    if network.pixel_threshold is not None:
        modules["pixels"] = PixelSign(network.pixel_threshold)
    convolutions = sum(isinstance(layer, ConvLayer) for layer in network.layers)
    for index, layer in enumerate(network.layers):
        conv = isinstance(layer, ConvLayer)
        if convolutions and not conv and index and isinstance(network.layers[index - 1], ConvLayer):
            modules["flatten"] = nn.Flatten()
        number = index + 1 - (0 if conv else convolutions)
        modules |= _modules(layer, f"conv{{}}{number}" if conv else f"{{}}{number}", network.name)
    return nn.Sequential(modules).eval()


def _modules(layer: DenseLayer, names: str, place: str) -> OrderedDict[str, nn.Module]:
    """The modules of one layer in torch's order."""
    unknown = sorted(json.loads(options_of(layer)).keys() - _OPTIONS)
    if layer.input == "on_off":
        unknown.append("inputs that are on or off")
    if unknown:
        raise InputError(f"layer {layer.name!r} has options without a torch module: {', '.join(unknown)}", place=place)
    pool = layer.pool if isinstance(layer, ConvLayer) else None
    modules: OrderedDict[str, nn.Module] = OrderedDict({layer.name: _weights(layer)})
    if pool is not None and pool.of == "sums":
        modules[names.format("pool")] = _pool(pool)
    if isinstance(layer.output, Affine):
        modules["affine"] = ClassAffine(_tensor(layer.output.scale), _tensor(layer.output.offset))
        return modules
    if layer.batch_norm is None:
        raise InputError(f"layer {layer.name!r} has no batch norm to rebuild", place=place)
    modules[names.format("norm")] = norm_module(layer.batch_norm, conv=isinstance(layer, ConvLayer))
    modules[names.format("sign")] = Sign()
    if pool is not None and pool.of == "outputs":
        modules[names.format("pool")] = _pool(pool)
    return modules


def _weights(layer: DenseLayer) -> nn.Module:
    values = layer.signs.astype(np.float32)
    if not isinstance(layer, ConvLayer):
        return BinaryLinear(_tensor(values))
    w = layer.window
    kernels = values.reshape(len(values), *w.kernel, w.channels).transpose(0, 3, 1, 2)
    return BinaryConv2d(_tensor(kernels), stride=w.stride, padding=w.padding, pad_value=w.pad_value)


def _pool(pool: Pool) -> nn.MaxPool2d:
    return nn.MaxPool2d(pool.size, pool.stride, pool.padding)


def norm_module(norm: BatchNorm, *, conv: bool) -> Norm:
    """torch's batch norm with these values."""
    module = (nn.BatchNorm2d if conv else nn.BatchNorm1d)(len(norm.gamma), eps=norm.epsilon)
    values = {"weight": norm.gamma, "bias": norm.beta, "running_mean": norm.mean, "running_var": norm.variance}
    module.load_state_dict({name: _tensor(each) for name, each in values.items()}, strict=False)
    return module


def _tensor(values: Float[np.ndarray, "..."]) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32))
