"""The fit recovers what is known exactly, and its stated errors are the errors that it makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import pearson3
from synthetic_columns import COUNTS, column_reads, comparators, truth, write_samples

from cosim import hdf5
from cosim.campaign.filetypes import SAMPLES
from cosim.errors import InputError, MeasuredWorseError
from cosim.surrogate import fit as fitting
from cosim.surrogate import line_fit
from cosim.surrogate.curves import falling_curve, skew_curve, variance_curve
from cosim.surrogate.fit import fit, fit_line

# --- The line ---


def test_the_truth_lies_within_the_stated_errors() -> None:
    """Seeds fixed: 12 fits. The z of each curve at each count has a standard deviation of about 1 where the errors are
    right; the spline's own misfit widens it a little. With errors half or twice as large it would be 2 or 0.5."""
    line, z = truth(), {"mean_v": [], "sigma_v": [], "skew": []}
    for seed in range(12):
        found = _quick(column_reads(line, 48, seed))
        errors = (found.mean_error_v, found.sigma_error_v, found.skew_error)
        for name, error in zip(z, errors, strict=True):
            z[name].append((getattr(found, name) - getattr(line, name))[1:] / error[1:])
    for name, values in z.items():
        rms = np.sqrt(np.mean(np.square(values)))
        assert 0.7 < rms < 1.5, (name, rms)


def _quick(reads: fitting.ColumnSamples) -> fitting.LineModel:
    """With 40 bootstraps the errors themselves are within 11 %."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_fit, "BOOTSTRAPS", 40)
        return fit_line(reads, 64)


def test_many_samples_give_small_errors() -> None:
    """4000 samples a count: 1 % of sigma from sampling, and the same again for curves that are not quite the truth."""
    line = truth()
    found = _quick(column_reads(line, 4000, 0))
    np.testing.assert_allclose(found.mean_v, line.mean_v, rtol=0, atol=0.5e-3)
    np.testing.assert_allclose(found.sigma_v[1:], line.sigma_v[1:], rtol=0.03)
    np.testing.assert_allclose(found.skew[4:], line.skew[4:], rtol=0, atol=0.06)


def test_counts_that_are_not_simulated_are_interpolated() -> None:
    line = truth()
    found = _quick(column_reads(line, 400, 3, counts=(0, 8, 16, 24, 32, 40, 48, 56, 64)))
    assert found.rows == 64
    between = np.setdiff1d(np.arange(65), COUNTS)
    np.testing.assert_allclose(found.mean_v[between], line.mean_v[between], rtol=0, atol=2e-3)
    np.testing.assert_allclose(found.sigma_v[between][1:], line.sigma_v[between][1:], rtol=0.15)


def test_the_mean_falls_however_noisy_the_samples_are() -> None:
    for seed in range(5):
        noisy = replace(truth(), sigma_v=np.full(65, 0.1))
        found = _quick(column_reads(noisy, 16, seed))
        assert (np.diff(found.mean_v) <= 1e-12).all()
        assert (found.sigma_v >= 0).all()


def test_no_spread_gives_no_spread() -> None:
    """Zero mismatch: the mean goes through the samples, and sigma is at the simulator's tolerance."""
    line = replace(truth(), sigma_v=np.zeros(65))
    found = _quick(column_reads(line, 16, 0))
    assert found.sigma_v.max() < 200e-6
    np.testing.assert_allclose(found.mean_v[list(COUNTS)], line.mean_v[list(COUNTS)], rtol=0, atol=1e-3)
    np.testing.assert_array_equal(found.skew, 0)


def test_the_fit_is_a_pure_function() -> None:
    reads = column_reads(truth(), 32, 5)
    first, second = _quick(reads), _quick(reads)
    for name in first.__slots__:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_too_little_is_refused() -> None:
    with pytest.raises(InputError, match="3 different counts, expected at least 6"):
        fit_line(column_reads(truth(), 16, 0, counts=(0, 32, 64)), 64)
    with pytest.raises(InputError, match="3 column samples at a count, expected at least 8"):
        fit_line(column_reads(truth(), 3, 0), 64)


