"""Convolutions: kernels against their NumPy twins, and both against torch."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_convolutions import random_conv_network
from random_networks import random_images, random_pair_readouts, random_readouts
from torch.nn import functional

from cosim.network import inference, reference
from cosim.network.fixed_point import output_steps
from cosim.network.inference import forward, partial_sum_histogram, partial_sums_per_image
from cosim.network.layers import Affine, ConvLayer, DenseLayer, Network, Pool, Quantizer, Threshold
from cosim.network.layout import map_network
from cosim.network.levels import level_steps
from cosim.network.mapping import ORDERS, Order
from cosim.network.program import MODES, Mode
from cosim.network.readout import exact_readout
from cosim.network.window import Window
from cosim.surrogate.calibration import by_pair

SEEDS = st.integers(0, 2**32)
ROWS = st.sampled_from([64, 64, 128, 256, 16, 100, 7])


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.sampled_from(MODES), st.integers(2, 40), ROWS, st.sampled_from(ORDERS), st.booleans(), st.booleans())
def test_kernels_equal_their_twins(
    seed: int, mode: Mode, codes: int, rows: int, order: Order, binary_images: bool, levels_per_pair: bool
):
    rng = np.random.default_rng(seed)
    blocks = int(rng.choice([each for each in range(1, rows + 1) if rows % each == 0])) if order == "flat" else 0
    network = random_conv_network(rng, binary_images=binary_images, blocks=blocks if rng.random() < 0.5 else 0)
    images = random_images(3, network, rng)
    options = {
        "mode": mode,
        "readouts": (random_pair_readouts if levels_per_pair else random_readouts)(network, rng, codes, rows, order),
        "seed": seed,
        "first_image": int(rng.integers(0, 2**40)),
        "rows": rows,
        "order": order,
    }
    slow_logits, slow = reference.trace(network, images, **options)
    fast = inference.trace(network, images, **options)
    for expected, got in zip(slow, fast, strict=True):
        np.testing.assert_array_equal(got.sums, expected.sums)
        assert got.fraction_bits == expected.fraction_bits
        for name in ("signs", "reals"):
            one, other = getattr(got, name), getattr(expected, name)
            assert (one is None) == (other is None)
            if one is not None:
                assert one.dtype == other.dtype
                np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(forward(network, images, **options), slow_logits)


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.booleans())
def test_ideal_is_the_torch_network(seed: int, binary_images: bool):
    rng = np.random.default_rng(seed)
    blocks = int(rng.choice([0, 0, 1, 5, 64, 200]))
    network = random_conv_network(rng, binary_images=binary_images, blocks=blocks)
    images, rows = random_images(3, network, rng), blocks or 64
    expected = torch_forward(network, images)
    for layer, sums, real, got in zip(
        network.layers, *expected, inference.trace(network, images, mode="ideal", rows=rows), strict=True
    ):
        np.testing.assert_array_equal(mac(layer, got), sums, err_msg=layer.name)
        if got.reals is not None:
            np.testing.assert_array_equal(got.reals.view(np.uint32), real.view(np.uint32), err_msg=layer.name)
    np.testing.assert_array_equal(
        forward(network, images, mode="ideal", rows=rows).view(np.uint32), expected[1][-1].view(np.uint32)
    )


def mac(layer: DenseLayer, trace: reference.LayerTrace) -> np.ndarray:
    """Sums, or their averages, as torch has them."""
    return trace.sums.astype(np.float32) / np.float32(2**trace.fraction_bits) / np.float32(layer.sum_taps)


def torch_forward(network: Network, images: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Sums and real outputs (logits at the end) of every layer, from torch's float32 convolutions and poolings."""
    channels, height, width = network.map_shape
    colours = images.reshape(-1, height, width, channels)
    values = torch.from_numpy(colours.transpose(0, 3, 1, 2).astype(np.float32))
    if network.pixel_threshold is not None:
        values = torch.where(values >= network.pixel_threshold, 1.0, -1.0)
    reals: dict[str, torch.Tensor] = {}
    before: dict[str, DenseLayer] = {}
    all_sums: list[np.ndarray] = []
    for layer in network.layers:
        if layer is not network.layers[0]:
            values = reals[layer.source]
        sums = torch_sums(layer, torch_taken(layer, before.get(layer.source), values))
        sums = sums * torch_scales(layer, values) if layer.scale_inputs else sums
        pool = layer.pool if isinstance(layer, ConvLayer) else None
        if pool is not None and pool.of == "sums":
            sums = torch_pool(pool, sums)
        real = torch_output(layer, sums, reals)
        if pool is not None and pool.of == "outputs":
            real = torch_pool(pool, real)
        reals[layer.name] = reals[""] = real
        before[layer.name] = before[""] = layer
        all_sums.append(sums.numpy())
    return all_sums, [reals[layer.name].numpy() for layer in network.layers]


