"""Sequential sense amplifiers and stated column converters, against closed forms and simulations of themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, norm, pearson3
from synthetic_capacitors import Divider, divider_reads, pairs_of, write_divider
from synthetic_columns import comparators, draw, true_surrogate

from cosim.circuit.column_adc import ColumnAdc, load_column_adc
from cosim.errors import InputError
from cosim.network.sensing import probabilities, readouts_of
from cosim.surrogate import line_fit
from cosim.surrogate.adc import bits_of, noise_v, stated_levels, transfer
from cosim.surrogate.calibration import Calibration
from cosim.surrogate.codes import (
    MLSAS,
    check_mlsa,
    code_probabilities,
    converter_probabilities,
    nominal_codes,
    same_draw,
)
from cosim.surrogate.files import load_calibration, save_calibration
from cosim.surrogate.fit import fit
from cosim.surrogate.model import Sensing, Surrogate

SINGLE = np.array([0.613, 0.643, 0.683, 0.737, 0.797, 0.873, 0.953])
DIFFERENCE = np.array([-0.31, -0.2, -0.083, 0.003, 0.081, 0.207, 0.3])
REFERENCES: dict[Sensing, np.ndarray] = {"single_ended": SINGLE, "differential": DIFFERENCE}
COUNTS = (0, 1, 2, 4, 8, 12, 16, 20, 24, 28, 30, 31)

# --- Sequential ---


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_one_draw_decides_all(probability: list[float]) -> None:
    """Against the share of a fine grid of draws below each probability: a step of it is 1 / 20,000."""
    draws = (np.arange(20_000) + 0.5) / 20_000
    fired = (draws[:, None] < np.array(probability)).sum(axis=1)
    expected = np.bincount(fired, minlength=len(probability) + 1) / draws.size
    np.testing.assert_allclose(same_draw(np.array(probability)), expected, rtol=0, atol=2e-4)


def still(sigma_v: float = 20e-3, mean_v: float = 2e-3) -> Surrogate:
    """A line without spread, and offsets that are the same at every level."""
    line = replace(true_surrogate().line, sigma_v=np.full(65, 1e-9), skew=np.zeros(65))
    flat = {"offset_mean_v": mean_v, "offset_sigma_v": sigma_v}
    models = {
        sensing: replace(model, **{name: np.full(model.level_v.size, value) for name, value in flat.items()})
        for sensing, model in comparators().items()
    }
    return replace(true_surrogate(), line=line, comparators=models)


@pytest.mark.parametrize("sensing", ["single_ended", "differential"])
def test_without_spread_one_gaussian_shifts_all_thresholds(sensing: Sensing) -> None:
    """P(code >= j) = Phi((v - r_j - mean) / sigma), as one offset moves every threshold alike."""
    surrogate, reference_v = still(), REFERENCES[sensing]
    found = code_probabilities(surrogate, sensing, 64, reference_v, "sequential")
    n_minus = np.arange(65.0)
    mean_v = surrogate.moments(sensing, n_minus, 64 - n_minus).mean_v
    edges_v = np.concatenate(([-np.inf], reference_v, [np.inf]))
    expected = -np.diff(norm.cdf((mean_v[:, None] - edges_v - 2e-3) / 20e-3), axis=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    flash = code_probabilities(surrogate, sensing, 64, reference_v, "flash")
    assert np.abs(found - flash).max() > 1e-3


@pytest.mark.parametrize("sensing", ["single_ended", "differential"])
def test_with_one_reference_both_are_equal(sensing: Sensing) -> None:
    reference_v = REFERENCES[sensing][3:4]
    flash, sequential = (
        code_probabilities(true_surrogate(), sensing, 64, reference_v, m) for m in ("flash", "sequential")
    )  # type: ignore[arg-type]
    np.testing.assert_allclose(flash, sequential, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sensing", ["single_ended", "differential"])
def test_the_mean_code_is_that_of_flash(sensing: Sensing) -> None:
    """Every level fires as often; only their joint distribution is another."""
    flash, sequential = (
        code_probabilities(true_surrogate(), sensing, 64, REFERENCES[sensing], each) @ np.arange(8) for each in MLSAS
    )
    np.testing.assert_allclose(flash, sequential, rtol=0, atol=1e-9)


def test_a_simulation_of_one_comparator_gives_the_same_codes() -> None:
    """40,000 reads of a skewed comparator at each of four counts; chi-square as in test_codes."""
    models = comparators(skew=0.6)
    surrogate, generator = replace(true_surrogate(), comparators=models), np.random.default_rng(3)
    expected = code_probabilities(surrogate, "single_ended", 64, SINGLE, "sequential")
    offset = models["single_ended"].at(SINGLE)
    for n_minus in (0, 3, 20, 41):
        volts = draw(surrogate.line, n_minus, 40_000, generator)
        one = pearson3.rvs(0.6, size=40_000, random_state=generator)
        code = (volts[:, None] - SINGLE - offset.mean_v - offset.sigma_v * one[:, None] > 0).sum(axis=1)
        seen, wanted = np.bincount(code, minlength=8), expected[n_minus] * 40_000
        often = wanted >= 10
        scaled = wanted[often] * seen[often].sum() / wanted[often].sum()
        assert chisquare(seen[often], scaled).pvalue > 1e-4, n_minus


def test_an_amplifier_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="mlsa must be one of flash, sequential, got 'ramp'"):
        check_mlsa("ramp")


# --- A stated converter ---


@pytest.fixture(scope="module")
def column(tmp_path_factory: pytest.TempPathFactory) -> Surrogate:
    return fitted(tmp_path_factory.mktemp("column"), Divider(mismatch=0.05))


def fitted(folder: Path, divider: Divider) -> Surrogate:
    reads = divider_reads(divider, pairs_of(32, (16, 24, 32), COUNTS), 128)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_fit, "BOOTSTRAPS", 3)
        found = fit(write_divider(folder / "samples.h5", reads, 32, "[column]\nactive_rows = [16, 24, 32]\n"))
    assert isinstance(found, Surrogate)
    return found


ADC = ColumnAdc("test", "none", 9, 6.0, 0.89, 0.97)


def test_the_transfer_is_the_dividers(column: Surrogate) -> None:
    divider, found = Divider(), transfer(column, 32)
    assert found.zero_v == pytest.approx(divider.mean_v(16, 16), abs=0.5e-3)
    assert found.mac_v == pytest.approx(0.4 / 38 / 2, rel=0.01)
    assert found.worst_mac < 0.3


def test_levels_are_at_equal_steps_and_clip(column: Surrogate) -> None:
    """Each count's nominal code is the nearest value; beyond the last ones it stays."""
    levels = stated_levels(column, ADC, np.ones(33, np.int64))
    np.testing.assert_array_equal(levels.centroid_mac, 6.0 * (np.arange(9) - 4))
    np.testing.assert_allclose(np.diff(levels.reference_v), 6 * 0.4 / 38 / 2, rtol=0.01)
    mac = 32 - 2 * np.arange(33)
    code = nominal_codes(column, "single_ended", 32, levels.reference_v)
    nearest = np.clip(np.rint(mac / 6) + 4, 0, 8)
    clear = np.abs(np.abs(mac / 6 - np.rint(mac / 6)) - 0.5) > 0.1
    np.testing.assert_array_equal(code[clear], nearest[clear])
    assert (code[mac > 26] == 8).all()
    assert (code[mac < -26] == 0).all()
    assert bits_of(ADC) == 4
    assert bits_of(replace(ADC, levels=8)) == 3


