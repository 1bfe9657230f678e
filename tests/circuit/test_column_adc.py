from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cosim.circuit.column_adc import load_column_adc
from cosim.errors import InputError
from cosim.resources import find


def test_the_levels_are_the_stated_ones() -> None:
    adc = load_column_adc("column_adc")
    np.testing.assert_array_equal(adc.values_mac(), np.arange(-65, 66, 13))
    np.testing.assert_allclose(adc.thresholds_mac(), np.arange(-58.5, 59, 13))
    assert (adc.offset_sigma_mac, adc.noise_sigma_mac) == (0.89, 0.97)


def test_b_levels_have_one_threshold_less(tmp_path: Path) -> None:
    text = (find("netlists", "sense", "column_adc") / "adc.toml").read_text(encoding="utf-8")
    for levels in (2, 8, 11):
        (tmp_path / "adc.toml").write_text(text.replace("levels = 11", f"levels = {levels}"), encoding="utf-8")
        adc = load_column_adc(tmp_path)
        assert adc.values_mac().size == levels
        assert adc.thresholds_mac().size == levels - 1
        assert adc.values_mac().sum() == pytest.approx(0.0)


def test_thresholds_on_the_line_are_two_mac_units_a_count() -> None:
    adc = load_column_adc("column_adc")
    volts = adc.thresholds_v(0.5, 1.4e-3)
    np.testing.assert_allclose(np.diff(volts), 13 / 2 * 1.4e-3)
    assert volts.mean() == pytest.approx(0.5)
    assert adc.offset_sigma_v(1.4e-3) == pytest.approx(0.623e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("levels = 11", "levels = 1", "levels"),
        ("step_mac = 13.0", "step_mac = 0", "step_mac"),
        ("offset_sigma_mac = 0.89", "offset_sigma_mac = -1", "offset_sigma_mac"),
        ("offset_sigma_mac = 0.89", "offset_sigma = 0.89", "offset_sigma"),
    ],
)
def test_wrong_figures_are_refused_with_their_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (find("netlists", "sense", "column_adc") / "adc.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "adc.toml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        load_column_adc(tmp_path)
    assert "adc.toml:" in str(caught.value)