# --- The curves ---


def test_a_falling_curve_reproduces_a_cubic() -> None:
    """Splines contain every cubic polynomial: no error but rounding."""
    count = np.arange(65.0)
    value = 1 - 0.3 * (count / 64) - 0.2 * (count / 64) ** 3
    some = count[::4]
    found = falling_curve(some, value[::4], np.ones(some.size), 64)
    np.testing.assert_allclose(found, value, rtol=0, atol=1e-9)


def test_a_rising_input_gives_a_flat_curve() -> None:
    count = np.arange(0.0, 65, 8)
    found = falling_curve(count, count / 64, np.ones(count.size), 64)
    np.testing.assert_allclose(found, 0.5, atol=1e-9)


def test_precise_points_weigh_more() -> None:
    count = np.array([0.0, 16, 32, 48, 64] * 2)
    value, error = np.array([1.0] * 5 + [0.0] * 5), np.array([1e-3] * 5 + [1e-1] * 5)
    np.testing.assert_allclose(falling_curve(count, value, error, 64), 1.0, atol=1e-3)


def test_independent_cells_have_a_variance_in_proportion() -> None:
    """A chi-square of 4095 degrees of freedom scatters by 2.2 %; the log's bias is taken out."""
    count = np.array([0.0, *range(4, 65, 4)])
    samples = np.full(count.size, 4096)
    freedom = samples - 1
    exact = count * 1e-6
    found = variance_curve(count, exact, samples, 64)
    np.testing.assert_allclose(found[1:], np.arange(1, 65) * 1e-6, rtol=1 / freedom[0] * 2)
    assert found[0] == 0
    scattered = exact * np.random.default_rng(0).chisquare(freedom) / freedom
    np.testing.assert_allclose(variance_curve(count, scattered, samples, 64)[1:], np.arange(1, 65) * 1e-6, rtol=0.08)


def test_counts_with_more_samples_weigh_more() -> None:
    """One level in two is ten times too noisy, and measured with 4 samples against 4000."""
    count = np.arange(4.0, 65, 4)
    rare = np.arange(16) % 2 == 0
    found = variance_curve(count, np.where(rare, 10, 1) * count, np.where(rare, 4, 4000), 64)
    np.testing.assert_allclose(found[4:], np.arange(4, 65), rtol=0.02)


def test_the_variance_is_not_biased_with_few_samples() -> None:
    """400 fits to groups of 8: the mean log of the variance is right to 5 / sqrt(400 x 16 x 7 / 2) = 3 %; without
    the digamma term it would be 7 % low."""
    count, samples = np.arange(4.0, 65, 4), np.full(16, 8)
    generator = np.random.default_rng(1)
    logs = [
        np.log(variance_curve(count, count * generator.chisquare(7, 16) / 7, samples, 64)[1:] / np.arange(1, 65)).mean()
        for _ in range(400)
    ]
    assert abs(np.mean(logs)) < 0.03


def test_the_skew_of_a_sum_of_cells() -> None:
    count = np.array([0.0, 1, 2, 4, 8, 16, 32, 64])
    found = skew_curve(count, np.concatenate(([0], -0.8 / np.sqrt(count[1:]))), np.full(8, 100), 64)
    np.testing.assert_allclose(found[1:], -0.8 / np.sqrt(np.arange(1, 65)), rtol=0, atol=1e-9)
    assert found[0] == 0


def test_pearson_iii_has_the_moments_that_we_give_it() -> None:
    """The distribution behind code_probabilities and the Kolmogorov-Smirnov test: standardized, skew as it says."""
    for skew in (-0.7, 0.0, 0.3):
        mean, variance, third = pearson3.stats(skew, moments="mvs")
        assert (mean, variance) == (0, 1)
        assert third == pytest.approx(skew)


# --- A file of samples ---


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    return write_samples(tmp_path / "samples.h5", column_reads(truth(), 64, 1), 64)


