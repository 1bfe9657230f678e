"""Models in both counts against a charge-share column that is known in closed form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare
from synthetic_capacitors import Divider, divider_reads, pairs_of, write_divider
from synthetic_columns import truth, write_samples

from cosim import hdf5
from cosim.errors import InputError
from cosim.surrogate import fit as fitting
from cosim.surrogate import line_fit
from cosim.surrogate.calibration import calibrate
from cosim.surrogate.codes import code_probabilities, nominal_codes
from cosim.surrogate.files import load_surrogate, save_surrogate
from cosim.surrogate.fit import fit
from cosim.surrogate.model import Surrogate
from cosim.surrogate.polynomial import features, inner_points, least_squares, terms
from cosim.surrogate.samples import ColumnSamples
from cosim.surrogate.two_count_fit import Powers, fit_two_count, groups_of

COUNTS = (0, 1, 2, 4, 8, 12, 16, 20, 24, 28, 30, 31)


@pytest.fixture(autouse=True)
def _few_bootstraps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_fit, "BOOTSTRAPS", 3)


_FITTED: dict[tuple[Divider, tuple[int, ...], int], Surrogate] = {}
"""Surrogates do not change, so that one fit serves every test that wants it."""


def fitted(folder: Path, divider: Divider, active: tuple[int, ...] = (32,), samples: int = 64) -> Surrogate:
    key = (divider, active, samples)
    if key not in _FITTED:
        reads = divider_reads(divider, pairs_of(divider.rows, active, COUNTS), samples)
        recipe = f"[column]\nactive_rows = {list(active)}\n"
        found = fit(write_divider(folder / "samples.h5", reads, divider.rows, recipe))
        assert isinstance(found, Surrogate)
        _FITTED[key] = found
    return _FITTED[key]


def all_pairs(fewest: int, rows: int = 32) -> np.ndarray:
    return np.array([(n, a - n) for a in range(fewest, rows + 1) for n in range(a + 1)])


@pytest.mark.parametrize(
    ("divider", "active"),
    [
        (Divider(), (32,)),
        (Divider(), (8, 16, 32)),
        (Divider(rest=0.0), (8, 16, 32)),
        (Divider(inverted=True), (16, 32)),
    ],
)
def test_the_divider_is_found(tmp_path: Path, divider: Divider, active: tuple[int, ...]) -> None:
    """48 fitted reads a pair: a mean errs by sigma / 7 = 0.13 mV, and five standard errors are 0.7; a sigma by 10 %.
    Where sigma is below a tenth of the largest, it is 0.01 count and of no account."""
    found, pairs = fitted(tmp_path, divider, active), all_pairs(min(active))
    moments = found.moments("single_ended", *pairs.T.astype(float))
    mean_v = np.array([divider.mean_v(*pair) for pair in pairs])
    sigma_v = np.array([divider.sigma_v(*pair) for pair in pairs])
    np.testing.assert_allclose(moments.mean_v, mean_v, rtol=0, atol=5 * sigma_v.max() / np.sqrt(48))
    np.testing.assert_allclose(moments.sigma_v, sigma_v, rtol=0.3, atol=0.1 * sigma_v.max())
    assert found.direction == (-1 if divider.inverted else 1)
    assert found.validation["bl_mean_rms_mv"] < 2 * found.validation["bl_mean_expected_mv"]
    assert found.validation["bl_ks_p"] > 1e-4


def test_the_stated_error_is_the_one_that_is_made(tmp_path: Path) -> None:
    """The left-out means are noisy themselves: the figure is sampling and misfit together, within a factor of 2."""
    divider = Divider()
    found = fitted(tmp_path, divider, (8, 16, 32)).validation
    noise_mv = 1e3 * np.sqrt(np.mean([divider.sigma_v(*pair) ** 2 for pair in pairs_of(32, (8, 16, 32), COUNTS)]) / 48)
    assert noise_mv / 2 < found["cv_mean_mv"] < 2 * noise_mv
    assert found["cv_mean_counts"] == pytest.approx(found["cv_mean_mv"] / (1e3 * 0.4 / 38), rel=0.05)
    assert 0.05 < found["cv_sigma_relative"] < 0.3, "1 / sqrt(2 x 47) = 0.10 by chance alone"


@pytest.mark.parametrize("inverted", [False, True])
def test_the_mean_is_monotone_in_each_count_however_noisy_the_samples_are(inverted: bool) -> None:
    """Mismatch so large that the sample means go up and down, and terms enough to follow them."""
    reads = divider_reads(Divider(mismatch=1.5, inverted=inverted), pairs_of(32, (16, 24, 32), COUNTS), 12)
    powers = Powers(terms(7, (7, 1)), terms(1, (1, 0)), terms(0, (0, 0)))
    found = fit_two_count(groups_of(reads), powers, 32, 1)
    for step in ((1, -1), (1, 0), (0, -1)):
        pairs = all_pairs(17)
        moved = pairs + step
        allowed = (moved >= 0).all(axis=1) & (moved.sum(axis=1) <= 32)
        here, there = (found.at(*each[allowed].T.astype(float)).mean_v for each in (pairs, moved))
        fall = found.direction * (here - there)
        assert fall.min() > -0.02 * np.ptp(here) / 32, "2 % of a count, between the places where it is demanded"


def test_a_bound_that_is_active_is_kept_and_costs_the_least(tmp_path: Path) -> None:
    """Against the exact solution of a problem of one dimension: the falling line nearest to rising points is flat."""
    x = np.linspace(-1, 1, 9)
    design = np.stack([np.ones(9), x], axis=1)
    found = least_squares(design, 3 + x, np.array([[0.0, -1.0]]), np.zeros(1))
    np.testing.assert_allclose(found, [3, 0], atol=1e-6)
    free = least_squares(design, 3 - x, np.array([[0.0, -1.0]]), np.zeros(1))
    np.testing.assert_allclose(free, [3, -1], atol=1e-6)


def test_terms_reproduce_a_polynomial() -> None:
    pairs, powers = all_pairs(8) / 16.0 - 1, terms(3, (3, 3))
    value = 1 - pairs[:, 0] ** 3 + 0.2 * pairs[:, 0] * pairs[:, 1] ** 2
    solved = least_squares(features(pairs, powers), value, np.zeros((0, len(powers))), np.zeros(0))
    np.testing.assert_allclose(features(pairs, powers) @ solved, value, rtol=0, atol=1e-6)


def test_inner_points() -> None:
    square = np.array([(0, 0), (0, 2), (2, 0), (2, 2), (1, 1), (1, 0)], float)
    assert inner_points(square).tolist() == [False] * 4 + [True] * 2
    assert inner_points(np.array([(0.0, 3), (1, 2), (2, 1), (3, 0)])).tolist() == [False, True, True, False]


def test_a_row_that_is_off_reads_as_minus_one_when_the_plates_rest_low(tmp_path: Path) -> None:
    """Then 12 rows at +1 read alike whatever the number of those at -1; half-way, each of them counts."""
    low, half = (fitted(tmp_path, Divider(rest=rest), (16, 24, 32)) for rest in (0.0, 0.5))
    n_minus, n_plus = np.arange(4.0, 21), np.full(17, 12.0)
    assert np.ptp(low.moments("single_ended", n_minus, n_plus).mean_v) < 0.3e-3
    step_v = 0.4 / 38
    fall = np.diff(half.moments("single_ended", n_minus, n_plus).mean_v)
    np.testing.assert_allclose(fall, -step_v / 2, rtol=0.05)


def test_fewer_rows_than_were_measured_are_refused(tmp_path: Path) -> None:
    only, some = fitted(tmp_path, Divider()), fitted(tmp_path, Divider(), (16, 32))
    with pytest.raises(InputError, match=r"31 active rows, but .* all 32 rows on .*column.active_rows"):
        only.moments("single_ended", np.array([15.0]), np.array([16.0]))
    with pytest.raises(InputError, match="15 active rows, but the column was measured with 16 to 32 rows on"):
        code_probabilities(some, "single_ended", 15, np.array([0.5]))
    some.moments("single_ended", np.array([0.5]), np.array([15.5]))
    with pytest.raises(InputError, match="more than 32 rows on"):
        some.moments("single_ended", np.array([20.0]), np.array([13.0]))
    with pytest.raises(InputError, match="count -1"):
        some.moments("single_ended", np.array([-1.0]), np.array([20.0]))


def test_a_column_of_one_line_is_sensed_single_ended(tmp_path: Path) -> None:
    found = fitted(tmp_path, Divider())
    assert (found.lines, found.sensings) == (1, ("single_ended",))
    for call in (
        lambda: found.moments("differential", np.array([16.0]), np.array([16.0])),
        lambda: calibrate(found, {("a", 32): np.ones(33, np.int64)}, sensing="differential", bits=3, provenance={}),
        lambda: code_probabilities(found, "differential", 32, np.array([0.0])),
        lambda: found.common_mode_v(np.array([16.0]), np.array([16.0])),
    ):
        with pytest.raises(InputError, match=r"differential sensing of a column of one line .use single_ended"):
            call()


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("n_active", [32, 20])
def test_codes_rise_with_the_partial_sum_whichever_way_the_line_goes(
    tmp_path: Path, inverted: bool, n_active: int
) -> None:
    """Levels, nominal codes and probabilities; and the codes of 40,000 reads drawn from the column itself. The smallest
    of 12 p-values is below 1e-4 once in 800 seeds; the fit is to 3000 reads a pair, so that it is not what is seen."""
    divider = Divider(inverted=inverted, mismatch=0.1)
    surrogate = fitted(tmp_path, divider, (16, 32), samples=4000)
    histogram = np.bincount(np.random.default_rng(1).binomial(n_active, 0.5, 4000), minlength=n_active + 1)
    group = ("a", n_active)
    found = calibrate(surrogate, {group: histogram}, sensing="single_ended", bits=3, provenance={}).levels[group]
    assert (np.diff(found.reference_v) * surrogate.direction > 0).all()
    codes = nominal_codes(surrogate, "single_ended", n_active, found.reference_v)
    assert (np.diff(codes) <= 0).all()
    seen = np.flatnonzero(histogram)
    for code in range(8):
        mine = seen[codes[seen] == code]
        assert np.average(n_active - 2 * mine, weights=histogram[mine]) == pytest.approx(found.centroid_mac[code])
    expected = code_probabilities(surrogate, "single_ended", n_active, found.reference_v)
    assert (np.diff(expected @ np.arange(8)) < 1e-9).all()
    offset, generator = surrogate.comparators["single_ended"].at(found.reference_v), np.random.default_rng(5)
    for n_minus in np.flatnonzero(np.diff(codes))[1:4]:  # beside a threshold, so that there is something to see
        volts = divider.draw(n_minus, n_active - n_minus, 40_000, generator)
        away_v = volts[:, None] - found.reference_v - generator.normal(offset.mean_v, offset.sigma_v, (40_000, 7))
        counted = np.bincount((surrogate.direction * away_v > 0).sum(axis=1), minlength=8)
        # Of the model the sigma is off by 1 % and the mean by sigma / 50: the chi-square is on a tenth of the reads.
        wanted = expected[n_minus] * counted.sum()
        often = wanted >= 50
        scaled = wanted[often] * counted[often].sum() / wanted[often].sum()
        assert often.sum() > 1
        assert chisquare(counted[often] / 10, scaled / 10).pvalue > 1e-4, n_minus


def test_a_file_comes_back(tmp_path: Path) -> None:
    found = fitted(tmp_path, Divider(inverted=True), (16, 32))
    save_surrogate(found, tmp_path / "a.h5")
    back = load_surrogate(tmp_path / "a.h5")
    assert (back.direction, back.lines, back.rows) == (-1, 1, 32)
    pairs = all_pairs(16).T.astype(float)
    there, here = (each.moments("single_ended", *pairs) for each in (back, found))
    for name in ("mean_v", "sigma_v", "skew"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))
    assert back.validation == found.validation
    # A program that knows no other count finds no line, and not a wrong one.
    datasets = hdf5.read(tmp_path / "a.h5", filetype="cosim-surrogate", major=1).datasets
    assert "line_mean_v" not in datasets
    assert "difference_mean_v" not in datasets


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("two_count", '{"fewest_active": 40, "direction": 1, "lines": 1}', "no column of 32 rows has"),
        ("two_count", '{"fewest_active": 16, "direction": 0, "lines": 1}', "no column of 32 rows has"),
        ("two_count", '{"fewest_active": 16, "direction": -1, "lines": 1}', "falls, expected it to rise"),
        ("two_count", '{"direction": 1, "lines": 1}', "incomplete surrogate: 'fewest_active'"),
        ("two_count", "[[", "incomplete surrogate"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, name: str, value: str, said: str) -> None:
    save_surrogate(fitted(tmp_path, Divider(), (16, 32)), tmp_path / "a.h5")
    content = hdf5.read(tmp_path / "a.h5", filetype="cosim-surrogate", major=1)
    changed = hdf5.Content(dict(content.attributes) | {name: value}, content.datasets)
    hdf5.write(tmp_path / "b.h5", changed, filetype="cosim-surrogate", version=(1, 2))
    with pytest.raises(InputError, match=said):
        load_surrogate(tmp_path / "b.h5")


# --- Two lines, several numbers of active rows ---


def two_lines(active: tuple[int, ...], samples: int = 48) -> ColumnSamples:
    line, generator, rows = truth(), np.random.default_rng(2), 64

    def draw(count: int) -> np.ndarray:
        return line.mean_v[count] + line.sigma_v[count] * generator.standard_normal(samples)

    pairs = pairs_of(rows, active, (0, 1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 60, 62, 63))
    bl_v, blb_v = (np.concatenate([draw(pair[i]) for pair in pairs]) for i in (0, 1))
    minus, plus = (np.repeat(np.array(each, float), samples) for each in zip(*pairs, strict=True))
    return ColumnSamples(minus, plus, np.tile(np.arange(samples, dtype=float), len(pairs)), bl_v, blb_v)


def with_recipe(path: Path, reads: ColumnSamples, recipe: str) -> Path:
    write_samples(path, reads, 64)
    content = hdf5.read(path, filetype="cosim-samples", major=1)
    hdf5.write(
        path,
        hdf5.Content(dict(content.attributes) | {"recipe": recipe}, content.datasets),
        filetype="cosim-samples",
        version=(1, 0),
    )
    return path


def test_reads_with_rows_off_are_fitted_where_the_recipe_says_so(tmp_path: Path) -> None:
    """A line that only its own count moves: the model in both counts finds just that. A polynomial follows the curve of
    the true line, which is no polynomial, to 2 mV, a fifth of a count."""
    recipe = "[column]\nactive_rows = [16, 32, 48, 64]\n"
    found = fit(with_recipe(tmp_path / "samples.h5", two_lines((16, 32, 48, 64)), recipe))
    assert found.two_count is not None
    assert (found.lines, found.direction, found.two_count.fewest_active) == (2, 1, 16)
    pairs = all_pairs(16, 64)
    moments = found.moments("single_ended", *pairs.T.astype(float))
    np.testing.assert_allclose(moments.mean_v, truth().mean_v[pairs[:, 0]], rtol=0, atol=4e-3)
    both = found.moments("differential", *pairs.T.astype(float))
    np.testing.assert_allclose(
        both.mean_v, truth().mean_v[pairs[:, 0]] - truth().mean_v[pairs[:, 1]], rtol=0, atol=6e-3
    )
    np.testing.assert_allclose(
        found.common_mode_v(*pairs.T.astype(float)), truth().mean_v[pairs].mean(axis=1), atol=4e-3
    )
    assert abs(found.validation["line_correlation"]) < 0.1
    assert found.validation["difference_mean_rms_counts"] < 0.3


def test_reads_that_only_check_are_never_fitted(tmp_path: Path) -> None:
    """The pair of `rows_off` is 0.2 V off: a figure says so, and the model does not move."""
    reads = two_lines((32, 48, 64))
    at = (reads.n_minus == 16) & (reads.n_plus == 16)
    moved = replace(reads, bl_v=reads.bl_v + 0.2 * at)
    recipe = "[column]\nactive_rows = [32, 48, 64]\nrows_off = [{ n_minus = 16, n_plus = 16 }]\n"
    here = fit(with_recipe(tmp_path / "a.h5", reads, recipe))
    there = fit(with_recipe(tmp_path / "b.h5", moved, recipe))
    np.testing.assert_array_equal(here.line.mean_v, there.line.mean_v)
    assert here.validation["rows_off_bl_mean_rms_mv"] < 5
    assert there.validation["rows_off_bl_mean_rms_mv"] > 190


def test_reads_below_the_models_range_are_counted(tmp_path: Path) -> None:
    divider = Divider()
    reads = divider_reads(divider, [*pairs_of(32, (32,), COUNTS), (4, 4)], 32)
    found = fit(write_divider(tmp_path / "samples.h5", reads, 32))
    assert found.validation["rows_off_unchecked"] == 32


def test_all_rows_on_must_be_among_them(tmp_path: Path) -> None:
    reads = divider_reads(Divider(), pairs_of(32, (16, 24), COUNTS), 32)
    path = write_divider(tmp_path / "samples.h5", reads, 32, "[column]\nactive_rows = [16, 24]\n")
    with pytest.raises(InputError, match=r"no reads with all 32 rows on .add 32 to column.active_rows"):
        fit(path)


def test_a_recipe_that_is_none_is_refused(tmp_path: Path) -> None:
    reads = divider_reads(Divider(), pairs_of(32, (32,), COUNTS), 32)
    with pytest.raises(InputError, match="incomplete samples: the recipe in the file"):
        fit(write_divider(tmp_path / "samples.h5", reads, 32, "= = ="))


def test_perturbing_keeps_the_pairs() -> None:
    groups = groups_of(divider_reads(Divider(), pairs_of(32, (32,), COUNTS), 16))
    again = groups.perturbed(np.random.default_rng(0))
    np.testing.assert_array_equal(groups.size, again.size)
    assert (again.found.mean_v != groups.found.mean_v).any()
    powers = fitting.choose_powers(groups, 32)[0]
    assert fit_two_count(again, powers, 32, 1).fewest_active == 32


def test_controls_tell_both_counts_more() -> None:
    """A line of one, each read its mean plus 10 mV of what its draw says and 1 mV of the rest."""
    rng = np.random.default_rng(3)
    minus = np.repeat(np.arange(0, 33, 4), 32)
    control = rng.standard_normal((minus.size, 2))
    volts = 0.2 + 0.01 * minus + 0.01 * control[:, 0] + 0.001 * rng.standard_normal(minus.size)
    none = np.full(minus.size, np.nan)
    sample = np.tile(np.arange(32.0), 9)
    plain = ColumnSamples(minus.astype(float), 32.0 - minus, sample, volts, none)
    told = replace(plain, control_bl=control[:, :1], control_blb=control[:, 1:])
    errors = [groups_of(reads).found.mean_error_v.mean() for reads in (plain, told)]
    assert errors[0] / errors[1] > 5, "the rest is a tenth of the whole"
    means = groups_of(told).found.mean_v
    # Four standard errors, 1 mV / sqrt(32).
    np.testing.assert_allclose(means, 0.2 + 0.01 * np.arange(0, 33, 4), atol=4 * 1e-3 / np.sqrt(32))
