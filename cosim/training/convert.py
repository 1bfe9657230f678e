"""From a trained torch module to a packed `Network`, and back to the digital torch network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from cosim.errors import InputError
from cosim.network.layers import PIXEL_MAX, Affine, BatchNorm, DenseLayer, Network, Threshold
from cosim.network.packing import pack_bits, unpack_bits
from cosim.training.binary import BinaryLinear, ClassAffine, Sign
from cosim.training.fold import fold


def to_torch(network: Network) -> nn.Sequential:
    """The digital torch network in eval mode: binary dense layers, real `nn.BatchNorm1d` and signs.

    It takes float32 pixels 0..255 of shape (image, pixel) and returns logits of shape (image, class). Modules
    are named as `binary_mlp` names them (dense1, norm1, sign1, ...), so it can be trained on.

    Raises:
        InputError: A hidden layer was stored without its batch norm.
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for index, layer in enumerate(network.layers, start=1):
        bits = unpack_bits(layer.packed, layer.in_features)
        modules[f"dense{index}"] = BinaryLinear(_tensor(np.where(bits, 1.0, -1.0)))
        if isinstance(layer.output, Affine):
            modules["affine"] = ClassAffine(_tensor(layer.output.scale), _tensor(layer.output.offset))
        elif layer.batch_norm is None:
            raise InputError(f"layer {layer.name!r} has no batch norm to rebuild", place=network.name)
        else:
            modules[f"norm{index}"] = _norm_module(layer.batch_norm)
            modules[f"sign{index}"] = Sign()
    return nn.Sequential(modules).eval()


def export(
    module: nn.Sequential,
    *,
    name: str,
    image_shape: tuple[int, int] = (28, 28),
    provenance: Mapping[str, str] | None = None,
) -> Network:
    """The packed network of a trained module: signs as bits, batch norm folded into thresholds.

    Args:
        module: (BinaryLinear, BatchNorm1d, Sign) for every hidden layer, then (BinaryLinear, ClassAffine), as
            from `binary_mlp`. The first layer takes 8-bit pixels, the others +-1.
        name: Name of the network.
        image_shape: Rows and columns of an image; their product is the number of inputs.
        provenance: Where the network comes from, kept with it.

    Raises:
        InputError: The modules are others or in another order, or a parameter is not finite.
    """
    layers: list[DenseLayer] = []
    remaining = list(module.children())
    while remaining:
        layer, used = _dense_layer(remaining, index=len(layers))
        layers.append(layer)
        remaining = remaining[used:]
    if not layers or not isinstance(layers[-1].output, Affine):
        raise InputError("the last layer must be BinaryLinear and ClassAffine")
    classes = layers[-1].out_features
    return Network(name, tuple(layers), classes, image_shape, dict(provenance or {}))


def _dense_layer(modules: list[nn.Module], index: int) -> tuple[DenseLayer, int]:
    match modules:
        case [BinaryLinear() as dense, nn.BatchNorm1d() as norm, Sign(), *_]:
            reach = dense.weight.shape[1] * (PIXEL_MAX if index == 0 else 1)
            return _layer(dense, index, fold(norm, reach), _norm_arrays(norm)), 3
        case [BinaryLinear() as dense, ClassAffine() as affine]:
            output = Affine(_array(affine.scale), _array(affine.offset))
            return _layer(dense, index, output, None), 2
        case _:
            names = ", ".join(type(module).__name__ for module in modules[:3])
            raise InputError(
                f"layer {index + 1} must be (BinaryLinear, BatchNorm1d, Sign), or (BinaryLinear, ClassAffine)"
                f" at the end, got ({names})"
            )


def _layer(dense: BinaryLinear, index: int, output: Threshold | Affine, norm: BatchNorm | None) -> DenseLayer:
    kind: Literal["pixels", "binary"] = "pixels" if index == 0 else "binary"
    weight = _array(dense.weight)
    return DenseLayer(f"dense{index + 1}", kind, weight.shape[1], pack_bits(weight >= 0), output, norm)


def _norm_module(norm: BatchNorm) -> nn.BatchNorm1d:
    module = nn.BatchNorm1d(len(norm.gamma), eps=norm.epsilon)
    module.load_state_dict(
        {
            "weight": _tensor(norm.gamma),
            "bias": _tensor(norm.beta),
            "running_mean": _tensor(norm.mean),
            "running_var": _tensor(norm.variance),
        },
        strict=False,
    )
    return module


def _norm_arrays(norm: nn.BatchNorm1d) -> BatchNorm:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return BatchNorm(
        _array(norm.weight), _array(norm.bias), _array(norm.running_mean), _array(norm.running_var), norm.eps
    )


def _array(tensor: Tensor) -> np.ndarray:
    values = tensor.detach().cpu().numpy().astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError("a parameter of the network is not finite", hint="train again with a lower learning rate")
    return values


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32))
