"""sample_die: what is frozen, what is fresh, and that over many dies it is mode iid again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chi2, norm, pearson3
from simulated_models import DEVICES, layer_of, one_line_surrogate, random_signs, small_cnn, surrogate_of

from cosim.circuit.column_adc import load_column_adc
from cosim.errors import InputError
from cosim.network.sensing import readouts_of
from cosim.surrogate.adc import transfer
from cosim.training import calibrate, convert, sample_die, seed_reads, set_mode
from cosim.training.read_noise import ReadNoise
from cosim.training.simulated import SimulatedLinear

FALSE_ALARM = 1e-6
KINDS = {
    "flash": {"sensing": "single_ended"},
    "sequential": {"sensing": "single_ended", "mlsa": "sequential"},
    "common modes": {"sensing": "differential"},
    "falling": {"sensing": "single_ended"},
    "adc": {"adc": "column_adc"},
}


def calibrated(kind: str, columns: int, inputs: int | None = None) -> SimulatedLinear:
    one_line = kind in ("adc", "falling")
    surrogate = one_line_surrogate() if one_line else surrogate_of(64, common_modes=kind == "common modes")
    layer = layer_of(surrogate, columns, surrogate.rows if inputs is None else inputs)
    assert isinstance(layer, SimulatedLinear)
    calibrate(layer, random_signs(200, layer.weight.shape[1]), **KINDS[kind])
    return layer


@pytest.mark.parametrize("kind", KINDS)
def test_reads_are_those_of_a_slow_twin(kind: str) -> None:
    layer = calibrated(kind, 30)
    n_active = layer.weight.shape[1]
    x = random_signs(20, n_active, seed=4)
    sample_die(layer, 3)
    seed_reads(layer, 9)
    with torch.no_grad():
        read = layer(x).T
        set_mode(layer, "ideal")
        count = ((n_active - layer(x)) / 2).T.numpy().astype(int)
    generator = ReadNoise(9, layer.reader.noise.layer).on(torch.device("cpu"))
    fresh = [torch.randn((30, 20, 1), generator=generator)[..., 0].double().numpy() for _ in range(2)]
    code, margin_v = twin(layer, kind, count, *fresh)
    wanted = layer.reader.centroid[0].numpy()[code] / 2.0 ** int(layer.reader.fraction_bits)
    # Straight lines between 16 points a sigma, and float32: 2e-3 sigma of the offsets' 20 mV and more is 40 uV.
    clear = margin_v > 4e-5
    assert clear.mean() > 0.95
    assert np.array_equal(read.numpy()[clear], wanted[clear].astype(np.float32))


def twin(
    layer: SimulatedLinear, kind: str, count: np.ndarray, z: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of one sub-array by scipy's own distributions, (column, image), and how near a voltage came to a level.

    Args:
        z, second: Standard normal draws of the column's voltage, and of a converter's noise.
    """
    reader, sensing = layer.reader, KINDS[kind].get("sensing", "single_ended")
    surrogate, frozen, n_active = reader.surrogate, reader.frozen[0].numpy(), layer.weight.shape[1]
    grid = np.arange(n_active + 1.0)
    line = surrogate.moments(sensing, grid, n_active - grid)
    voltage_v = line.mean_v[count] + line.sigma_v[count] * pearson3.ppf(norm.cdf(z), line.skew[count])
    if kind == "adc":
        adc, mac_v = load_column_adc("column_adc"), abs(transfer(surrogate, surrogate.rows).mac_v)
        voltage_v = voltage_v + mac_v * adc.noise_sigma_mac * second
    code, margin_v = np.zeros(count.shape, int), np.full(count.shape, np.inf)
    for number, reference_v in enumerate(reader.reference_v[0].double().numpy()):
        quantile = norm.cdf(frozen[:, min(number, frozen.shape[1] - 1)])[:, None]
        if kind == "adc":
            offset_v = mac_v * adc.offset_sigma_mac * norm.ppf(quantile)
        else:
            about = surrogate.offset(sensing, n_active, np.array([reference_v]))
            moments = (about.mean_v, about.sigma_v, about.skew)
            mean, sigma, skew = (each[:, 0][count] if each.ndim == 2 else each[0] for each in moments)
            offset_v = mean + sigma * pearson3.ppf(quantile, skew)
        above_v = voltage_v - reference_v - offset_v
        code += surrogate.direction * above_v > 0
        margin_v = np.minimum(margin_v, np.abs(above_v))
    return code, margin_v


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_over_many_comparators_codes_have_the_probabilities_of_iid(kind: str, device: str) -> None:
    """Each comparator is read once a die, so that all reads are independent; a chi-square test."""
    layer = calibrated(kind, 1500)
    calibration = calibrate(layer, random_signs(200, layer.weight.shape[1]), **KINDS[kind])
    mlsa = KINDS[kind].get("mlsa", "flash")
    n_active = layer.weight.shape[1]
    readout = readouts_of(layer.reader.surrogate, calibration, mlsa)["SimulatedLinear"][n_active]
    layer.to(device)
    x = random_signs(1, n_active, seed=1).to(device)
    seen = np.zeros(readout.probability.shape)
    with torch.no_grad():
        set_mode(layer, "ideal")
        count = (n_active - layer(x)[0].cpu().numpy().astype(int)) // 2
        for seed in range(20):
            sample_die(layer, seed)
            fixed = np.rint(layer(x)[0].cpu().numpy() * 2**readout.fraction_bits).astype(int)
            np.add.at(seen, (count, np.searchsorted(readout.centroid, fixed)), 1)
    expected = readout.probability * seen.sum(axis=1, keepdims=True)
    common = expected >= 5
    statistic = ((seen - expected)[common] ** 2 / expected[common]).sum()
    assert common.sum() > 10
    assert statistic < chi2.isf(FALSE_ALARM, int(common.sum()))


