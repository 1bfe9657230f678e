"""Offsets against the common mode: interpolated, never extrapolated, and each read at its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare
from synthetic_columns import column_reads, comparators, draw, true_surrogate, truth, write_samples

from cosim import hdf5
from cosim.campaign.points import ComparatorPoint, points_of
from cosim.campaign.recipe import load_campaign
from cosim.errors import InputError
from cosim.surrogate import line_fit
from cosim.surrogate.calibration import calibrate
from cosim.surrogate.codes import code_probabilities
from cosim.surrogate.files import load_surrogate
from cosim.surrogate.fit import fit
from cosim.surrogate.model import ComparatorModel, Surrogate

MODES_V = np.array([0.6, 0.8, 1.0])
REFERENCES = np.array([-0.2, -0.083, 0.003, 0.081, 0.2])


def model(growth: float = 3.0) -> ComparatorModel:
    """A mean of 2 mV a tenth of a volt of common mode, a sigma that grows exponentially with it."""
    flat, level_v = np.ones(7), np.linspace(-0.75, 0.75, 7)
    sigma = 10e-3 * np.outer(1 + 0.2 * np.abs(level_v), np.exp(growth * (MODES_V - 0.6)))
    mean = np.outer(flat, 0.02 * (MODES_V - 0.6))
    return ComparatorModel("four", level_v, mean, sigma, 0 * sigma, 0.1 * sigma, 48, MODES_V)


def surrogate(growth: float = 3.0) -> Surrogate:
    return replace(true_surrogate(), comparators=comparators() | {"differential": model(growth)})


def test_both_are_interpolated() -> None:
    found = model().at(np.array([-0.5, 0.1]), np.array([0.6, 0.7, 0.9]))
    assert found.mean_v.shape == (3, 2)
    np.testing.assert_allclose(found.mean_v[:, 0], [0, 2e-3, 6e-3], atol=1e-9)
    np.testing.assert_allclose(
        found.sigma_v[:, 0] / found.sigma_v[0, 0], np.exp(3 * np.array([0, 0.1, 0.3])), rtol=1e-3
    )
    at_level = model().at(model().level_v[:3], MODES_V)
    np.testing.assert_allclose(at_level.sigma_v, model().offset_sigma_v[:3].T)


def test_beyond_the_common_modes_is_refused() -> None:
    for mode_v in (0.55, 1.05):
        with pytest.raises(InputError, match=r"common mode of .* but four was measured from 0.600 to 1.000 V"):
            model().at(REFERENCES, np.array([0.7, mode_v]))
    with pytest.raises(InputError, match="several common modes"):
        model().at(REFERENCES)
    narrow = replace(model(), common_mode_v=MODES_V - 0.2)
    few = replace(surrogate(), comparators={"differential": narrow})
    with pytest.raises(InputError, match=r"with 8 active rows .add common modes"):
        code_probabilities(few, "differential", 8, REFERENCES)


def test_a_common_mode_without_effect_changes_nothing() -> None:
    """The grid with the same moments at each common mode is the plain model."""
    level_v = np.linspace(-0.75, 0.75, 7)
    plain = ComparatorModel("plain", level_v, 0 * level_v, 10e-3 + 0 * level_v, 0 * level_v, level_v, 48)
    flat = {
        name: np.repeat(getattr(plain, name)[:, None], 3, axis=1)
        for name in ("offset_mean_v", "offset_sigma_v", "offset_skew", "sigma_error_v")
    }
    grid = replace(plain, common_mode_v=np.array([0.5, 0.7, 1.0]), **flat)
    both = [replace(true_surrogate(), comparators={"differential": each}) for each in (plain, grid)]
    first, second = (code_probabilities(each, "differential", 64, REFERENCES) for each in both)
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_active", [64, 24])
def test_each_read_has_the_offsets_of_its_own_common_mode(n_active: int) -> None:
    """40,000 reads drawn from lines and comparators, at the common mode of each count; chi-square as in test_codes."""
    found, generator = surrogate(6.0), np.random.default_rng(11)
    line, reads = truth(), 40_000
    expected = code_probabilities(found, "differential", n_active, REFERENCES)
    modes_v = []
    for n_minus in (0, n_active // 3, n_active // 2, n_active):
        mode_v = (line.mean_v[n_minus] + line.mean_v[n_active - n_minus]) / 2
        modes_v.append(mode_v)
        offset = model(6.0).at(REFERENCES, np.array([mode_v]))
        volts = draw(line, n_minus, reads, generator) - draw(line, n_active - n_minus, reads, generator)
        away_v = volts[:, None] - REFERENCES - generator.normal(offset.mean_v, offset.sigma_v, (reads, 5))
        seen, wanted = np.bincount((away_v > 0).sum(axis=1), minlength=6), expected[n_minus] * reads
        often = wanted >= 10
        scaled = wanted[often] * seen[often].sum() / wanted[often].sum()
        assert often.sum() == 1 or chisquare(seen[often], scaled).pvalue > 1e-4, n_minus
    assert np.ptp(modes_v) > 0.005


def test_few_rows_are_refused_only_where_no_common_mode_was_measured() -> None:
    histogram = np.bincount([3, 5, 6, 8, 9, 12], minlength=17)
    code_probabilities(surrogate(), "differential", 16, REFERENCES)
    calibrate(surrogate(), {("a", 16): histogram}, sensing="differential", bits=2, provenance={})
    with pytest.raises(InputError, match=r"16 active rows, expected at least 48 of 64: .*common_mode_v"):
        code_probabilities(true_surrogate(), "differential", 16, REFERENCES)


def with_modes(path: Path, modes_v: tuple[float, ...]) -> Path:
    """Samples whose differential offsets were measured at these common modes, one after the other."""
    write_samples(path, column_reads(truth(), 32, 1), 64, offsets=64 * len(modes_v))
    content = hdf5.read(path, filetype="cosim-samples", major=1)
    data = dict(content.datasets)
    mode_v = np.array(modes_v)[data["comparator_sample"].values % len(modes_v)]
    single = data["comparator_amplifier"].values == 0
    mode_v = np.where(single, data["comparator_level_v"].values, mode_v)
    data["comparator_common_mode_v"] = hdf5.Dataset(mode_v, "V", "common mode", ("comparator_read",))
    offset = data["comparator_offset_v"]
    moved = np.where(single, offset.values, offset.values + 0.1 * mode_v)
    data["comparator_offset_v"] = replace(offset, values=moved)
    sample = data["comparator_sample"]
    data["comparator_sample"] = replace(sample, values=sample.values // len(modes_v))
    hdf5.write(path, hdf5.Content(content.attributes, data), filetype="cosim-samples", version=(1, 1))
    return path


def leave_out(path: Path, chosen: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    """Take the differential offsets at the chosen levels and common modes out of a file."""
    content = hdf5.read(path, filetype="cosim-samples", major=1)
    data = dict(content.datasets)
    single, level_v, mode_v = (data[f"comparator_{n}"].values for n in ("amplifier", "level_v", "common_mode_v"))
    kept = (single == 0) | ~chosen(level_v, mode_v)
    data |= {n: replace(each, values=each.values[kept]) for n, each in data.items() if n.startswith("comparator_")}
    hdf5.write(path, hdf5.Content(content.attributes, data), filetype="cosim-samples", version=(1, 1))


def differential(samples: Path) -> ComparatorModel:
    found = fit(samples)
    assert isinstance(found, Surrogate)
    return found.comparators["differential"]


def test_offsets_at_several_common_modes_are_fitted_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_fit, "BOOTSTRAPS", 3)
    found = fit(with_modes(tmp_path / "samples.h5", (0.5, 0.7, 0.9)))
    assert isinstance(found, Surrogate)
    grid = found.comparators["differential"]
    assert grid.offset_mean_v.shape == (7, 3)
    # 48 fitted offsets: a mean errs by a seventh of 15 to 18 mV, and five standard errors are 13 mV.
    np.testing.assert_allclose(np.diff(grid.offset_mean_v - grid.offset_sigma_v, axis=1), 0.02, atol=0.02)
    np.testing.assert_allclose(np.diff(grid.offset_mean_v.mean(axis=0)), 0.02, atol=8e-3)
    assert not found.comparators["single_ended"].gridded
    assert found.validation["differential_offset_reads"] == 16 * 21
    assert found.validation["differential_offset_ks_p"] > 1e-4
    found.save(tmp_path / "a.h5")
    back = load_surrogate(tmp_path / "a.h5").comparators["differential"]
    for name in ("common_mode_v", "offset_mean_v", "offset_sigma_v", "offset_skew", "sigma_error_v"):
        np.testing.assert_array_equal(getattr(back, name), getattr(grid, name))


def test_levels_that_no_line_has_are_as_the_nearest_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the highest common mode only the middle levels were measured; the model is whole, and theirs elsewhere."""
    monkeypatch.setattr(line_fit, "BOOTSTRAPS", 3)
    path = with_modes(tmp_path / "samples.h5", (0.5, 0.7, 0.9))
    whole = differential(path)
    leave_out(path, lambda level_v, mode_v: (mode_v > 0.8) & (np.abs(level_v) > 0.3))
    found = differential(path)
    assert found.level_v.tolist() == whole.level_v.tolist()
    inner = np.flatnonzero(np.abs(found.level_v) < 0.3)
    assert inner.tolist() == [2, 3, 4]
    for name in ("offset_mean_v", "offset_sigma_v", "offset_skew", "sigma_error_v"):
        ours, theirs = getattr(found, name), getattr(whole, name)
        np.testing.assert_array_equal(ours[:, :2], theirs[:, :2])
        np.testing.assert_array_equal(ours[:, 2], theirs[[2, 2, 2, 3, 4, 4, 4], 2])


