"""Layers that read through a surrogate in torch, against the packed network: mapping, tables, draws, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_modules import pixels_of, random_cnn
from scipy.stats import chi2
from simulated_models import (
    DEVICES,
    FALSE_ALARM,
    layer_of,
    packed_twin,
    random_signs,
    random_simulated,
    same_distribution,
    small_cnn,
    surrogate_of,
)

import cosim
from cosim.errors import InputError
from cosim.network.inference import forward, trace
from cosim.network.mapping import map_window
from cosim.network.reference import minus_counts
from cosim.network.sensing import readouts_of
from cosim.network.window import Window
from cosim.resources import find
from cosim.training import calibrate, convert, export, seed_reads, set_mode
from cosim.training import reader as readers
from cosim.training.planes import patches
from cosim.training.read_noise import ReadNoise


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([64, 40, 17, 128]), st.sampled_from([-1, 0, 1]))
def test_torch_and_packed_agree_bit_for_bit_in_ideal_and_nominal(seed: int, rows: int, pad_value: int) -> None:
    simulated, network, pixels, readouts = random_simulated(seed, rows, pad_value)
    x = pixels_of(pixels, network.image_shape)
    for mode in ("ideal", "nominal"):
        set_mode(simulated, mode)
        with torch.no_grad():
            ours = simulated(x)
            alone = torch.cat([simulated(x[i : i + 1]) for i in range(3)])
        theirs = forward(network, pixels, mode=mode, readouts=readouts, rows=rows)
        assert np.array_equal(ours.numpy().view(np.uint32), theirs.view(np.uint32))
        assert torch.equal(alone, ours[:3])  # An image's logits do not depend on the others of its batch.


def test_every_option_of_a_calibration_changes_what_is_read() -> None:
    layer, x = layer_of(surrogate_of(64), 20, 128), random_signs(30, 128)
    found: dict[str, np.ndarray] = {}
    for name, options in {
        "none": {"sensing": "single_ended"},
        "bits": {"sensing": "single_ended", "bits": 2},
        "sensing": {},
        "mlsa": {"sensing": "single_ended", "mlsa": "sequential"},
    }.items():
        calibrate(layer, x, **options)
        for mode in ("ideal", "nominal", "iid"):
            set_mode(layer, mode)
            seed_reads(layer, 0)
            with torch.no_grad():
                found[f"{name} {mode}"] = layer(x).numpy()
    # Ideal is the same in all; nominal codes come from levels, which are counts that the lines and the amplifier do
    # not move while all rows are on. Nothing else is the same.
    assert len({each.tobytes() for each in found.values()}) == 12 - 3 - 2
    assert np.array_equal(found["none nominal"], found["mlsa nominal"])
    assert np.array_equal(found["none nominal"], found["sensing nominal"])


def test_sums_on_the_zero_of_a_batch_norm_are_decided_alike() -> None:
    """Means moved to sums that occur: there torch's own float32 arithmetic gives 0, or a number on either side."""
    model, image_shape = small_cnn()
    simulated, _, pixels, _ = packed_twin(model, image_shape, rows=24, images=30)
    set_mode(simulated, "nominal")
    kept: list[torch.Tensor] = []
    simulated.conv2.register_forward_hook(lambda _, __, output: kept.append(output))
    with torch.no_grad():
        simulated(pixels_of(pixels, image_shape))
        model.norm2.running_mean.copy_(kept[0][0, :, 2, 3])
        model.norm2.weight.copy_(torch.linspace(-3, 3, 11))
        model.norm2.bias.zero_()
    assert (model.norm2.running_mean != model.norm2.running_mean.round()).sum() > 5
    simulated, network, pixels, readouts = packed_twin(model, image_shape, rows=24, images=30)
    set_mode(simulated, "nominal")
    signs: list[torch.Tensor] = []
    simulated.sign2.register_forward_hook(lambda _, __, output: signs.append(output))
    with torch.no_grad():
        simulated(pixels_of(pixels, image_shape))
    packed = trace(network, pixels, mode="nominal", readouts=readouts, rows=24)
    assert np.array_equal(signs[0].numpy(), packed[1].signs)


def test_the_row_order_is_that_of_the_packed_network() -> None:
    model, image_shape = random_cnn(11, pad_value=0)
    pixels = np.random.default_rng(0).integers(0, 256, (8, *image_shape), dtype=np.uint8)
    found: list[np.ndarray] = []
    for order in ("flat", "positions"):
        surrogate = surrogate_of(50)
        simulated = convert(model, surrogate, mode="nominal", order=order)
        calibration = calibrate(simulated, pixels_of(pixels, image_shape), sensing="single_ended")
        network = export(simulated, name="order", image_shape=image_shape)
        by_layer = readouts_of(surrogate, calibration).values()
        readouts = dict(zip([layer.name for layer in network.binary_layers], by_layer, strict=True))
        packed = forward(network, pixels, mode="nominal", readouts=readouts, rows=50, order=order)
        with torch.no_grad():
            found.append(simulated(pixels_of(pixels, image_shape)).numpy())
        assert np.array_equal(found[-1], packed)
    assert not np.array_equal(*found)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("pad_value", [-1, 0, 1])
