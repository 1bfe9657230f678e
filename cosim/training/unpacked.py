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
from cosim.network.layers import (
    Affine,
    BatchNorm,
    ConvLayer,
    DenseLayer,
    Network,
    Pool,
    Quantizer,
    Residual,
    Threshold,
    affine_of,
)
from cosim.training.binary import BinaryLinear, ClassAffine, Sign
from cosim.training.convolutional import BinaryConv2d
from cosim.training.graph import Graph, GraphLayer
from cosim.training.groups import Norm, Weights
from cosim.training.pixel_sign import PixelSign
from cosim.training.real import AffineNorm1d, AffineNorm2d, RealConv2d, RealLinear

_CHAIN = {"window", "pool", "digital"}  # What a layer of a chain may have; digital says only where it is computed.
_GRAPH = _CHAIN | {"source", "residual", "real_weights", "weight_bits", "activation_bits", "scale_inputs"}


def to_torch(network: Network) -> nn.Sequential | Graph:
    """The digital torch network in eval mode: binary layers, poolings, torch's own batch norms, and signs.

    It takes float32 pixels 0..255, of shape (image, pixel), or (image, channel, row, column) where the first layer
    is a convolution, and returns logits of shape (image, class). Modules are named as `binary_network` names them
    (dense1, norm1, sign1, ...) where the layers are, so it can be trained on. A network with real numbers, averages,
    several bits, inputs of 0 and 1 or layers that are no chain becomes a `Graph`.

    Raises:
        InputError: The network has an option that these modules cannot have (a support), or a hidden layer
            with a threshold was stored without its batch norm.
    """
    _check_options(network)
    pixels = None if network.pixel_threshold is None else PixelSign(network.pixel_threshold)
    if any(_options(layer) - _CHAIN or _beyond_a_chain(layer) for layer in network.layers):
        return Graph([_graph_layer(layer, network.name) for layer in network.layers], pixels).eval()
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    if pixels is not None:
        modules["pixels"] = pixels
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
    pool = layer.pool if isinstance(layer, ConvLayer) else None
    modules: OrderedDict[str, nn.Module] = OrderedDict({layer.name: _weights(layer)})
    if pool is not None and pool.of == "sums":
        modules[names.format("pool")] = _pool(pool)
    if isinstance(layer.output, Affine):
        modules["affine"] = ClassAffine(_tensor(layer.output.scale), _tensor(layer.output.offset))
        return modules
    if layer.batch_norm is None:
        raise InputError(f"layer {layer.name!r} has no batch norm to rebuild", place=place)
    modules[names.format("norm")] = norm_module(layer.batch_norm, type_of_norm(layer))
    modules[names.format("sign")] = Sign()
    if pool is not None and pool.of == "outputs":
        modules[names.format("pool")] = _pool(pool)
    return modules


def _options(layer: DenseLayer) -> set[str]:
    return set(json.loads(options_of(layer)))


def _beyond_a_chain(layer: DenseLayer) -> bool:
    averaged = isinstance(layer, ConvLayer) and layer.pool is not None and layer.pool.kind == "average"
    return averaged or layer.input in ("on_off", "real") or isinstance(layer.output, Quantizer)


def _check_options(network: Network) -> None:
    for layer in network.layers:
        unknown = sorted(_options(layer) - _GRAPH)
        if unknown:
            text = f"layer {layer.name!r} has options without a torch module: {', '.join(unknown)}"
            raise InputError(text, place=network.name)


def _graph_layer(layer: DenseLayer, place: str) -> GraphLayer:
    """One layer of a network that is no chain."""
    pool = layer.pool if isinstance(layer, ConvLayer) else None
    output = layer.output
    affine = ClassAffine(_tensor(output.scale), _tensor(output.offset)) if isinstance(output, Affine) else None
    real = output if isinstance(output, Residual) else None
    return GraphLayer(
        layer.name,
        _weights(layer),
        norm=_norm_of(layer, place),
        affine=affine,
        pool=None if pool is None else _pool(pool),
        pool_of="sums" if pool is None else pool.of,
        input="binary" if layer.input == "pixels" else layer.input,
        source=layer.source,
        shortcut="" if real is None else real.shortcut,
        hard_tanh=real is not None and real.hard_tanh,
        activation_bits=layer.activation_bits,
        output_bits=layer.output_bits,
        scale_inputs=layer.scale_inputs,
    )


def _norm_of(layer: DenseLayer, place: str) -> Norm | None:
    """The batch norm: of a real output one that gives the same scale and offset, to the bit."""
    output, norm = layer.output, layer.batch_norm
    if isinstance(output, Affine):
        return None
    if isinstance(output, Threshold | Quantizer):
        if norm is None:
            raise InputError(f"layer {layer.name!r} has no batch norm to rebuild", place=place)
        return norm_module(norm, type_of_norm(layer))
    same = norm is not None and all(
        np.array_equal(a, b) for a, b in zip(affine_of(norm), (output.scale, output.offset), strict=True)
    )
    if norm is None or not same:
        zeros = np.zeros_like(output.scale)
        norm = BatchNorm(output.scale, output.offset, zeros, zeros + np.float32(1), 0.0)
    return norm_module(norm, type_of_norm(layer))


def type_of_norm(layer: DenseLayer) -> type[Norm]:
    """torch's class for a layer's batch norm."""
    if isinstance(layer.output, Residual):
        return AffineNorm2d if isinstance(layer, ConvLayer) else AffineNorm1d
    return nn.BatchNorm2d if isinstance(layer, ConvLayer) else nn.BatchNorm1d


def _weights(layer: DenseLayer) -> Weights:
    real = layer.real_weights is not None
    bits = layer.weight_bits
    values = layer.real_weights
    if values is None:
        values = layer.weights.astype(np.float32) / np.float32(2**bits - 1)
    if not isinstance(layer, ConvLayer):
        return RealLinear(_tensor(values)) if real else BinaryLinear(_tensor(values), bits)
    w = layer.window
    kernels = values.reshape(len(values), *w.kernel, w.channels).transpose(0, 3, 1, 2)
    latent = _tensor(kernels)
    if real:
        return RealConv2d(latent, stride=w.stride, padding=w.padding, pad_value=w.pad_value)
    return BinaryConv2d(latent, stride=w.stride, padding=w.padding, pad_value=w.pad_value, bits=bits)


def _pool(pool: Pool) -> nn.MaxPool2d | nn.AvgPool2d:
    return (nn.MaxPool2d if pool.kind == "max" else nn.AvgPool2d)(pool.size, pool.stride, pool.padding)


def norm_module(norm: BatchNorm, type_: type[Norm]) -> Norm:
    """A batch norm of a class with these values."""
    module = type_(len(norm.gamma), eps=norm.epsilon)
    values = {"weight": norm.gamma, "bias": norm.beta, "running_mean": norm.mean, "running_var": norm.variance}
    module.load_state_dict({name: _tensor(each) for name, each in values.items()}, strict=False)
    return module


def _tensor(values: Float[np.ndarray, "..."]) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32))