def test_a_hole_among_measured_levels_is_refused(tmp_path: Path) -> None:
    """Only outer levels may be left out: what is missing between others was lost."""
    path = with_modes(tmp_path / "samples.h5", (0.5, 0.9))
    leave_out(path, lambda level_v, mode_v: (mode_v > 0.8) & (level_v == 0))
    with pytest.raises(InputError, match=r"0 offsets of .* at a level and common mode, expected at least 8"):
        fit(path)


def test_a_model_on_more_levels_and_common_modes_is_as_at_the_nearest() -> None:
    """A grid, one common mode of it, and a model without any."""
    grid, level_v = model(), model().level_v
    more_v, modes_v = np.array([*level_v, 0.9, 1.2]), np.array([*MODES_V, 1.1, 1.3])
    more = grid.extended(more_v, modes_v)
    assert more.level_v.tolist() == more_v.tolist()
    assert more.common_mode_v.tolist() == modes_v.tolist()
    for name in ("offset_mean_v", "offset_sigma_v", "offset_skew", "sigma_error_v"):
        known, found = getattr(grid, name), getattr(more, name)
        np.testing.assert_array_equal(found[: level_v.size, : MODES_V.size], known)
        np.testing.assert_array_equal(found[level_v.size :], [found[level_v.size - 1]] * 2)
        np.testing.assert_array_equal(found[:, MODES_V.size :].T, [found[:, MODES_V.size - 1]] * 2)
    one = grid.slices()[0][1]
    wide = one.extended(level_v, MODES_V)
    assert wide.gridded
    np.testing.assert_array_equal(wide.offset_sigma_v.T, [one.offset_sigma_v] * MODES_V.size)
    plain = replace(one, common_mode_v=np.zeros(0)).extended(more_v, np.zeros(0))
    np.testing.assert_array_equal(plain.offset_sigma_v, [*one.offset_sigma_v, *[one.offset_sigma_v[-1]] * 2])