@pytest.mark.parametrize("order", ["flat", "positions"])
def test_a_layers_counts_and_patches_are_those_of_the_slow_twins(device: str, pad_value: int, order: str) -> None:
    """A readout that stands for its count alone: the sums are those of the twin's counts."""
    window = Window((13, 6, 5), (3, 3), (2, 1), (1, 2), pad_value)
    about = {"stride": (2, 1), "padding": (1, 2), "pad_value": pad_value}
    layer = layer_of(surrogate_of(24), 7, 13, 3, order=order, mode="nominal", **about)
    x = random_signs(3, 13, 6, 5)
    calibrate(layer, x, sensing="single_ended", bits=5)
    layer.to(device)
    readouts = {n: layer.reader.nominal[start : start + n + 1] for n, start in enumerate(layer.reader.start) if n}
    seen = patches(x, window).view(117, 3, -1).permute(1, 2, 0).numpy().astype(np.int64)
    weights = torch.where(layer.weight >= 0, 1, -1).permute(0, 2, 3, 1).flatten(1).cpu().numpy()
    mapping = map_window(window, 24, order)
    counts = minus_counts(seen, weights, mapping)
    wanted = np.zeros((3, window.positions, 7))
    for array in range(mapping.arrays):
        for position in range(window.positions):
            n = int(mapping.n_active[mapping.kind[position], array])
            if n:
                read = readouts[n].cpu().numpy()[counts[:, position, :, array]]
                wanted[:, position] += read / 2.0 ** int(layer.reader.fraction_bits)
    with torch.no_grad():
        ours = layer(x.to(device)).flatten(2).transpose(1, 2).cpu().numpy()
    assert np.array_equal(ours, wanted.astype(np.float32))


