"""Reads inside torch by the packed network's kernels, by torch's own operations, and by slow twins: bit for bit."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_models import random_signs, surrogate_of
from torch import Tensor

from cosim.errors import InputError
from cosim.network import reference
from cosim.network.counter import later_keys
from cosim.network.mapping import map_window
from cosim.network.readout import Readout
from cosim.network.sensing import readouts_of
from cosim.network.window import Window
from cosim.training import calibrate, sample_die, seed_reads, set_mode
from cosim.training import reader as readers
from cosim.training.binary import binarize_weights
from cosim.training.convolutional import BinaryConv2d
from cosim.training.packed_reads import image_keys
from cosim.training.planes import Taken, patches
from cosim.training.read_noise import ReadNoise
from cosim.training.simulated import SimulatedConv2d, SimulatedLinear

_IMAGES, _MAP = 5, (5, 4)


def levels(taken: Taken, *shape: int, seed: int = 0) -> Tensor:
    """Random inputs."""
    level = torch.randint(0, taken.top + 1, shape, generator=torch.Generator().manual_seed(seed)).float()
    return level if taken.on_off else 2 * level - taken.top


def conv_of(
    taken: Taken, weight_bits: int, pad_value: int, *, rows: int = 24, channels: int = 7, **about: str
) -> SimulatedConv2d:
    """A convolution of 3x3 with padding, five columns."""
    weight = torch.rand(5, channels, 3, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    conv = BinaryConv2d(weight, padding=(1, 1), pad_value=pad_value, bits=weight_bits)
    return SimulatedConv2d(conv, surrogate_of(rows), taken=taken, **about).eval()


def by_twin(
    layer: SimulatedConv2d, x: Tensor, readouts: Mapping[int, Readout], mode: str, keys: np.ndarray
) -> np.ndarray:
    """What is read, in fixed point, by the packed network's slow twins: no packing, one loop a bit."""
    taken, bits = layer.reader.taken, layer.bits
    window = Window((x.shape[1], *_MAP), (3, 3), padding=(1, 1), pad_value=layer.pad_value)
    mapping = map_window(window, layer.reader.rows, layer.reader.order, on_off=taken.on_off)
    weight = binarize_weights(layer.weight.detach(), bits).permute(0, 2, 3, 1).flatten(1).numpy().astype(np.int64)
    tops = 2**bits - 1
    inputs = x.numpy().astype(np.int64) if taken.on_off else (x.numpy().astype(np.int64) + taken.top) // 2
    total = np.zeros((len(x), window.positions, len(weight)), np.int64)
    for k in range(taken.bits):
        one = inputs >> k & 1
        seen = reference.patches(one if taken.on_off else 2 * one - 1, window)
        planes = np.concatenate([2 * ((weight + tops) // 2 >> j & 1) - 1 for j in range(bits)])
        drawn = later_keys(keys, k * window.positions * mapping.arrays)
        read = reference.read_arrays(seen, planes, mapping, readouts, mode, drawn).sum(axis=3)
        for j, part in enumerate(np.split(read, bits, axis=2)):
            total += part << (j + k)
    return total


@settings(max_examples=6, deadline=None)
@given(
    taken=st.builds(Taken, st.integers(1, 3), st.booleans()),
    weight_bits=st.integers(1, 3),
    pad_value=st.sampled_from([-1, 0, 1]),
    rows=st.sampled_from([17, 24]),
    order=st.sampled_from(["flat", "positions"]),
)
def test_kernels_torch_and_slow_twins_read_the_same(
    taken: Taken, weight_bits: int, pad_value: int, rows: int, order: str
) -> None:
    pad_value = abs(pad_value) if taken.on_off else pad_value
    layer = conv_of(taken, weight_bits, pad_value, rows=rows, order=order)
    x = levels(taken, _IMAGES, 7, *_MAP)
    calibration = calibrate(layer, x, sensing="single_ended", bits=4)
    set_mode(layer, "nominal")
    histograms: list[Tensor] = []
    found: list[Tensor] = []
    for kernels in (False, True):
        with with_kernels(kernels), torch.no_grad():
            found.append(layer(x))
            layer.reader.begin_recording()
            layer(x)
            assert layer.reader.histogram is not None
            histograms.append(layer.reader.histogram[layer.reader.rows + 1 :])  # Those before are of no active rows.
            layer.reader.histogram = None
    assert torch.equal(*histograms)
    assert torch.equal(*found)
    readouts = readouts_of(surrogate_of(rows), calibration)["SimulatedConv2d"]
    keys = image_keys(ReadNoise(3, 0).on(torch.device("cpu")), _IMAGES)
    set_mode(layer, "iid")
    seed_reads(layer, 3)
    with torch.no_grad():
        found.append(layer(x))
    for mode, ours in (("nominal", found[1]), ("iid", found[2])):
        wanted = by_twin(layer, x, readouts, mode, keys) / 2.0 ** int(layer.reader.fraction_bits)
        assert np.array_equal(ours.flatten(2).transpose(1, 2).numpy(), wanted.astype(np.float32))
    assert not torch.equal(found[1], found[2])


class with_kernels:
    """Reads on the CPU by kernels, or by torch's own operations."""

    def __init__(self, on: bool) -> None:
        self.on, self.before = on, readers.with_kernels

    def __enter__(self) -> None:
        readers.with_kernels = self.on

    def __exit__(self, *error: object) -> None:
        readers.with_kernels = self.before


def test_an_images_draws_do_not_depend_on_how_images_are_cut_into_batches_or_on_threads() -> None:
    layer, taken = conv_of(Taken(2), 2, 0), Taken(2)
    x = levels(taken, 40, 7, *_MAP)
    calibrate(layer, x, sensing="single_ended")
    found: list[Tensor] = []
    threads = torch.get_num_threads()
    for size, count in ((40, 1), (7, 1), (40, 3), (1, 2)):
        torch.set_num_threads(count)
        seed_reads(layer, 5)
        with torch.no_grad():
            found.append(torch.cat([layer(part) for part in x.split(size)]))
    torch.set_num_threads(threads)
    assert all(torch.equal(found[0], each) for each in found[1:])


@pytest.mark.parametrize(("taken", "weight_bits"), [(Taken(2), 2), (Taken(1, True), 3), (Taken(3, True), 1)])
def test_frozen_comparators_of_several_bits_scatter_as_fresh_ones_do(taken: Taken, weight_bits: int) -> None:
    """Each bit of a weight has columns, and so comparators, of its own; each bit of an input meets the same ones.

    Over many dies the mean and the spread of a column's sum are those of mode iid, within 5 standard errors.
    """
    dies = 200
    weight = torch.rand(3, 40, generator=torch.Generator().manual_seed(2)) * 2 - 1
    layer = SimulatedLinear(weight, surrogate_of(64), bits=weight_bits, taken=taken).eval()
    x = levels(taken, 60, 40)
    calibrate(layer, x, sensing="single_ended")
    with torch.no_grad():
        fresh = layer(x[:1].repeat(20 * dies, 1)).double()
        frozen: list[Tensor] = []
        for seed in range(dies):
            sample_die(layer, seed)
            assert layer.reader.frozen.shape[:2] == (1, 3 * weight_bits)
            seed_reads(layer, seed)
            frozen.append(layer(x[:1])[0].double())
    both = torch.stack(frozen)
    error = fresh.std(dim=0) / dies**0.5
    assert bool(((both.mean(dim=0) - fresh.mean(dim=0)).abs() < 5 * error).all())
    if taken.bits == 1:  # Else the bits of an input share their comparators, and the spread is larger.
        assert bool(((both.std(dim=0) - fresh.std(dim=0)).abs() < 5 * error).all())


@pytest.mark.parametrize("path", ["kernels", "torch"])
def test_reads_of_several_bits_of_large_sums_keep_every_bit(path: str) -> None:
    """Sums above 2**24 in fixed point are of float64; below they are of float32, and the same numbers."""
    taken = Taken(4)
    weight = torch.rand(2, 4096, generator=torch.Generator().manual_seed(2))
    layer = SimulatedLinear(weight, surrogate_of(64), bits=4, taken=taken, mode="nominal").eval()
    x = levels(taken, 6, 4096)
    x[0] = taken.top
    with with_kernels(path == "kernels"):
        calibrate(layer, x, sensing="single_ended", bits=6)
        with torch.no_grad():
            large, small = layer(x), layer(x[1:2])
    fixed = large.double() * 2.0 ** int(layer.reader.fraction_bits)
    assert torch.equal(fixed, fixed.round())
    assert float(fixed.abs().max()) > 2**24
    assert (large.dtype, small.dtype) == (torch.float64, torch.float32)
    assert torch.equal(large[1:2].float(), small)


def test_inputs_that_are_no_levels_are_refused() -> None:
    weight = torch.ones(2, 8)
    for taken, wrong, said in (
        (Taken(2), 2.0, r"odd integers from -3 to 3, got 2"),
        (Taken(2), 5.0, r"odd integers from -3 to 3, got 5"),
        (Taken(2, True), -1.0, r"0 to 3, got -1"),
        (Taken(1, True), 0.5, r"0 to 1, got 0.5"),
        (Taken(1), 0.0, r"\+1 and -1, got 0"),
    ):
        layer = SimulatedLinear(weight, surrogate_of(64), taken=taken)
        calibrate(layer, levels(taken, 9, 8), sensing="single_ended")
        x = levels(taken, 3, 8)
        x[1, 2] = wrong
        with pytest.raises(InputError, match=f"a simulated layer takes {said}"):
            layer(x)
    with pytest.raises(InputError, match="1024 sub-arrays with weights and activations up to 120 are more than 273"):
        SimulatedLinear(torch.ones(1, 2**16), surrogate_of(64), bits=4, taken=Taken(4))


def test_a_larger_map_than_those_calibrated_is_refused_and_not_skipped() -> None:
    layer = conv_of(Taken(), 1, 0, rows=64)
    calibrate(layer, random_signs(3, 7, 1, 1), sensing="single_ended")  # One position: 7 rows are on.
    for kernels, mode in itertools.product((True, False), ("nominal", "iid")):
        set_mode(layer, mode)
        with with_kernels(kernels), pytest.raises(InputError, match=r"levels are missing for .* active rows"):
            layer(random_signs(1, 7, 4, 4))


def test_patches_of_levels_are_padded_with_the_largest() -> None:
    window = Window((1, 1, 1), (3, 3), padding=(1, 1), pad_value=-1)
    assert patches(torch.ones(1, 1, 1, 1), window, 3).flatten().tolist() == [-3, -3, -3, -3, 1, -3, -3, -3, -3]