@pytest.mark.parametrize("inverted", [False, True])
def test_probabilities_are_one_gaussian_beside_the_line(tmp_path: Path, inverted: bool) -> None:
    """A line without mismatch: P(code >= j) = Phi((MAC - t_j) / hypot(offset, noise)) in MAC units."""
    surrogate = fitted(tmp_path, Divider(mismatch=1e-5, inverted=inverted))
    levels = stated_levels(surrogate, ADC, np.ones(33, np.int64))
    found = converter_probabilities(surrogate, 32, levels.reference_v, noise_v(surrogate, ADC))
    mac = 32 - 2 * np.arange(33.0)
    edges = np.concatenate(([-np.inf], ADC.thresholds_mac(), [np.inf]))
    expected = -np.diff(norm.cdf((mac[:, None] - edges) / np.hypot(0.89, 0.97)), axis=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)


def test_a_simulation_of_the_converter_gives_the_same_codes(column: Surrogate) -> None:
    """Lines drawn from the model, an offset and a noise each read; chi-square as in test_codes."""
    generator = np.random.default_rng(8)
    levels, mac_v = stated_levels(column, ADC, np.ones(33, np.int64)), abs(transfer(column, 32).mac_v)
    expected = converter_probabilities(column, 32, levels.reference_v, noise_v(column, ADC))
    moments = column.moments("single_ended", np.arange(33.0), 32 - np.arange(33.0))
    for n_minus in (5, 11, 16, 25):
        skew = moments.skew[n_minus]
        volts = moments.mean_v[n_minus] + moments.sigma_v[n_minus] * pearson3.rvs(
            skew, size=40_000, random_state=generator
        )
        volts = volts + mac_v * (0.89 * generator.standard_normal(40_000) + 0.97 * generator.standard_normal(40_000))
        seen = np.bincount((volts[:, None] > levels.reference_v).sum(axis=1), minlength=9)
        wanted = expected[n_minus] * 40_000
        often = wanted >= 10
        scaled = wanted[often] * seen[often].sum() / wanted[often].sum()
        assert often.sum() > 1
        assert chisquare(seen[often], scaled).pvalue > 1e-4, n_minus


