"""Surrogates of any number of rows that nobody fitted, and models that read through them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from random_modules import norm, pixels_of, random_cnn
from scipy.stats import chi2
from torch import Tensor, nn

from cosim.network.layers import Network
from cosim.network.readout import Readouts
from cosim.network.sensing import calibrate_network, readouts_of
from cosim.surrogate.calibration import Calibration
from cosim.surrogate.model import ComparatorModel, LineModel, Surrogate
from cosim.surrogate.polynomial import Polynomial
from cosim.surrogate.two_count import TwoCountModel
from cosim.training import calibrate, convert, export
from cosim.training.binary import BinaryLinear, ClassAffine, Sign
from cosim.training.convolutional import BinaryConv2d
from cosim.training.simulated import SimulatedConv2d, SimulatedLinear

FALSE_ALARM = 1e-6
"""Of each chi-square test; seeds are fixed, so a test that passes once goes on passing."""

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def surrogate_of(rows: int = 64, *, skew: float = 0.4, sigma_v: float = 0.02, common_modes: bool = False) -> Surrogate:
    """A column with skew, and comparators whose mean, sigma and skew depend on the reference (and common mode)."""
    n, none = np.arange(rows + 1.0), np.zeros(rows + 1)
    line = LineModel(1 - 0.6 * n / (n + rows / 2), 1.5e-3 * np.sqrt(64 * n / rows), none - skew, none, none, none)
    level_v = np.linspace(-0.9, 1.1, 9)
    moments = [0.2 * sigma_v * level_v, sigma_v * (1 + 0.3 * np.abs(level_v)), none[:1] + 0.5 + 0 * level_v]
    one = ComparatorModel("one", level_v, *moments, 1e-3 + 0 * level_v, 64)
    both = one
    if common_modes:
        grow = np.array([1.0, 1.5, 2.0])
        grid = [np.outer(moments[0], grow), np.outer(moments[1], grow), np.outer(moments[2], 1 + 0 * grow)]
        both = ComparatorModel("both", level_v, *grid, 1e-3 + 0 * grid[0], 64, np.array([0.3, 0.7, 1.0]))
    return Surrogate(line, {"single_ended": one, "differential": both}, {}, {})


def one_line_surrogate(rows: int = 64) -> Surrogate:
    """A column of one line whose voltage falls with the partial sum, with any number of rows on."""
    powers = np.array([[0, 0], [1, 0], [0, 1]])
    moments = [Polynomial(powers, np.array(each)) for each in ([0.5, 0.1, -0.1], [1e-5, 2e-6, 0.0], [0.4, 0.0, 0.1])]
    model = surrogate_of(rows)
    two_count = TwoCountModel(rows, 1, -1, 1, *moments)
    return replace(model, comparators={"single_ended": model.comparators["single_ended"]}, two_count=two_count)


def small_cnn(seed: int = 0) -> tuple[nn.Sequential, tuple[int, ...]]:
    """Two convolutions, the second of zero padding, and a dense layer of three classes; and the shape of its images."""
    generator = torch.Generator().manual_seed(seed)
    modules = {
        "conv1": BinaryConv2d(torch.randn(9, 1, 3, 3, generator=generator), padding=(1, 1)),
        "norm1": norm(generator, 9, 9, 2, 255.0),
        "sign1": Sign(),
        "conv2": BinaryConv2d(torch.randn(11, 9, 3, 3, generator=generator), padding=(1, 1)),
        "norm2": norm(generator, 11, 81, 2),
        "sign2": Sign(),
        "flatten": nn.Flatten(),
        "dense3": BinaryLinear(torch.randn(3, 11 * 36, generator=generator)),
        "affine": ClassAffine(torch.full((3,), 0.05), torch.randn(3, generator=generator)),
    }
    return nn.Sequential(OrderedDict(modules)).eval(), (6, 6)


def random_simulated(
    seed: int, rows: int, pad_value: int | None = None, images: int = 12
) -> tuple[nn.Sequential, Network, np.ndarray, Readouts]:
    """`packed_twin` of a random network."""
    return packed_twin(*random_cnn(seed, pad_value=pad_value), rows=rows, images=images, seed=seed)


def packed_twin(
    model: nn.Module, image_shape: tuple[int, ...], *, rows: int, images: int, seed: int = 0
) -> tuple[nn.Sequential, Network, np.ndarray, Readouts]:
    """A network calibrated in torch, the same packed, its images, and readouts calibrated from the packed one."""
    surrogate = surrogate_of(rows)
    pixels = np.random.default_rng(seed).integers(0, 256, (images, *image_shape), dtype=np.uint8)
    simulated = convert(model, surrogate)
    ours = calibrate(simulated, pixels_of(pixels, image_shape), sensing="single_ended")
    network = export(simulated, name="random", image_shape=image_shape)
    theirs = packed_levels(network, surrogate, pixels)
    same_levels(ours, theirs)
    return simulated, network, pixels, readouts_of(surrogate, theirs)


def packed_levels(network: Network, surrogate: Surrogate, pixels: np.ndarray) -> Calibration:
    """The packed network's levels, one set a layer as in torch."""
    several = any(len(layer.bit_pairs) > 1 for layer in network.binary_layers)
    return calibrate_network(
        network, surrogate, pixels, sensing="single_ended", levels_per="layer" if several else None
    )