def torch_taken(layer: DenseLayer, before: DenseLayer | None, values: torch.Tensor) -> torch.Tensor:
    """Numbers; or signs or odd integers, made of a real output where the one before is such."""
    if layer.input in ("pixels", "real"):
        return values
    steps = torch.from_numpy(level_steps(layer.activation_bits))
    cut = before is not None and before.gives_reals
    levels = 2.0 * (values[..., None] >= steps).sum(-1) - len(steps) if cut else values
    return levels if layer.input == "binary" else (levels + len(steps)) / 2


def torch_scales(layer: DenseLayer, values: torch.Tensor) -> torch.Tensor:
    """K of XNOR-Net: the box filter of torch's average pooling on the mean magnitude, added channel by channel."""
    if not isinstance(layer, ConvLayer):
        values = values.reshape(*values.shape[:2], *(values.shape[2:] or (1, 1)))
    total = torch.zeros_like(values[:, :1])
    for channel in range(values.shape[1]):
        total = total + values[:, channel : channel + 1].abs()
    window = layer.window if isinstance(layer, ConvLayer) else Window(tuple(values.shape[1:]), tuple(values.shape[2:]))
    (down, right), outside = window.padding, float(abs(window.pad_value))
    padded = functional.pad(total / values.shape[1], (right, right, down, down), value=outside)
    scales = functional.avg_pool2d(padded, window.kernel, window.stride)
    return scales if isinstance(layer, ConvLayer) else scales.flatten(1)


def torch_pool(pool: Pool, values: torch.Tensor) -> torch.Tensor:
    kind = functional.max_pool2d if pool.kind == "max" else functional.avg_pool2d
    return kind(values, pool.size, pool.stride, pool.padding)


