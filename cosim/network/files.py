"""Networks in HDF5: one group a layer, weights as packed bits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from jaxtyping import Shaped

from cosim import hdf5, resources
from cosim.errors import InputError
from cosim.hdf5 import Attribute, Content, Dataset
from cosim.network.binary_layers import INPUTS
from cosim.network.layer_options import Options, options_of, parse_options
from cosim.network.layers import (
    Affine,
    BatchNorm,
    ConvLayer,
    DenseLayer,
    Network,
    Quantizer,
    Residual,
    Support,
    Threshold,
)

FILETYPE = "cosim-network"
VERSION = (1, 3)
KINDS = ("dense", "conv")

_PROVENANCE = "provenance."
_MEANINGS = {
    "packed": "weights as bits, 1 is +1 and 0 is -1, least significant bit first",
    "support": "factor of a block of weights times 2**fraction_bits",
    "real_weights": "real weights, summed digitally",
    "value": "threshold in MAC units",
    "direction": "output is +1 where direction * sum >= direction * value",
    "scale": "factor of one MAC unit in a logit or a real output",
    "offset": "logit or real output at sum 0",
    "batch_norm/gamma": "factor of the batch norm",
    "batch_norm/beta": "offset of the batch norm",
    "batch_norm/mean": "running mean of the sums",
    "batch_norm/variance": "running variance of the sums",
    "batch_norm/epsilon": "added to the variance",
}

T = TypeVar("T", str, int)


def save_network(network: Network, path: Path | str) -> None:
    """Write a network to a file, completely or not at all.

    Raises:
        InputError: The folder cannot be written, the disk is full, or a layer's name is no plain name.
    """
    layers = network.layers
    attributes: dict[str, Attribute] = {
        "name": network.name,
        "classes": network.classes,
        "image_shape": list(network.image_shape),
        "layers": [layer.name for layer in layers],
        "layer_kinds": ["conv" if isinstance(layer, ConvLayer) else "dense" for layer in layers],
        "layer_inputs": [layer.input for layer in layers],
        "layer_in_features": [layer.in_features for layer in layers],
    }
    if any(options_of(layer) != "{}" for layer in layers):  # A file of dense layers is as it was in version 1.0.
        attributes["layer_options"] = [options_of(layer) for layer in layers]
    if network.pixel_threshold is not None:
        attributes["pixel_threshold"] = network.pixel_threshold
    attributes |= {f"{_PROVENANCE}{key}": text for key, text in network.provenance.items()}
    datasets = {f"{layer.name}/{key}": item for layer in layers for key, item in _layer_datasets(layer).items()}
    hdf5.write(Path(path), Content(attributes, datasets), filetype=FILETYPE, version=VERSION)


def load_network(source: Path | str) -> Network:
    """Read a network from a file, or a built-in one by its name.

    Args:
        source: A path, or the name of a network in models/networks, for example "mnist_mlp".

    Raises:
        InputError: There is no such file, it is damaged or of another type or version, or its arrays do not
            fit each other.
        UnsafeError: The file reaches outside itself.
    """
    path = network_path(source)
    content = hdf5.read(path, filetype=FILETYPE, major=VERSION[0])
    try:
        return _network(content)
    except InputError as error:
        place = f"{path}: {error.place}" if error.place else str(path)
        raise InputError(error.message, place=place, hint=error.hint) from error


def network_path(source: Path | str) -> Path:
    """The file that `load_network` reads: a path as it is, a plain name in models/networks.

    Raises:
        InputError: There is no built-in network of that name.
    """
    text = str(source)
    if isinstance(source, Path) or "/" in text or "\\" in text or text.endswith((".h5", ".hdf5")):
        return Path(source)
    return resources.find("models", "networks", f"{text}.h5")


def _layer_datasets(layer: DenseLayer) -> dict[str, Dataset]:
    arrays: dict[str, Shaped[np.ndarray, " ..."]] = {"packed": layer.packed}
    if isinstance(layer.output, Threshold | Quantizer):
        arrays |= {"value": layer.output.value, "direction": layer.output.direction}
    else:
        arrays |= {"scale": layer.output.scale, "offset": layer.output.offset}
    norm = layer.batch_norm
    if norm is not None:
        arrays |= {f"batch_norm/{name}": getattr(norm, name) for name in ("gamma", "beta", "mean", "variance")}
        arrays["batch_norm/epsilon"] = np.array(norm.epsilon, np.float64)
    found = {name: Dataset(a, "1", _MEANINGS[name], ("column", "word")[: a.ndim]) for name, a in arrays.items()}
    if isinstance(layer.output, Quantizer):
        found["value"] = Dataset(layer.output.value, "1", _MEANINGS["value"], ("column", "step"))
    if layer.weight_bits > 1:
        found["packed"] = Dataset(layer.packed, "1", _MEANINGS["packed"], ("bit_column", "word"))
    if layer.real_weights is not None:
        found["real_weights"] = Dataset(layer.real_weights, "1", _MEANINGS["real_weights"], ("column", "input"))
    if layer.support is not None:
        found["support"] = Dataset(layer.support.value, "1", _MEANINGS["support"], ("block", "column"))
    return found


def _network(content: Content) -> Network:
    names = _list(content, "layers", str)
    kinds = _list(content, "layer_kinds", str)
    inputs = _list(content, "layer_inputs", str)
    in_features = _list(content, "layer_in_features", int)
    if not len(names) == len(kinds) == len(inputs) == len(in_features):
        raise InputError("layers, layer_kinds, layer_inputs and layer_in_features differ in length")
    for name, kind in zip(names, kinds, strict=True):
        if kind not in KINDS:
            raise InputError(f"unknown layer kind {kind!r}, expected {', '.join(KINDS)}", place=f"layer {name}")
    options = ["{}"] * len(names)
    if "layer_options" in content.attributes:
        options = _list(content, "layer_options", str)
    if len(options) != len(names):
        raise InputError("layers and layer_options differ in length")
    about = zip(names, kinds, inputs, in_features, options, strict=True)
    layers = [_layer(content.datasets, *each) for each in about]
    return Network(
        name=_one(content, "name", str),
        layers=tuple(layers),
        classes=_one(content, "classes", int),
        image_shape=tuple(_list(content, "image_shape", int)),
        pixel_threshold=_one(content, "pixel_threshold", int) if "pixel_threshold" in content.attributes else None,
        provenance={
            key.removeprefix(_PROVENANCE): str(text)
            for key, text in content.attributes.items()
            if key.startswith(_PROVENANCE)
        },
    )


def _layer(
    datasets: Mapping[str, Dataset], name: str, kind: str, inputs: str, in_features: int, text: str
) -> DenseLayer:
    if inputs not in INPUTS:
        raise InputError(f"input must be one of {', '.join(INPUTS)}, got {inputs!r}", place=f"layer {name}")
    options = parse_options(text, name, conv=kind == "conv")
    norm = None
    if f"{name}/batch_norm/gamma" in datasets:
        arrays = (_array(datasets, name, f"batch_norm/{key}") for key in ("gamma", "beta", "mean", "variance"))
        epsilon = _array(datasets, name, "batch_norm/epsilon")
        if epsilon.shape != ():
            raise InputError("batch_norm/epsilon must be one number", place=f"layer {name}")
        norm = _placed(name, BatchNorm, *arrays, float(epsilon))
    packed = _array(datasets, name, "packed")
    output = _output(datasets, name, options)
    support, sizes = None, options.support
    if sizes is not None:
        support = _placed(name, Support, sizes.block, _array(datasets, name, "support"), sizes.fraction_bits)
    about = (name, inputs, in_features, packed, output, norm, options.source, options.weight_bits)
    real = _array(datasets, name, "real_weights") if options.real_weights else None
    about = (*about, options.digital, support, real, options.activation_bits, options.scale_inputs)
    if options.window is None:
        return DenseLayer(*about)
    return ConvLayer(*about, window=options.window, pool=options.pool)


def _output(datasets: Mapping[str, Dataset], name: str, options: Options) -> Threshold | Affine | Residual | Quantizer:
    real = options.residual
    if f"{name}/value" in datasets and real is None:
        value, direction = (_array(datasets, name, key) for key in ("value", "direction"))
        return _placed(name, Quantizer if value.ndim == 2 else Threshold, value, direction)
    scale, offset = (_array(datasets, name, key) for key in ("scale", "offset"))
    if real is None:
        return _placed(name, Affine, scale, offset)
    return _placed(name, Residual, scale, offset, real.shortcut, real.hard_tanh)


B = TypeVar("B")


def _placed(name: str, type_: type[B], *arguments: object) -> B:
    """An object whose error names its layer."""
    try:
        return type_(*arguments)
    except InputError as error:
        raise InputError(error.message, place=f"layer {name}", hint=error.hint) from error


def _array(datasets: Mapping[str, Dataset], layer: str, name: str) -> Shaped[np.ndarray, " ..."]:
    if f"{layer}/{name}" not in datasets:
        raise InputError(f"dataset {name!r} is missing", place=f"layer {layer}")
    return np.asarray(datasets[f"{layer}/{name}"].values, order="C")


def _one(content: Content, name: str, type_: type[T]) -> T:
    value = content.attributes.get(name)
    if not isinstance(value, type_):
        raise InputError(f"attribute {name!r} must be {type_.__name__}, got {value!r:.60}")
    return value


def _list(content: Content, name: str, type_: type[T]) -> list[T]:
    value = content.attributes.get(name)
    if not isinstance(value, list) or not all(isinstance(entry, type_) for entry in value):
        raise InputError(f"attribute {name!r} must be a list of {type_.__name__}, got {value!r:.60}")
    return cast(list[T], value)
