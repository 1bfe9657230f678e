"""A page of a network whose inputs turn rows off: levels for every number of rows on, comparators by common mode."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cosim.errors import InputError
from cosim.report.figures import comparator_svg, levels_svg, measured_levels
from cosim.report.page import MOST_GROUPS, load_run, write_page
from cosim.report.tables import code_tables, level_table
from cosim.surrogate.files import load_calibration, save_calibration
from cosim.surrogate.model import ComparatorModel

FILE = "calibration-toy_mlp-single_ended-3bit.h5"
ROWS = 16
"""Of the run's column."""
READ = range(3, ROWS + 1)


@pytest.fixture
def rows_off(run: Path) -> Path:
    """The run with single-ended levels of dense2 for 1 to 16 rows on, of which 1 and 2 never occurred."""
    kept = load_calibration(run / FILE)
    levels = {("dense3", ROWS): replace(kept.levels["dense3", ROWS], histogram=np.ones(ROWS + 1, np.int64))}
    for n_active in range(1, ROWS + 1):
        # As many of each partial sum as rows are on, so that every weight differs.
        histogram = np.full(n_active + 1, n_active if n_active in READ else 0)
        levels["dense2", n_active] = replace(
            kept.levels["dense2", ROWS], histogram=histogram, centroid_mac=np.linspace(-n_active, n_active, 8)
        )
    save_calibration(replace(kept, levels=levels), run / FILE)
    return run


def test_numbers_of_rows_share_a_line_of_the_table(rows_off: Path):
    run = load_run(rows_off)
    codes = code_tables(run)
    assert {group[1] for file, group in codes if (file, group[0]) == (FILE, "dense2")} == set(READ)
    rows = {row[0]: row for row in level_table(run, codes).rows if row[1] == "single-ended"}
    assert list(rows) == ["toy_mlp: dense3", "toy_mlp: dense2"]
    found = rows["toy_mlp: dense2"]
    assert found[2] == "3 to 16"
    assert found[4] == f"{sum(n * (n + 1) for n in READ):,}"
    kept = next(each for each in run.calibrations if each.file == FILE)
    squares = 0.0
    for n in READ:
        centroid = kept.calibration.levels["dense2", n].centroid_mac
        for count in range(n + 1):
            squares += n * codes[FILE, ("dense2", n)][count] @ (centroid - (n - 2 * count)) ** 2
    assert found[7] == f"{np.sqrt(squares / sum(n * (n + 1) for n in READ)):.2f}"


def test_the_page_draws_every_layer_and_the_numbers_that_were_read_most(rows_off: Path):
    page = write_page(rows_off).read_text()
    drawn = [n for n in range(1, ROWS + 1) if f"single-ended, 3 bit, dense2, {n} rows on" in page]
    assert drawn == list(READ)[-(MOST_GROUPS - 1) :]
    assert f"single-ended, 3 bit, dense3, {ROWS} rows on" in page


def test_a_layer_that_was_never_read_is_refused(rows_off: Path):
    kept = load_calibration(rows_off / FILE)
    levels = {
        group: replace(each, histogram=0 * each.histogram) if group[0] == "dense2" else each
        for group, each in kept.levels.items()
    }
    save_calibration(replace(kept, levels=levels), rows_off / FILE)
    with pytest.raises(InputError, match="the histogram of layer dense2 is empty"):
        load_run(rows_off)


def test_comparators_are_drawn_where_they_weremeasured_levels():
    """The highest level is masked, and there are three common modes, each named."""
    level_v, mode_v = np.array([-0.5, 0.0, 0.5, 0.9]), np.array([0.5, 0.75, 1.05])
    sigma_v = 0.02 * np.outer([1.0, 1.1, 1.3, 1.4], mode_v)
    sigma_v[3] = np.nan
    model = ComparatorModel("amp", level_v, 0 * sigma_v, sigma_v, 0 * sigma_v, sigma_v / 5, 12, mode_v)
    svg = comparator_svg("differential", model)
    assert [f"{each:.2f} V" in svg for each in (*mode_v, 0.9)] == [True, True, True, False]
    assert "nan" not in svg
    more = model.extended(np.array([*level_v, 1.2]), np.array([*mode_v, 1.3]))
    wide = comparator_svg("differential", more)
    assert "1.05 V" in wide
    assert "1.30 V" not in wide  # It is the curve of 1.05 V again.
    assert measured_levels(more.slices()[0][1]).tolist() == [True, True, True, False, False]
    low = replace(model, offset_sigma_v=sigma_v[[0, 0, 0, 0]])  # As the lowest, but for the middle.
    assert measured_levels(low.slices()[0][1]).tolist() == [False, False, True, False]


def test_references_beyond_the_sums_are_not_drawn(rows_off: Path):
    """A layer's references are those of all its numbers of rows; of few rows some lie beyond what is drawn."""
    kept = next(each for each in load_run(rows_off).calibrations if each.file == FILE)
    group = ("dense2", 6)
    levels = kept.calibration.levels[group]
    shared = replace(levels, threshold_count=np.array([14.0, 9.0, 5.0, 3.0, 2.0, 1.0, -4.0]))
    svg = levels_svg(replace(kept, calibration=replace(kept.calibration, levels={group: shared})), group, "few")
    drawn = [f"{volts:.3f} V" in svg for volts in levels.reference_v]
    assert drawn == [False, False, True, True, True, True, False]