def test_one_common_mode_is_the_plain_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_fit, "BOOTSTRAPS", 3)
    found = fit(with_modes(tmp_path / "samples.h5", (0.6,)))
    assert isinstance(found, Surrogate)
    only = found.comparators["differential"]
    assert not only.gridded
    assert only.common_mode_v.tolist() == [0.6]
    with pytest.raises(InputError, match="expected at least 48 of 64"):
        found.check_active("differential", 16)


RECIPE = """
title = "Common modes"
seed = 3
cell = "xnor_8t"
process = "generic65"
[corner]
process = "tt"
vdd_v = 1.0
temp_c = 27.0
[column]
rows = 8
n_minus = [0, 1, 2, 4, 6, 8]
samples = 16
[[comparator]]
amplifier = "{amplifier}"
sensing = "{sensing}"
level_v = [-0.1, 0.1]
samples = 16
{modes}
"""


def recipe(folder: Path, modes: str, sensing: str = "differential", amplifier: str = "strongarm_differential") -> Path:
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(modes=modes, sensing=sensing, amplifier=amplifier))
    return path


def test_a_recipe_names_common_modes(tmp_path: Path) -> None:
    """Every level at each; the default one's draws and keys are those of a recipe that does not name it."""
    plain = [p for p in points_of(load_campaign(recipe(tmp_path, ""))) if isinstance(p, ComparatorPoint)]
    some = points_of(load_campaign(recipe(tmp_path, "common_mode_v = [0.6, 0.8]")))
    found = [p for p in some if isinstance(p, ComparatorPoint)]
    assert [(p.level_v, p.bench.common_mode_v) for p in found] == [(-0.1, 0.6), (-0.1, 0.8), (0.1, 0.6), (0.1, 0.8)]
    assert found[0].identity == plain[0].identity
    assert found[0].nominal_deck().text == plain[0].nominal_deck().text
    assert found[1].identity != plain[0].identity
    assert found[1].label == "strongarm_differential at -0.1 V, common mode 0.8 V"