def test_without_offset_and_noise_the_line_alone_decides(column: Surrogate) -> None:
    exact = replace(ADC, offset_sigma_mac=0.0, noise_sigma_mac=0.0)
    levels = stated_levels(column, exact, np.ones(33, np.int64))
    found = converter_probabilities(column, 32, levels.reference_v, noise_v(column, exact))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found.argmax(axis=1) == nominal_codes(column, "single_ended", 32, levels.reference_v)).mean() > 0.9


@pytest.mark.parametrize(("rest", "shift"), [(0.5, 0), (0.0, 12)])
def test_rows_that_are_off_are_taken_off_by_a_whole_number(tmp_path: Path, rest: float, shift: int) -> None:
    """20 of 32 rows on: where plates rest low, the 12 others read as -1, and every value is 12 MAC units larger."""
    surrogate = fitted(tmp_path, Divider(rest=rest))
    levels = stated_levels(surrogate, ADC, np.ones(21, np.int64))
    np.testing.assert_array_equal(levels.centroid_mac, ADC.values_mac() + shift)
    code = nominal_codes(surrogate, "single_ended", 20, levels.reference_v)
    mac = 20 - 2 * np.arange(21.0)
    within = np.abs(mac - shift) < 26
    assert np.abs(levels.centroid_mac[code] - mac)[within].max() <= 3.2, "half a step, and the line's own fit"


def test_a_column_of_two_lines_is_refused() -> None:
    with pytest.raises(InputError, match="a column ADC reads a column of one line, this one has two"):
        stated_levels(true_surrogate(), ADC, np.ones(65, np.int64))


def test_a_calibration_with_its_converter_is_kept(column: Surrogate, tmp_path: Path) -> None:
    levels = stated_levels(column, ADC, np.ones(33, np.int64))
    calibration = Calibration("single_ended", 4, {("a", 32): levels}, {"network": "x"}, ADC)
    save_calibration(calibration, tmp_path / "c.h5")
    back = load_calibration(tmp_path / "c.h5")
    assert back.adc == ADC
    assert back.provenance == {"network": "x"}
    np.testing.assert_array_equal(back.levels["a", 32].reference_v, levels.reference_v)
    here, there = (readouts_of(column, each)["a"][32].probability for each in (calibration, back))
    np.testing.assert_array_equal(here, there)
    with pytest.raises(InputError, match="mlsa sequential with the levels of a column ADC"):
        readouts_of(column, back, "sequential")
    np.testing.assert_array_equal(probabilities(column, back, 32, levels), here)


def test_the_shipped_converter_reads_a_column(column: Surrogate) -> None:
    """11 levels of step 13 for 256 rows: a column of 32 rows uses five of them."""
    adc = load_column_adc("column_adc")
    levels = stated_levels(column, adc, np.ones(33, np.int64))
    found = converter_probabilities(column, 32, levels.reference_v, noise_v(column, adc))
    assert set(found.argmax(axis=1)) == {3, 4, 5, 6, 7}