@pytest.fixture(autouse=True)
def _few_bootstraps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_fit, "BOOTSTRAPS", 20)


def test_a_file_or_its_folder(samples: Path) -> None:
    by_file, by_folder = fit(samples), fit(samples.parent)
    np.testing.assert_array_equal(by_file.line.mean_v, by_folder.line.mean_v)
    assert by_file.validation == by_folder.validation
    assert by_file.rows == 64
    assert len(str(by_file.provenance["samples_sha256"])) == 64


def test_comparators_are_what_was_drawn(samples: Path) -> None:
    """Means and sigmas of 48 fitted offsets a level within five standard errors: a false alarm in 40000."""
    found = fit(samples).comparators
    assert {sensing: model.amplifier for sensing, model in found.items()} == {
        "single_ended": "first", "differential": "second",
    }  # fmt: skip
    for sensing, true in comparators().items():
        model = found[sensing]
        np.testing.assert_allclose(model.level_v, true.level_v)
        assert (np.abs(model.offset_mean_v - true.offset_mean_v) < 5 * true.offset_sigma_v / np.sqrt(48)).all()
        assert (np.abs(model.offset_sigma_v - true.offset_sigma_v) < 5 * model.sigma_error_v).all()
        # That of a normal distribution, or more where the samples have longer tails.
        normal = model.offset_sigma_v / np.sqrt(2 * 47)
        assert ((model.sigma_error_v > 0.999 * normal) & (model.sigma_error_v < 1.6 * normal)).all()
        assert model.samples == 48


def test_too_many_failures_are_refused(tmp_path: Path) -> None:
    """3 of 64 at one count is 4.7 %; spread over the run it would be 0.3 %."""
    path = write_samples(tmp_path / "samples.h5", column_reads(truth(), 64, 1), 64, failed=(130, 140, 150))
    with pytest.raises(MeasuredWorseError, match=r"3 of 64 column samples at n_minus = 2, n_plus = 62") as caught:
        fit(path)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    allowed = fit(path, max_failure_rate=0.05)
    assert np.isfinite(allowed.line.mean_v).all()
    assert allowed.validation["difference_reads"] == 15 * 16 - len([i for i in (130, 140, 150) if i % 4 == 3])


@pytest.mark.parametrize("skew", [-1.2, 0.8])
def test_the_skew_of_the_offsets_is_found(tmp_path: Path, skew: float) -> None:
    """1500 fitted offsets a level: five standard errors of a sample skewness, about 0.1 each for this skew."""
    found = fit(write_samples(tmp_path / "samples.h5", column_reads(truth(), 32, 1), 64, offsets=2000, skew=skew))
    for sensing, model in found.comparators.items():
        np.testing.assert_allclose(model.offset_skew, skew, rtol=0, atol=0.5)
        assert found.validation[f"{sensing}_offset_ks_p"] > 1e-4


def test_a_skew_within_its_error_is_none(tmp_path: Path) -> None:
    """Normal offsets, 48 a level: the standard error is 0.35; two levels of three are within it and give 0."""
    found = fit(write_samples(tmp_path / "samples.h5", column_reads(truth(), 32, 1), 64)).comparators
    skews = np.concatenate([model.offset_skew for model in found.values()])
    assert 5 <= (skews == 0).sum() < skews.size
    assert np.abs(skews).max() < 1.2


def test_comparators_are_checked_with_offsets_that_were_not_fitted(samples: Path, tmp_path: Path) -> None:
    """The held-out offsets moved by 50 mV: the model stays and the figures tell it."""

    def move(table: dict[str, hdf5.Dataset], _: object) -> None:
        held_out = table["comparator_sample"].values % 4 == 3
        offset = table["comparator_offset_v"]
        table["comparator_offset_v"] = replace(offset, values=offset.values + 0.05 * held_out)

    right, moved = fit(samples), fit(changed(samples, tmp_path / "moved.h5", move))
    for sensing, model in right.comparators.items():
        np.testing.assert_array_equal(model.offset_mean_v, moved.comparators[sensing].offset_mean_v)
        key = f"{sensing}_offset"
        assert right.validation[f"{key}_reads"] == 16 * model.level_v.size
        assert right.validation[f"{key}_ks_p"] > 1e-4
        assert right.validation[f"{key}_mean_rms_mv"] < 2 * right.validation[f"{key}_mean_expected_mv"]
        assert right.validation[f"{key}_sigma_rms_mv"] < 2 * right.validation[f"{key}_sigma_expected_mv"]
        assert moved.validation[f"{key}_mean_rms_mv"] > 40
        assert moved.validation[f"{key}_ks_p"] < 1e-6