def test_a_recipe_leaves_out_what_lies_above_the_supply(tmp_path: Path) -> None:
    """One line at VDD and the other by the level lower is the highest common mode of a level."""
    modes = "common_mode_v = [0.6, 0.95, 0.97, 1.1]\nwithin_supply = true"
    found = points_of(load_campaign(recipe(tmp_path, modes)))
    kept = [(p.level_v, p.bench.common_mode_v) for p in found if isinstance(p, ComparatorPoint)]
    assert kept == [(-0.1, 0.6), (-0.1, 0.95), (0.1, 0.6), (0.1, 0.95)]
    path = recipe(tmp_path, "within_supply = true", "single_ended", "strongarm")
    path.write_text(path.read_text().replace("[-0.1, 0.1]", "[0.5, 1.0, 1.05]"))
    assert [p.level_v for p in points_of(load_campaign(path)) if isinstance(p, ComparatorPoint)] == [0.5, 1.0]
    path = recipe(tmp_path, "within_supply = true")  # The amplifier's own common mode is 0.6 V.
    path.write_text(path.read_text().replace("[-0.1, 0.1]", "[-0.9, -0.8, 0.8]"))
    assert [p.level_v for p in points_of(load_campaign(path)) if isinstance(p, ComparatorPoint)] == [-0.8, 0.8]
    path.write_text(path.read_text().replace("[-0.9, -0.8, 0.8]", "[-0.9, 0.8]"))
    with pytest.raises(InputError, match=r"recipe.toml:19:1: fewer than 2 levels of .* within the supply of 1 V"):
        points_of(load_campaign(path))


def test_a_recipe_sizes_its_comparator(tmp_path: Path) -> None:
    """Four times the width halves an input's sigma; other sizes, and when the outputs are read, stay what they were."""
    plain, wide, late = (
        next(p for p in points_of(load_campaign(recipe(tmp_path, more))) if isinstance(p, ComparatorPoint))
        for more in ("", "parameters = { w_in = 4e-6 }", "decision_s = 8e-10")
    )
    names = [device.name for device in plain.bench.amplifier.devices]
    process = plain.bench.process
    sigmas = [p.bench.amplifier.vth_sigmas(process) for p in (wide, plain)]
    ratio = dict(zip(names, sigmas[0] / sigmas[1], strict=True))
    inputs = {"mbl", "mblb", "mrefp", "mrefn"}
    assert ratio == pytest.approx({name: 0.5 if name in inputs else 1.0 for name in names})
    assert [" w_in=4e-06 " in p.nominal_deck().text for p in (plain, wide)] == [False, True]
    assert late.bench.read_time_s - plain.bench.read_time_s == pytest.approx(4e-10)
    assert late.nominal_deck().times_s == (late.bench.read_time_s,)


@pytest.mark.parametrize(
    ("modes", "sensing", "amplifier", "said"),
    [
        ("common_mode_v = [0.6, 0.6]", "differential", "strongarm_differential", "common_mode_v names 0.6 twice"),
        ("common_mode_v = [1.5]", "differential", "strongarm_differential", "common_mode_v: expected 0..1.2, got 1.5"),
        ("common_mode_v = []", "differential", "strongarm_differential", "common_mode_v"),
        ("common_mode_v = [0.6]", "single_ended", "strongarm", "whose level_v is its common mode"),
    ],
)
def test_wrong_common_modes_are_refused(tmp_path: Path, modes: str, sensing: str, amplifier: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        points_of(load_campaign(recipe(tmp_path, modes, sensing, amplifier)))
    assert "recipe.toml:1" in str(caught.value) or "recipe.toml:2" in str(caught.value)
