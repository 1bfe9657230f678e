"""Random networks, images and readouts for the tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cosim.network.layers import Affine, BatchNorm, DenseLayer, Network, Threshold
from cosim.network.layout import map_network
from cosim.network.mapping import Order
from cosim.network.packing import pack_signs
from cosim.network.readout import CENTROID_MAX, Readout
from cosim.surrogate.calibration import ReadKey


def random_network(sizes: Sequence[int], rng: np.random.Generator) -> Network:
    """Layers of the given sizes, sizes[0] pixels; thresholds near 0 and directions -1, 0 and 1."""
    layers = [_layer(index, sizes, rng) for index in range(len(sizes) - 1)]
    return Network("random", tuple(layers), sizes[-1], (sizes[0],), {"seed": "none"})


def random_images(images: int, network: Network, rng: np.random.Generator) -> np.ndarray:
    """Pixels 0 to 255, some of them in long runs of 0 as in a picture's border."""
    pixels = rng.integers(0, 256, (images, network.in_features), dtype=np.uint8)
    pixels[:, : network.in_features // 3] *= rng.integers(0, 2, (images, 1), dtype=np.uint8)
    return pixels


def random_readouts(
    network: Network, rng: np.random.Generator, codes: int = 8, rows: int = 64, order: Order = "flat"
) -> dict[str, dict[int, Readout]]:
    """A readout of random tables for every layer and number of active rows."""
    return {
        name: {n: random_readout(n, codes, rng) for n in mapping.kinds}
        for name, mapping in map_network(network, rows, order).items()
    }


def random_pair_readouts(
    network: Network, rng: np.random.Generator, codes: int = 8, rows: int = 64, order: Order = "flat"
) -> dict[str, dict[ReadKey, Readout]]:
    """As `random_readouts`, for every pair of bits of every layer, each with up to so many codes."""
    mappings = map_network(network, rows, order)
    readouts: dict[str, dict[ReadKey, Readout]] = {}
    for layer in network.binary_layers:
        some = {pair: int(rng.integers(1, codes, endpoint=True)) for pair in layer.bit_pairs}
        kinds = mappings[layer.name].kinds
        readouts[layer.name] = {(n, *pair): random_readout(n, some[pair], rng) for pair in some for n in kinds}
    return readouts


def random_readout(n_active: int, codes: int, rng: np.random.Generator, fraction_bits: int = 7) -> Readout:
    """Random probabilities (a fifth of them 0), nominal codes and centroids."""
    probability = rng.dirichlet(np.full(codes, 0.7), n_active + 1) * (rng.random((n_active + 1, codes)) < 0.8)
    probability[:, 0] += 1 - probability.sum(axis=1)
    reach = min(n_active << fraction_bits, CENTROID_MAX)
    centroid = rng.integers(-reach, reach, codes, endpoint=True).astype(np.int32)
    nominal = rng.integers(0, codes, n_active + 1)
    return Readout(np.maximum(probability, 0), nominal, centroid, fraction_bits)


def _layer(index: int, sizes: Sequence[int], rng: np.random.Generator) -> DenseLayer:
    inputs, columns = sizes[index], sizes[index + 1]
    weights = rng.choice(np.array([-1, 1], np.int8), (columns, inputs))
    output = Threshold(_threshold_values(index, inputs, columns, rng), _directions(columns, rng))
    norm = None
    if index == len(sizes) - 2:
        output = Affine(rng.normal(1, 0.3, columns).astype("f4"), rng.normal(0, 2, columns).astype("f4"))
    else:
        moments = [rng.normal(1, 0.3, columns).astype("f4") for _ in range(3)]
        norm = BatchNorm(*moments, rng.uniform(0.5, 2, columns).astype("f4"), 1e-5)
    kind = "binary" if index else "pixels"
    return DenseLayer(f"dense{index}", kind, inputs, pack_signs(weights), output, norm)


def _threshold_values(index: int, inputs: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    sigma = np.sqrt(inputs) * (150 if index == 0 else 1)
    return rng.normal(0, sigma / 2, columns).round().astype(np.int32)


def _directions(columns: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(np.array([-1, 0, 1], np.int8), columns, p=[0.3, 0.1, 0.6])