def test_a_point_with_a_flip_is_masked(samples: Path, tmp_path: Path) -> None:
    """Whatever its other samples are: here they are 0.3 V off, and neither the fit nor a figure sees them."""
    reads = column_reads(truth(), 64, 1)
    at = reads.n_minus == 24
    wild = replace(reads, bl_v=reads.bl_v - 0.3 * at, blb_v=reads.blb_v - 0.3 * at)
    path = write_samples(tmp_path / "flips.h5", wild, 64, flipped=(int(np.flatnonzero(at)[0]),))
    with pytest.raises(MeasuredWorseError, match="1 of 64 column samples"):
        fit(path)
    found = fit(path, max_failure_rate=0.02)
    assert found.validation["masked_points"] == 1
    assert found.validation["bl_reads"] == (15 - 2) * 16, "less the masked count and the one without a pulling cell"
    np.testing.assert_allclose(found.line.mean_v, truth().mean_v, rtol=0, atol=5e-3)
    assert found.validation["bl_ks_p"] > 1e-4
    assert fit(samples).validation["masked_points"] == 0


def changed(samples: Path, to: Path, change: Callable[..., object]) -> Path:
    """The samples with other content and a valid hash."""
    content = hdf5.read(samples, filetype=SAMPLES[0], major=1)
    datasets, attributes = dict(content.datasets), dict(content.attributes)
    change(datasets, attributes)
    hdf5.write(to, hdf5.Content(attributes, datasets), filetype=SAMPLES[0], version=SAMPLES[1])
    return to


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data, about: about.pop("rows"), "rows"),
        (lambda data, about: about.update(rows="many"), "many"),
        (lambda data, about: about.update(rows=60), "60 rows cannot have"),
        (lambda data, about: data.pop("column_bl_v"), "column_bl_v"),
        (lambda data, about: data.pop("comparator_sample"), "comparator_sample"),
        (lambda data, about: about.pop("sensing"), "sensing"),
        (lambda data, about: about.update(amplifiers="[["), "Expecting value"),
        (lambda data, about: about.update(amplifiers="[" * 20_000 + "]" * 20_000), "recursion"),
        (lambda data, about: about.update(amplifiers="1"), "not iterable"),
        (lambda data, about: about.update(sensing='["single_ended", "triple"]'), "triple"),
    ],
)
def test_incomplete_samples_are_refused(
    samples: Path, tmp_path: Path, change: Callable[..., object], said: str
) -> None:
    path = changed(samples, tmp_path / "changed.h5", change)
    with pytest.raises(InputError, match=f"incomplete samples: .*{said}") as caught:
        fit(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_none_is_refused(samples: Path, rate: float) -> None:
    with pytest.raises(InputError, match="expected 0 to 1"):
        fit(samples, max_failure_rate=rate)


def test_held_out_samples_take_no_part_in_the_fit(samples: Path, tmp_path: Path) -> None:
    reads = column_reads(truth(), 64, 1)
    held_out = reads.sample % 4 == 3
    moved = replace(reads, bl_v=reads.bl_v + 0.05 * held_out, blb_v=reads.blb_v + 0.05 * held_out)
    other = fit(write_samples(tmp_path / "moved.h5", moved, 64))
    np.testing.assert_array_equal(other.line.mean_v, fit(samples).line.mean_v)
    assert other.validation["bl_mean_rms_mv"] > 45
    assert other.validation["bl_ks_p"] < 1e-6