def test_the_same_seed_is_the_same_die_whatever_else_happens() -> None:
    layer = calibrated("flash", 20, 200)
    sample_die(layer, 7)
    first, x = layer.reader.frozen.clone(), random_signs(50, 200)
    with torch.no_grad():
        layer(x)
        layer(x[:3])
    assert torch.equal(layer.reader.frozen, first)
    torch.manual_seed(1)
    seed_reads(layer, 33)
    sample_die(layer, 8)
    assert not torch.equal(layer.reader.frozen, first)
    sample_die(layer, 7)
    assert torch.equal(layer.reader.frozen, first)
    # Nothing but the seed, the layer and the instance's place: no hash, no address, no batch.
    sequence = np.random.SeedSequence(7, spawn_key=(0, 1))
    assert np.array_equal(first.numpy(), np.random.default_rng(sequence).standard_normal((4, 20, 7)).astype("f4"))


def test_a_die_does_not_move_the_read_noise_nor_any_generator_of_torchs() -> None:
    layer, x = calibrated("flash", 20, 128), random_signs(10, 128)
    state = torch.get_rng_state()
    with torch.no_grad():
        sample_die(layer, 0)
        seed_reads(layer, 5)
        first, second = layer(x), layer(x)
        seed_reads(layer, 5)
        again = layer(x)
        sample_die(layer, 0)
        assert torch.equal(layer(x), second)
    assert torch.equal(again, first)
    assert not torch.equal(first, second)  # The column's voltage is fresh.
    assert torch.equal(torch.get_rng_state(), state)


def test_comparators_are_independent_and_layers_have_their_own() -> None:
    model, image_shape = small_cnn()
    simulated = convert(model, surrogate_of(24))
    pixels = torch.randint(0, 256, (30, 1, *image_shape), generator=torch.Generator().manual_seed(0)).float()
    calibrate(simulated, pixels, sensing="single_ended")
    dies: list[np.ndarray] = []
    for seed in range(400):
        sample_die(simulated, seed)
        both = (simulated.conv2.reader.frozen, simulated.dense3.reader.frozen)
        dies.append(np.concatenate([each.flatten().numpy() for each in both])[::3])
        assert not torch.equal(both[0].flatten()[:99], both[1].flatten()[:99])
    draws = np.array(dies)
    assert np.abs(draws.std(axis=0) - 1).max() < 6 / np.sqrt(2 * 400)
    correlation = np.corrcoef(draws.T)[np.triu_indices(draws.shape[1], 1)]
    assert np.abs(correlation).max() < 6 / np.sqrt(400)
    assert abs(correlation.mean()) < 6 / np.sqrt(400 * len(correlation))


def test_a_positions_share_their_columns_comparators_and_bias_stays() -> None:
    """Over many reads the mean error of a column is its own and stays the same at each position of the map."""
    layer = layer_of(surrogate_of(64, sigma_v=0.1), 12, 7, 3)
    x = random_signs(400, 7, 6, 6)
    calibrate(layer, x[:50], sensing="single_ended")
    sample_die(layer, 2)
    with torch.no_grad():
        read = layer(x)
        set_mode(layer, "nominal")
        error = (read - layer(x)).mean(dim=(0, 3))  # (column, row)
    between = error.mean(dim=1).std()
    within = (error - error.mean(dim=1, keepdim=True)).std()
    assert between > 5 * within


def test_one_comparator_of_a_sequential_amplifier_has_one_offset() -> None:
    sequential, flash = calibrated("sequential", 5), calibrated("flash", 5)
    for layer, references in ((sequential, 1), (flash, 7)):
        sample_die(layer, 0)
        assert layer.reader.frozen.shape == (1, 5, references)


def test_a_die_needs_levels_and_a_new_calibration_needs_a_new_die() -> None:
    layer = layer_of(surrogate_of(64), 5, 64)
    with pytest.raises(InputError, match="this layer is not calibrated"):
        sample_die(layer, 0)
    with pytest.raises(InputError, match=r"needs a die's comparators \(sample_die\(model, seed\)\)"):
        set_mode(layer, "frozen_offsets")
    x = random_signs(20, 64)
    calibrate(layer, x, sensing="single_ended")
    sample_die(layer, 0)
    assert layer.reader.mode == "frozen_offsets"
    calibrate(layer, x, sensing="single_ended", bits=2)
    assert layer.reader.mode == "iid"
    with pytest.raises(InputError, match="needs a die's comparators"):
        set_mode(layer, "frozen_offsets")
    with pytest.raises(InputError, match="seed must be 0 to"):
        sample_die(layer, 2**64)