@pytest.mark.parametrize("kernel", [0, 3])
@pytest.mark.parametrize(
    ("bits", "device"), [(1, "cpu"), (4, "cpu"), (3, "without kernels"), *((3, device) for device in DEVICES)]
)
def test_codes_in_iid_have_the_probabilities_of_the_readout(
    kernel: int, bits: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == "without kernels":  # As on other devices.
        monkeypatch.setattr(readers, "with_kernels", False)
        device = "cpu"
    surrogate = surrogate_of(64)
    inputs = 7 if kernel else 63
    layer = layer_of(surrogate, 40, inputs, kernel)
    x = random_signs(500, inputs, 3, 3) if kernel else random_signs(500, inputs)
    calibration = calibrate(layer, x, sensing="single_ended", bits=bits)
    readout = readouts_of(surrogate, calibration)["SimulatedConv2d" if kernel else "SimulatedLinear"][63]
    x = x[:20].repeat(400, *[1] * (x.ndim - 1))
    seed_reads(layer.to(device), 3)
    with torch.no_grad():
        read = layer(x.to(device)).flatten(1).cpu().numpy()
        set_mode(layer, "ideal")
        count = (63 - layer(x.to(device)).flatten(1).cpu().numpy().astype(np.int64)) // 2
    fixed = np.rint(read * 2**readout.fraction_bits).astype(np.int64)
    code = np.searchsorted(readout.centroid, fixed)
    assert np.array_equal(readout.centroid[code], fixed)
    seen = np.zeros((64, readout.codes))
    np.add.at(seen, (count, code), 1)
    _check_frequencies(seen, readout.probability)


def test_torch_and_packed_agree_in_distribution_in_iid() -> None:
    """The sums of a convolution over repetitions of one image: a contingency test of both paths."""
    model, image_shape = small_cnn()
    simulated, network, pixels, readouts = packed_twin(model, image_shape, rows=24, images=3)
    repeated = np.repeat(pixels[:1], 2500, axis=0)
    packed = trace(network, repeated, mode="iid", readouts=readouts, rows=24, seed=5)[1]
    kept: list[torch.Tensor] = []
    simulated.conv2.register_forward_hook(lambda _, __, output: kept.append(output))
    seed_reads(simulated, 1)
    with torch.no_grad():
        simulated(pixels_of(repeated, image_shape))
    same_distribution(np.rint(kept[0].numpy() * 2**packed.fraction_bits).astype(np.int64), packed.sums)


def test_reads_of_columns_arrays_positions_and_images_are_independent() -> None:
    layer = layer_of(surrogate_of(32), 6, 8, 3)
    x = random_signs(1, 8, 5, 5).repeat(3000, 1, 1, 1)
    calibrate(layer, x[:1], sensing="single_ended")
    with torch.no_grad():
        first, again = layer(x), layer(x)
    assert not torch.equal(first, again)
    both = torch.cat([first.flatten(1), again.flatten(1)], dim=1).double().numpy()
    moving = both[:, both.std(axis=0) > 0]
    correlation = np.corrcoef(moving.T)[np.triu_indices(moving.shape[1], 1)]
    # 3000 images: a correlation has sigma 1 / sqrt(3000); the largest of some thousand stays below 6 of them.
    assert len(correlation) > 1000
    assert np.abs(correlation).max() < 6 / np.sqrt(3000)


@pytest.mark.parametrize("kernel", [0, 3])
@pytest.mark.parametrize("device", DEVICES)
def test_the_gradient_is_that_of_the_exact_sum(kernel: int, device: str) -> None:
    layer = layer_of(surrogate_of(64), 9, 21, kernel).to(device)
    x = (random_signs(4, 21, 5, 5) if kernel else random_signs(4, 21)).to(device).requires_grad_()
    calibrate(layer, x.detach(), sensing="single_ended")
    gradients: list[tuple[torch.Tensor, ...]] = []
    for mode in ("ideal", "nominal", "iid"):
        set_mode(layer, mode)
        seed_reads(layer, 0)
        output = layer(x)
        seed_reads(layer, 0)
        with torch.no_grad():
            assert torch.equal(layer(x), output)
        up = torch.linspace(-1, 1, output.numel(), device=device).view(output.shape)
        gradients.append(torch.autograd.grad((output * up).sum(), (x, layer.weight)))
    for each in gradients[1:]:
        assert all(torch.equal(a, b) for a, b in zip(each, gradients[0], strict=True))


def test_the_seed_of_the_read_noise_is_its_own() -> None:
    layer = layer_of(surrogate_of(64), 9, 128)
    x = random_signs(50, 128)
    calibrate(layer, x, sensing="single_ended")
    seed_reads(layer, 4)
    state = torch.get_rng_state()
    assert ReadNoise(4, 0).on(x.device).initial_seed() != ReadNoise(4, 1).on(x.device).initial_seed()
    with torch.no_grad():
        first, second = layer(x), layer(x)
        seed_reads(layer, 4)
        torch.manual_seed(77)
        assert torch.equal(layer(x), first)
        assert torch.equal(layer(x), second)
        seed_reads(layer, 5)
        assert not torch.equal(layer(x), first)
    torch.manual_seed(77)
    untouched = torch.get_rng_state()
    with torch.no_grad():
        layer(x)
    assert torch.equal(torch.get_rng_state(), untouched)
    torch.set_rng_state(state)
    with pytest.raises(InputError, match=r"seed must be 0 to 2\*\*64 - 1, got -1"):
        seed_reads(layer, -1)


def test_the_shipped_surrogate_reads_as_the_whole_chain_does() -> None:
    surrogate = cosim.load_surrogate(find("models", "surrogates", "xnor_8t.h5"))
    model, image_shape = random_cnn(2, pad_value=1)
    pixels = np.random.default_rng(0).integers(0, 256, (20, *image_shape), dtype=np.uint8)
    simulated = convert(model, surrogate, mode="nominal")
    calibrate(simulated, pixels_of(pixels, image_shape), sensing="single_ended")
    network = export(simulated, name="shipped", image_shape=image_shape)
    calibration = cosim.calibrate(network, surrogate, pixels, sensing="single_ended")
    labels = np.zeros(20, np.int64)
    chain = cosim.evaluate(network, surrogate, pixels, labels, mode="nominal", calibration=calibration)
    with torch.no_grad():
        ours = simulated(pixels_of(pixels, image_shape)).argmax(1)
    assert np.array_equal(chain.predictions, ours.numpy())


def _check_frequencies(seen: np.ndarray, probability: np.ndarray) -> None:
    """Chi-square of codes against their probabilities, over all counts; rare codes are taken together."""
    expected = probability * seen.sum(axis=1, keepdims=True)
    assert seen[expected == 0].sum() == 0
    common = expected >= 5
    rest = np.stack([(each * ~common).sum(axis=1) for each in (seen, expected)])
    kept = rest[1] >= 5
    statistic = ((seen - expected)[common] ** 2 / expected[common]).sum()
    statistic += ((rest[0] - rest[1])[kept] ** 2 / rest[1][kept]).sum()
    freedom = int(common.sum() + kept.sum() - (seen.sum(axis=1) > 0).sum())
    assert freedom > 10
    assert statistic < chi2.isf(FALSE_ALARM, freedom)
