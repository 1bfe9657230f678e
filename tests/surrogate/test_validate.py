"""Held-out samples pass a right surrogate and convict a wrong one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic_columns import column_reads, true_surrogate, truth

from cosim.surrogate.model import LineModel
from cosim.surrogate.validate import validate


def figures(line: LineModel, seed: int = 0, samples: int = 64) -> dict[str, float]:
    """A surrogate's figures on reads of the true column, all of them held out."""
    reads = column_reads(truth(), samples, seed)
    return validate(replace(true_surrogate(), line=line), reads, np.ones(reads.sample.size, bool))


def test_the_truth_passes() -> None:
    """p below 1e-4 in one of 3 views would be a false alarm in 3000 seeds; this seed is fixed."""
    found = figures(truth())
    for view in ("bl", "blb", "difference"):
        assert found[f"{view}_ks_p"] > 1e-4
        assert found[f"{view}_mean_rms_mv"] < 2 * found[f"{view}_mean_expected_mv"]
        assert found[f"{view}_sigma_rms_mv"] < 2 * found[f"{view}_sigma_expected_mv"]
        assert found[f"{view}_mean_rms_counts"] < 0.5
    assert abs(found["line_correlation"]) < 5 / np.sqrt(found["difference_reads"])


def test_p_is_uniform_where_the_surrogate_is_right() -> None:
    """40 seeds: between 5 and 35 of them below one half; outside with a chance of 1e-6."""
    p = [figures(truth(), seed, 16)["bl_ks_p"] for seed in range(40)]
    assert 5 < sum(value < 0.5 for value in p) < 35


def test_a_mean_that_is_two_counts_off_is_seen() -> None:
    count = np.arange(65.0) + 2
    shifted = replace(truth(), mean_v=1 - 0.6 * count / (count + 32))
    found = figures(shifted)
    for view in ("bl", "blb", "difference"):
        assert found[f"{view}_ks_p"] < 1e-12
    assert found["bl_mean_rms_counts"] == pytest.approx(2, rel=0.2)


def test_a_sigma_that_is_wrong_is_seen() -> None:
    line = truth()
    found = figures(replace(line, sigma_v=1.5 * line.sigma_v))
    assert found["bl_ks_p"] < 1e-4
    assert found["bl_sigma_rms_mv"] > 3 * found["bl_sigma_expected_mv"] / 1.5


def test_a_skew_of_the_wrong_sign_is_seen() -> None:
    line = replace(truth(), skew=np.full(65, -1.0))
    reads = column_reads(line, 400, 0)
    wrong = validate(replace(true_surrogate(), line=replace(line, skew=-line.skew)), reads, reads.sample >= 0)
    right = validate(replace(true_surrogate(), line=line), reads, reads.sample >= 0)
    assert wrong["bl_ks_p"] < 1e-12
    assert right["bl_ks_p"] > 1e-4


def test_lines_that_move_together_are_seen() -> None:
    """The model takes BL and BLB as independent; the figure says whether they are."""
    reads = column_reads(truth(), 64, 0)
    common = 0.01 * np.random.default_rng(1).standard_normal(reads.bl_v.size)
    moved = replace(reads, bl_v=reads.bl_v + common, blb_v=reads.blb_v + common)
    assert validate(true_surrogate(), moved, reads.sample >= 0)["line_correlation"] > 0.4


def test_columns_with_rows_off_have_figures_of_their_own() -> None:
    line, generator = truth(), np.random.default_rng(2)
    full, off = column_reads(line, 32, 0), column_reads(line, 32, 1, counts=(12,))
    off = replace(
        off,
        n_plus=np.full(32, 20.0),
        blb_v=line.mean_v[20] + line.sigma_v[20] * generator.standard_normal(32),
    )
    said = [name for name in full.__slots__ if getattr(full, name) is not None]
    both = type(full)(*(np.concatenate((getattr(full, n), getattr(off, n))) for n in said))
    held_out = both.sample % 4 == 3
    found = validate(true_surrogate(), both, held_out)
    assert found["rows_off_bl_reads"] == 32, "none of them was fitted, so all of them check"
    assert found["bl_reads"] == 14 * 8
    # One line alone on: the other one has no spread and no figures.
    alone = replace(both, n_plus=np.where(both.n_plus == 20, 0, both.n_plus))
    found = validate(true_surrogate(), alone, held_out)
    assert "rows_off_blb_reads" not in found
    assert np.isfinite(list(found.values())).all()