def in_order(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(image, input, position) times (column, input): products in float64, added input by input, rounded once."""
    total = torch.zeros(len(values), len(weights), values.shape[2], dtype=torch.float64)
    for i in range(values.shape[1]):
        total = total + values[:, i, None].double() * weights[:, i, None].double()
    return total.float()


def torch_sums(layer: DenseLayer, values: torch.Tensor) -> torch.Tensor:
    if layer.real_weights is not None:
        return torch_real_sums(layer, values)
    weights = torch.from_numpy(layer.weights.astype(np.float32))
    if layer.support is not None:
        support = (
            layer.support.value.repeat(layer.support.block, axis=0)[: layer.in_features]
            / 2**layer.support.fraction_bits
        )
        weights = weights * torch.from_numpy(in_torch_order(support.T.astype(np.float32), layer, values))
    if not isinstance(layer, ConvLayer):
        return values.flatten(1) @ weights.T
    window = layer.window
    # oneDNN's float32 convolution reads beyond a kernel of one channel that is strided as channels last (torch 2.13).
    kernels = weights.reshape(-1, *window.kernel, window.channels).permute(0, 3, 1, 2)
    kernels = kernels.clone(memory_format=torch.contiguous_format)
    (down, right) = window.padding
    padded = functional.pad(values, (right, right, down, down), value=pad_of(layer))
    return functional.conv2d(padded, kernels, stride=window.stride)


def pad_of(layer: ConvLayer) -> float:
    """The same bit in all bits of a level."""
    return layer.window.pad_value * (2.0**layer.activation_bits - 1)


def torch_real_sums(layer: DenseLayer, values: torch.Tensor) -> torch.Tensor:
    weights = torch.from_numpy(layer.real_weights)
    if not isinstance(layer, ConvLayer):
        return in_order(values.flatten(1)[:, :, None], weights)[:, :, 0]
    window, (down, right) = layer.window, layer.window.padding
    padded = functional.pad(values, (right, right, down, down), value=pad_of(layer))
    columns = functional.unfold(padded, window.kernel, stride=window.stride)
    by_tap = columns.reshape(len(values), window.channels, window.taps, -1).transpose(1, 2).flatten(1, 2)
    return in_order(by_tap, weights).unflatten(2, window.out_size)


def in_torch_order(support: np.ndarray, layer: DenseLayer, values: torch.Tensor) -> np.ndarray:
    """Factors by the row of a weight, as a flattened map has its weights: a map lies pixel by pixel in the rows."""
    if isinstance(layer, ConvLayer) or values.ndim < 4:
        return support
    channels, taps = values.shape[1], values.shape[2] * values.shape[3]
    return support.reshape(-1, taps, channels).transpose(0, 2, 1).reshape(support.shape)


def torch_output(layer: DenseLayer, sums: torch.Tensor, reals: dict[str, torch.Tensor]) -> torch.Tensor:
    def column(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32)).reshape(-1, *(1,) * (sums.ndim - 2))

    output = layer.output
    if isinstance(output, Threshold | Quantizer):
        bits = 0 if layer.support is None else layer.support.fraction_bits
        steps = output_steps(layer, bits) / 2**bits / layer.sum_taps
        on = [column(output.direction) * sums >= column(output.direction * value) for value in steps]
        return sum(torch.where(each, 1.0, -1.0) for each in on)
    real = sums * column(output.scale) + column(output.offset)
    if isinstance(output, Affine):
        return real
    real = real + reals[output.shortcut] if output.shortcut else real
    return functional.hardtanh(real) if output.hard_tanh else real


@settings(deadline=None, max_examples=30)
@given(SEEDS, ROWS, st.sampled_from(ORDERS))
def test_with_one_code_a_count_every_mode_is_ideal(seed: int, rows: int, order: Order):
    """Zero padding decoded with a wrong number of active rows would show here."""
    rng = np.random.default_rng(seed)
    network = random_conv_network(rng)
    images = random_images(3, network, rng)
    mappings = map_network(network, rows, order)
    readouts = {name: {n: exact_readout(n) for n in mapping.kinds} for name, mapping in mappings.items()}
    ideal = forward(network, images, mode="ideal")
    for mode in ("nominal", "iid"):
        read = forward(network, images, mode=mode, readouts=readouts, rows=rows, order=order)
        np.testing.assert_array_equal(read, ideal)


@settings(deadline=None, max_examples=20)
@given(SEEDS, ROWS, st.sampled_from(ORDERS))
def test_histograms_count_every_partial_sum(seed: int, rows: int, order: Order):
    rng = np.random.default_rng(seed)
    network = random_conv_network(rng)
    images = random_images(3, network, rng)
    found = partial_sum_histogram(network, images, rows=rows, order=order)
    of_pairs = partial_sum_histogram(network, images, rows=rows, order=order, levels_per="pair")
    steps = reference.trace(network, images, "ideal")[1]
    total = off = 0
    for position, layer in enumerate(network.layers):
        if layer.reads_circuit:
            window, mapping = network.window(position), map_network(network, rows, order)[layer.name]
            planes = reference.bit_planes(reference.layer_inputs(network, position, images, steps), layer)
            counts, on = [], []
            for plane in planes:
                seen = reference.patches(plane, window)
                counts.append(
                    reference.minus_counts(seen, reference.window_weights(layer, layer.signs, window), mapping)
                )
                rows_on = [(seen != 0)[:, :, mapping.array == a].sum(axis=2) for a in range(mapping.arrays)]
                on.append(np.stack(rows_on, axis=2))
            for (i, j), pair in by_pair(of_pairs[layer.name]).items() if len(layer.bit_pairs) > 1 else ():
                some, rows_on = np.split(counts[j], layer.weight_bits, axis=2)[i], on[j]
                for n, histogram in pair.items():
                    here = np.broadcast_to((rows_on == n)[:, :, None], some.shape)
                    np.testing.assert_array_equal(histogram, np.bincount(some[here], minlength=n + 1))
            counts, on = np.concatenate(counts), np.concatenate(on)
            assert set(found[layer.name]) == set(mapping.kinds)
            assert set(found[layer.name]) >= set(np.unique(on).tolist()) - {0}
            for n, histogram in found[layer.name].items():
                here = np.broadcast_to((on == n)[:, :, None], counts.shape)
                np.testing.assert_array_equal(histogram, np.bincount(counts[here], minlength=n + 1))
                total += int(histogram.sum())
            off += int((on == 0).sum()) * layer.columns if layer.input == "on_off" else 0
    most = 3 * partial_sums_per_image(network, rows, order)
    assert total <= most <= total + off  # A read is not made where all rows of a sub-array are off.
