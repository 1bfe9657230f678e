"""Static and charge-sharing columns: closed forms, the full column, files, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cosim.circuit.cell import load_cell
from cosim.circuit.column import ColumnBench, column_bench
from cosim.circuit.process import load_process
from cosim.errors import InputError
from cosim.fast import kernels, reference
from cosim.fast.build import build_fast_column
from cosim.fast.charge_share import ChargeShareColumn, Sharing
from cosim.fast.check import check
from cosim.fast.column import FastColumn
from cosim.fast.files import from_content, load_fast_column, save_fast_column, to_content
from cosim.spice.engine import Engine

ROWS = 16


def bench_of(name: str, **changes: float) -> ColumnBench:
    return column_bench(load_cell(name), load_process("generic65"), rows=ROWS, **changes)


@pytest.fixture(scope="module")
def static(engine: Engine) -> FastColumn:
    return build_fast_column(bench_of("xnor_8t_static", c_bit_line_f=20e-15), engine, seed=2, cells=64)


@pytest.fixture(scope="module")
def shared(engine: Engine) -> FastColumn:
    return build_fast_column(bench_of("cap_8t1c"), engine, seed=2)


def test_static_agrees_with_the_full_column(static: FastColumn, engine: Engine) -> None:
    # 64 cells of the bank instead of 240, and 16 rows average their error less than 64.
    result = check(
        static, bench_of("xnor_8t_static", c_bit_line_f=20e-15), engine, draws=4, counts=(0, 8, 15), bound_v=0.15e-3
    )
    assert result.passed, (result.bias_v, result.rms_v, result.sigma_error)
    assert (result.volts_a_count[:, 0] > 5e-3).all()


def test_a_row_dac_and_its_clamp(engine: Engine) -> None:
    bench = bench_of("dac_6t")
    fast = build_fast_column(bench, engine, seed=2, cells=64)
    # The servo finds its own word-line voltage, near the 0.5 V that the contract gives.
    assert 0.45 < float(fast.about["peak_v"]) < 0.55
    result = check(fast, bench, engine, draws=4, counts=(0, 8, 15))
    # A count is some 8 uA times 1 kohm, by the cells that were drawn: the bound is about 0.08 mV.
    assert 0.05e-3 < result.bound_v < 0.1e-3
    assert result.passed, (result.bias_v, result.rms_v, result.sigma_error)


def test_lines_that_have_not_settled_are_followed_in_time(engine: Engine) -> None:
    """The load of 16 rows takes 0.2 ns for a line of 80 fF: 5 mV away from rest after the contract's nanosecond."""
    bench = bench_of("xnor_8t_static")
    fast = build_fast_column(bench, engine, seed=2, cells=64)
    assert fast.about["unsettled_columns"] > 0
    result = check(fast, bench, engine, draws=4, counts=(0, 8, 15), bound_v=0.3e-3)
    assert result.passed, (result.bias_v, result.rms_v)


def test_capacitors_agree_with_the_full_column(shared: FastColumn, engine: Engine) -> None:
    result = check(shared, bench_of("cap_8t1c"), engine, draws=4, counts=(0, 4, 8, 12, 15))
    assert result.passed, (result.bias_v, result.rms_v, result.sigma_error)
    assert result.bound_v == pytest.approx(0.1 / 9.5 * result.volts_a_count[:, 0].min())
    assert np.isnan(result.bias_v[:, 1:]).all(), "one line has no second one and no difference"
    assert result.present.tolist() == [True, False, False]


def test_switches_whose_thresholds_matter(engine: Engine) -> None:
    """The averaging column's switches inject charge by their thresholds; its latch does nothing to a read."""
    bench = bench_of("avg_10t1c", word_line_v=0.3)
    fast = build_fast_column(bench, engine, seed=2)
    assert isinstance(fast, ChargeShareColumn)
    linear = dict(zip([device.name for device in bench.cell.devices], fast.sharing.effect[0].T, strict=True))
    # A higher threshold of the sharing switch (120 nm) leaves less of its channel's charge: about 0.1 fF of 2 fF a row.
    assert np.allclose(linear["mt10"], linear["mt10"].mean(), rtol=0.02)
    assert -0.08 < linear["mt10"].mean() < -0.04
    assert not linear["mpul"].any()
    result = check(fast, bench, engine, draws=4, counts=(0, 16))
    assert result.passed, (result.bias_v, result.rms_v, result.sigma_error, result.bound_v)
    # Below 0.01 mV; with effects a tenth too small 0.021 and 0.024 mV, which the bound in counts lets by.
    assert (result.rms_v[:, 0] < 0.02e-3).all(), result.rms_v


def test_a_rest_level_is_the_benchs(shared: FastColumn, engine: Engine) -> None:
    bench = dataclasses.replace(bench_of("cap_8t1c"), rest_level=0.0)
    unipolar = build_fast_column(bench, engine, seed=2)
    off, minus = (np.full((1, ROWS), value, np.int8) for value in (0, -1))
    none = np.zeros((1, ROWS, len(bench.cell.devices)))
    weights = np.ones_like(off)
    count_v = 0.4 / ROWS
    at = {name: fast.read(off, weights, none)[0, 0] - fast.read(minus, weights, none)[0, 0]
          for name, fast in (("bipolar", shared), ("unipolar", unipolar))}  # fmt: skip
    # A row that is off counts as one of -1 where the lines rest at 0, and half a count more where they rest in between.
    assert abs(at["unipolar"]) < 0.01 * count_v
    assert at["bipolar"] > 0.3 * ROWS * count_v