def same_levels(ours: Calibration, theirs: Calibration) -> None:
    """The levels agree layer by layer, whatever the layers are called."""
    both = [_by_layer(each) for each in (ours, theirs)]
    assert [list(each) for each in both[0]] == [list(each) for each in both[1]]
    for a, b in zip(both[0], both[1], strict=True):
        for n in a:
            for name in ("threshold_count", "reference_v", "centroid_mac", "histogram"):
                assert np.array_equal(getattr(a[n], name), getattr(b[n], name))


def same_distribution(ours: np.ndarray, theirs: np.ndarray, step: int = 7) -> None:
    """A contingency test of fixed-point sums over repetitions of one image, (image, *place), at every step-th place."""
    assert ours.shape == theirs.shape
    statistic, freedom = 0.0, 0
    for place in list(np.ndindex(ours.shape[1:]))[::step]:
        both = [each[(slice(None), *place)] for each in (ours, theirs)]
        edges = np.unique(np.quantile(np.concatenate(both), np.linspace(0, 1, 9)[1:-1]))
        table = np.stack([np.bincount(np.searchsorted(edges, each), minlength=len(edges) + 1) for each in both])
        table = table[:, table.sum(axis=0) >= 10]
        expected = table.sum(axis=0) / 2
        statistic += float(((table - expected) ** 2 / expected).sum())
        freedom += table.shape[1] - 1
    assert freedom > 100
    assert statistic < chi2.isf(FALSE_ALARM, freedom)


def layer_of(
    surrogate: Surrogate, columns: int, channels: int, kernel: int = 0, *, seed: int = 0, **about: object
) -> SimulatedLinear | SimulatedConv2d:
    """A convolution, or a dense layer where the kernel is 0, of random weights."""
    generator = torch.Generator().manual_seed(seed)
    if not kernel:
        return SimulatedLinear(torch.randn(columns, channels, generator=generator), surrogate, **about).eval()
    weight = torch.randn(columns, channels, kernel, kernel, generator=generator)
    options = {name: about.pop(name) for name in ("stride", "padding", "pad_value") if name in about}
    return SimulatedConv2d(BinaryConv2d(weight, **options), surrogate, **about).eval()


def random_signs(*shape: int, seed: int = 0) -> Tensor:
    """+1 and -1."""
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)).mul(2).sub(1).float()


def _by_layer(calibration: Calibration) -> list[Mapping[int, object]]:
    layers: dict[str, dict[int, object]] = {}
    for (layer, n), levels in calibration.levels.items():
        layers.setdefault(layer, {})[n] = levels
    return list(layers.values())