def test_capacitors_in_closed_form() -> None:
    """Two rows: V = V_r + (C_1 dV_1 + q_1 + C_2 dV_2 + q_2) / (C_1 + C_2 + C_p)."""
    step_v, charge_c = np.array([-0.2, 0.0, 0.2]), np.array([0.03e-15, 0.0, 0.07e-15])
    sharing = Sharing(2, 0.5, np.array([0.0, 2e-15]), 1e-15, charge_c, step_v, np.zeros(2), np.zeros((0, 3, 2)))
    fast = ChargeShareColumn(sharing, {})
    shifts = np.array([[[0.05, 0.1], [-0.05, -0.1]]])
    found = fast.read(np.array([[1, -1]], np.int8), np.ones((1, 2), np.int8), shifts)
    assert found[0, 0] == pytest.approx(0.5 + (2.2 * 0.2 - 1.8 * 0.2 + 0.1) / (2.2 + 1.8 + 1.0))
    assert np.isnan(found[0, 1])
    effect = np.zeros((2, 3, 2))
    effect[:, 2, 0] = 0.3, 0.9
    own = dataclasses.replace(sharing, effect=effect, bend=np.array([0.5, 0.0]))
    bent = ChargeShareColumn(own, {}).read(np.array([[1, -1]], np.int8), np.ones((1, 2), np.int8), shifts)
    u = found[0, 0] - 0.5
    assert bent[0, 0] == pytest.approx(0.5 + u + 0.5 * u**2 + 2.0 * (0.3 * 0.05 + 0.9 * 0.05**2) / 5.0)


def test_balance_equals_the_reference() -> None:
    generator = np.random.default_rng(3)
    cells = np.sort(generator.random((40, 3)), axis=0)
    given = 2 - 3 * np.linspace(0, 1, 40) ** 2 * np.ones((2, 1))
    coefficient = generator.random((9, 2, 3))
    found = kernels.balance(coefficient, cells, given, 0.1, 0.02)
    slow = [[reference.balance(coefficient[s, k], cells, given[k], 0.1, 0.02) for k in (0, 1)] for s in range(9)]
    np.testing.assert_allclose(found, slow, rtol=0, atol=1e-12)


def test_a_resistor_against_a_conductance() -> None:
    """(1 - V) / R = G V: V = 1 / (1 + R G)."""
    volts = np.linspace(0.0, 1.0, 11)
    found = kernels.balance(np.array([[[2.0]]]), volts[:, None], (1 - volts)[None] / 0.5, 0.0, 0.1)
    assert found[0, 0] == pytest.approx(1 / (1 + 0.5 * 2.0))
    assert kernels.at(volts[None] ** 1, np.array([[0.234]]), 0.0, 0.1)[0, 0] == pytest.approx(0.234)


@pytest.mark.parametrize("style", ["static", "shared"])
def test_files_give_the_same_bits(style: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    fast: FastColumn = request.getfixturevalue(style)
    save_fast_column(fast, tmp_path / "fast.h5")
    again = load_fast_column(tmp_path / "fast.h5")
    devices = len(load_cell("xnor_8t_static" if style == "static" else "cap_8t1c").devices)
    products = np.where(np.arange(ROWS) < 5, -1, 1).astype(np.int8)[None].repeat(3, 0)
    draw = products, np.ones_like(products), np.random.default_rng(1).normal(0, 0.01, (3, ROWS, devices))
    assert again.read(*draw).tobytes() == fast.read(*draw).tobytes()
    assert again.about == fast.about
    one = again.read(*(values[:1] for values in draw))
    assert one.tobytes() == fast.read(*draw)[:1].tobytes(), "the same bits in any batch"


def test_content_of_another_style_is_refused(shared: FastColumn) -> None:
    content = to_content(shared)
    with pytest.raises(InputError, match="'other'"):
        from_content(dataclasses.replace(content, attributes=content.attributes | {"fast_sensing": "other"}))
    with pytest.raises(InputError, match="incomplete"):
        from_content(dataclasses.replace(content, attributes=content.attributes | {"fast_sensing": "static"}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fast_device", 10**12),
        ("fast_parent", -1),
        ("fast_parent", 10**6),
        ("fast_features", 10**6),
        ("fast_scale_v", 0.0),
    ],
)
def test_indices_out_of_their_arrays_are_refused(static: FastColumn, name: str, value: float) -> None:
    """A compiled loop would follow them."""
    content = to_content(static)
    values = content.datasets[name].values.copy()
    values.flat[-1] = value
    datasets = dict(content.datasets) | {name: dataclasses.replace(content.datasets[name], values=values)}
    from_content(content)
    with pytest.raises(InputError, match="whose parts do not fit"):
        from_content(dataclasses.replace(content, datasets=datasets))
