"""Families: the simulated points themselves, between them with the stated error, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from synthetic_capacitors import Divider, divider_reads, pairs_of, write_divider
from synthetic_points import line_at, record, write_points

from cosim import hdf5
from cosim.errors import InputError, MeasuredWorseError
from cosim.surrogate import line_fit
from cosim.surrogate.between import Smoothness, weights
from cosim.surrogate.codes import code_probabilities
from cosim.surrogate.family import SurrogateFamily
from cosim.surrogate.family_files import is_family, load_at, load_family, save_family
from cosim.surrogate.files import load_surrogate, save_surrogate
from cosim.surrogate.fit import fit
from cosim.surrogate.model import Surrogate
from cosim.surrogate.operating import Request

GRID = [record("tt", v, t) for v, t in product((0.9, 1.0, 1.1), (-40.0, 27.0, 125.0))]


def fit_points(path: Path, records: list[dict[str, object]], **about: object) -> SurrogateFamily:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_fit, "BOOTSTRAPS", 3)
        found = fit(write_points(path, records, **about))  # type: ignore[arg-type]
    assert isinstance(found, SurrogateFamily)
    return found


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> SurrogateFamily:
    return fit_points(tmp_path_factory.mktemp("grid") / "samples.h5", [*GRID, record("ss", 1.0, 27.0)])


def test_a_simulated_point_is_its_own_fit(family: SurrogateFamily) -> None:
    for point, mine in zip(family.points, family.surrogates, strict=True):
        found = family.at(point.process, vdd_v=point.vdd_v, temp_c=point.temp_c)
        assert mine is not None
        np.testing.assert_array_equal(found.line.mean_v, mine.line.mean_v)
        assert found.validation == mine.validation
        assert found.provenance["operating_point"] == str(point)
        assert found.provenance["interpolated"] == 0


def test_beside_a_simulated_point_it_is_nearly_its_fit(family: SurrogateFamily) -> None:
    there, beside = family.at("tt", vdd_v=1.0, temp_c=27.0), family.at("tt", vdd_v=1.0 + 1e-6, temp_c=27.0)
    np.testing.assert_allclose(beside.line.mean_v, there.line.mean_v, rtol=0, atol=1e-5)
    np.testing.assert_allclose(beside.line.sigma_v, there.line.sigma_v, rtol=1e-3, atol=1e-7)


def test_between_points_the_error_is_the_stated_one(family: SurrogateFamily) -> None:
    """Against fits of what would have been simulated there, with the same draws: what differs is interpolation. The
    stated error is that of leaving out a point, whose neighbours are twice as far away: it is not exceeded."""
    stated = family.errors["tt"]
    assert stated["points"] == 5
    assert stated["extrapolated"] == 0
    rms_mv = []
    for v, t in ((0.95, 85.0), (1.07, -10.0), (0.93, 110.0), (1.02, 60.0)):
        found, true = family.at("tt", vdd_v=v, temp_c=t), line_at(record("tt", v, t))
        direct = family.at("tt", vdd_v=1.0, temp_c=27.0).line.mean_v - line_at(record("tt", 1.0, 27.0)).mean_v
        rms_mv.append(1e3 * np.sqrt(np.mean((found.line.mean_v - true.mean_v - direct) ** 2)))
        assert found.validation["interpolation_mean_mv"] == stated["mean_mv"]
        assert found.provenance["operating_point"] == f"tt {v:g} V {t:g} C, word line 0.5 V, pulse 150 ps"
        assert found.provenance["interpolated"] == 1
        assert (np.diff(found.line.mean_v) <= 0).all()
        assert (found.line.mean_error_v >= 1e-3 * stated["mean_mv"]).all()
    assert np.sqrt(np.mean(np.square(rms_mv))) < stated["mean_mv"]
    assert (
        np.ptp(
            family.at("tt", vdd_v=0.9, temp_c=27.0).line.mean_v - family.at("tt", vdd_v=1.1, temp_c=27.0).line.mean_v
        )
        > 0.01
    )
    assert stated["mean_mv"] < 10, "a tenth of what a supply step moves"
    assert stated["mean_counts"] > stated["mean_mv"] / 20


def test_sigmas_are_interpolated_as_logarithms(family: SurrogateFamily) -> None:
    """sigma goes as exp(0.2 v), the offsets' as exp(0.3 v), so that halfway it is the geometric mean."""
    ends = [family.at("tt", vdd_v=v, temp_c=27.0) for v in (0.9, 1.0)]
    found = family.at("tt", vdd_v=0.95, temp_c=27.0)
    mean = np.sqrt(ends[0].line.sigma_v * ends[1].line.sigma_v)[1:]
    np.testing.assert_allclose(found.line.sigma_v[1:], mean, rtol=0.02)
    for sensing, model in found.comparators.items():
        low, high = (each.comparators[sensing].offset_sigma_v for each in ends)
        np.testing.assert_allclose(model.offset_sigma_v, np.sqrt(low * high), rtol=0.02)
        assert model.amplifier in ("first", "second")


def test_codes_follow_from_it(family: SurrogateFamily) -> None:
    found = family.at("tt", vdd_v=0.95, temp_c=85.0)
    table = code_probabilities(found, "differential", 64, np.array([-0.2, 0.0, 0.2]))
    np.testing.assert_allclose(table.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"process": "ff", "vdd_v": 1.0, "temp_c": 27.0}, r"process corner ff was not simulated \(simulated: tt, ss\)"),
        ({"vdd_v": 1.0, "temp_c": 27.0}, r"no process corner given \(simulated: tt, ss\)"),
        ({"process": "tt", "vdd_v": 0.85, "temp_c": 27.0}, r"vdd_v = 0.85, but tt was simulated at 0.9 to 1.1"),
        ({"process": "tt", "vdd_v": 1.0, "temp_c": 130.0}, r"temp_c = 130, but tt was simulated at -40 to 125"),
        ({"process": "tt", "vdd_v": 1.0}, r"no temp_c given \(tt was simulated from -40 to 125\)"),
        ({"process": "ss", "vdd_v": 0.95, "temp_c": 27.0}, r"vdd_v = 0.95, but ss was simulated at 1 alone"),
        (
            {"process": "tt", "vdd_v": 1.0, "temp_c": 27.0, "word_line_v": 0.45},
            r"word_line_v = 0.45, but tt was simulated at 0.5 alone",
        ),
    ],
)
def test_what_was_not_simulated_is_refused(family: SurrogateFamily, asked: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        family.at(**asked)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_what_has_one_value_need_not_be_given(family: SurrogateFamily) -> None:
    np.testing.assert_array_equal(family.at("ss").line.mean_v, family.surrogates[-1].line.mean_v)  # type: ignore[union-attr]


@pytest.mark.parametrize(("how", "said"), [("flipped", "a cell flipped in 1 of 480 samples"), ("failed", "failed or")])
def test_a_masked_point_is_not_used_and_its_neighbours_are_refused(tmp_path: Path, how: str, said: str) -> None:
    """1.1 V at 125 C: the cell of the grid that it is a corner of is refused, the other one is not."""
    grid = [record("tt", v, t) for v, t in product((0.9, 1.0, 1.1), (27.0, 125.0))]
    family = fit_points(tmp_path / "samples.h5", grid, samples=32, **{how: [5]})
    assert family.surrogates[5] is None
    assert said in family.masked[5]
    with pytest.raises(InputError, match=f"the neighbouring point tt 1.1 V 125 C.* is masked: .*{said}"):
        family.at("tt", vdd_v=1.05, temp_c=100.0)
    with pytest.raises(InputError, match=r"the point tt 1.1 V 125 C.* is masked"):
        family.at("tt", vdd_v=1.1, temp_c=125.0)
    family.at("tt", vdd_v=0.95, temp_c=100.0)
    family.at("tt", vdd_v=1.0, temp_c=100.0)


def test_a_level_with_failures_is_masked_and_not_its_point(tmp_path: Path) -> None:
    """The first comparator's lowest level fails at 1.1 V: there, and between there and 1.0 V, it is as not measured."""
    path = write_points(tmp_path / "samples.h5", [record("tt", v, 27.0) for v in (0.9, 1.0, 1.1)])
    content = hdf5.read(path, filetype="cosim-samples", major=1)
    table = {name: data.values for name, data in content.datasets.items()}
    levels = np.unique(table["comparator_level_v"][table["comparator_amplifier"] == 0])
    at = (table["comparator_level_v"] == levels[0]) & (table["comparator_amplifier"] == 0)
    table["comparator_status"][np.flatnonzero(at & (table["comparator_point"] == 2))[:6]] = 6
    hdf5.write(path, content, filetype="cosim-samples", version=(1, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_fit, "BOOTSTRAPS", 3)
        family = fit(path)
    assert isinstance(family, SurrogateFamily)
    assert not any(family.masked)
    save_family(family, tmp_path / "family.h5")
    for each in (family, load_family(tmp_path / "family.h5")):
        low, between, high = (each.at("tt", vdd_v=v).comparators["single_ended"] for v in (0.9, 1.05, 1.1))
        assert np.isfinite(low.at(levels[:1]).sigma_v).all()
        for model in (between, high):
            assert model.good.tolist() == [False, *[True] * (levels.size - 1)]
            assert np.isfinite(model.at(levels[1:]).sigma_v).all()
            with pytest.raises(InputError, match=f"was measured from {levels[1]:.3f} to"):
                model.at(levels[:1])
        assert each.at("tt", vdd_v=1.1).validation["single_ended_masked_levels"] == 1
        assert each.at("tt", vdd_v=1.1).validation["differential_masked_levels"] == 0


def fit_changed(path: Path, change: Callable[[dict[str, np.ndarray]], np.ndarray]) -> SurrogateFamily:
    """Three supplies; `change` may write into the tables, and says which comparator samples there are."""
    write_points(path, [record("tt", v, 27.0) for v in (0.9, 1.0, 1.1)])
    content = hdf5.read(path, filetype="cosim-samples", major=1)
    table = {name: data.values for name, data in content.datasets.items()}
    mode_v = np.where(table["comparator_amplifier"] == 0, table["comparator_level_v"], 0.6)
    kept = change(table | {"comparator_common_mode_v": mode_v})
    data = dict(content.datasets)
    data["comparator_common_mode_v"] = replace(data["comparator_level_v"], values=mode_v)
    data |= {n: replace(each, values=each.values[kept]) for n, each in data.items() if n.startswith("comparator_")}
    hdf5.write(path, hdf5.Content(content.attributes, data), filetype="cosim-samples", version=(1, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_fit, "BOOTSTRAPS", 3)
        found = fit(path)
    assert isinstance(found, SurrogateFamily)
    return found


def test_levels_that_a_recipe_leaves_out_are_missing_nowhere(tmp_path: Path) -> None:
    """The highest single-ended level, and the higher common mode, are above the supply of the first point."""

    def change(table: dict[str, np.ndarray]) -> np.ndarray:
        first, single = table["comparator_point"] == 0, table["comparator_amplifier"] == 0
        high = table["comparator_sample"] % 2 == 1
        table["comparator_common_mode_v"][~single & high] = 0.9
        top = table["comparator_level_v"] == table["comparator_level_v"][single].max()
        return ~(first & np.where(single, top, high))

    family = fit_changed(tmp_path / "samples.h5", change)
    low, between, whole = (family.at("tt", vdd_v=v) for v in (0.9, 0.95, 1.0))
    for each in (low, between, whole):
        assert each.comparators["single_ended"].good.all()
        assert each.comparators["differential"].common_mode_v.tolist() == [0.6, 0.9]
        assert each.comparators["differential"].good.all()
    single, both = (low.comparators[sensing].offset_sigma_v for sensing in ("single_ended", "differential"))
    assert single[-1] == single[-2]
    np.testing.assert_array_equal(both[:, 0], both[:, 1])
    assert (np.diff(whole.comparators["differential"].offset_sigma_v, axis=1) != 0).all()
    assert low.validation["single_ended_masked_levels"] == 0


def test_a_common_mode_that_fails_masks_its_point(tmp_path: Path) -> None:
    """At the higher common mode only the level 0 was asked for; it fails at the second point, and nothing stands in."""

    def change(table: dict[str, np.ndarray]) -> np.ndarray:
        zero = (table["comparator_amplifier"] == 1) & (table["comparator_level_v"] == 0)
        high = zero & (table["comparator_sample"] % 2 == 1)
        table["comparator_common_mode_v"][high] = 0.9
        table["comparator_status"][high & (table["comparator_point"] == 1)] = 6
        return np.ones(zero.size, bool)

    family = fit_changed(tmp_path / "samples.h5", change)
    assert [bool(each) for each in family.masked] == [False, True, False]
    assert "too many samples of second failed at a common mode of 0.9 V" in family.masked[1]


def test_nothing_but_masked_points_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasuredWorseError, match=r"every operating point is masked; tt 0.9 V -40 C.*flipped"):
        fit_points(tmp_path / "samples.h5", GRID[:2], flipped=[0, 1])


def test_a_list_of_points_has_a_hull(tmp_path: Path) -> None:
    """A triangle: within its box, but not within it."""
    records = [record("tt", 0.9, 0.0), record("tt", 1.1, 0.0), record("tt", 0.9, 100.0)]
    family = fit_points(tmp_path / "samples.h5", records)
    with pytest.raises(InputError, match=r"vdd_v = 1.09, temp_c = 90.* outside the hull of the 3 points"):
        family.at("tt", vdd_v=1.09, temp_c=90.0)
    family.at("tt", vdd_v=0.95, temp_c=30.0)
    assert family.errors["tt"]["extrapolated"] == 1


def test_two_points_are_joined_by_a_straight_line(tmp_path: Path) -> None:
    family = fit_points(tmp_path / "samples.h5", [record(vdd_v=0.9), record(vdd_v=1.1)])
    low, high = (each.line.mean_v for each in family.surrogates if each is not None)
    np.testing.assert_allclose(family.at(vdd_v=0.95).line.mean_v, 0.75 * low + 0.25 * high, rtol=0, atol=1e-6)


def test_a_bias_that_was_found_for_each_corner_follows(tmp_path: Path) -> None:
    """Word lines of 0.45, 0.5 and 0.55 V at 0.9, 1.0 and 1.1 V: halfway between them unless it is asked for."""
    records = [record(vdd_v=v, word_line_v=v / 2) for v in (0.9, 1.0, 1.1)]
    family = fit_points(tmp_path / "samples.h5", records)
    assert "word line 0.475 V" in str(family.at(vdd_v=0.95).provenance["operating_point"])
    family.at(vdd_v=0.95, word_line_v=0.475)
    with pytest.raises(InputError, match=r"outside the hull"):
        family.at(vdd_v=0.95, word_line_v=0.5)


def test_weights_are_of_points_and_of_lines() -> None:
    """1 for the point itself; and they reproduce any straight line, whose residual is none."""
    points = np.array([[-1.0, -1], [1, -1], [-1, 1], [1, 1], [0, 0]])
    for smoothness in (Smoothness(1, 1.0), Smoothness(0, 0.5), Smoothness(2, 2.0)):
        np.testing.assert_allclose(weights(points, points[2], smoothness), [0, 0, 1, 0, 0], atol=1e-6)
    found = weights(points, np.array([0.3, -0.7]), Smoothness(1, 1.0))
    assert found @ (2 + points @ [3.0, 5.0]) == pytest.approx(2 + 0.9 - 3.5, abs=1e-6)


# --- Files ---


def test_a_file_comes_back(family: SurrogateFamily, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    family.save(path)
    assert is_family(path)
    back = load_family(path)
    assert (back.points, back.masked, back.errors) == (family.points, family.masked, family.errors)
    assert back.levels == family.levels == ({"level": "L0"},) * 10
    there, here = (each.at("tt", vdd_v=0.95, temp_c=85.0) for each in (back, family))
    np.testing.assert_array_equal(there.line.mean_v, here.line.mean_v)
    assert there.provenance == here.provenance
    for point, mine in zip(back.surrogates, family.surrogates, strict=True):
        assert point is not None
        assert mine is not None
        assert point.validation == mine.validation
    # Written again it is the same file but for its time.
    save_family(back, tmp_path / "b.h5")
    first, second = (
        hdf5.read(p, filetype="cosim-surrogate", major=1).attributes["content_hash"] for p in (path, tmp_path / "b.h5")
    )
    assert first == second


def test_a_masked_point_comes_back(tmp_path: Path) -> None:
    family = fit_points(tmp_path / "samples.h5", GRID[:3], flipped=[0])
    family.save(tmp_path / "a.h5")
    back = load_family(tmp_path / "a.h5")
    assert back.surrogates[0] is None
    assert back.masked == family.masked


def test_a_surrogate_between_points_is_a_file_of_its_own(family: SurrogateFamily, tmp_path: Path) -> None:
    save_surrogate(family.at("tt", vdd_v=0.95, temp_c=85.0), tmp_path / "a.h5")
    back = load_surrogate(tmp_path / "a.h5")
    assert back.provenance["operating_point"] == "tt 0.95 V 85 C, word line 0.5 V, pulse 150 ps"
    assert back.validation["interpolation_mean_mv"] == family.errors["tt"]["mean_mv"]


def test_a_family_is_no_surrogate_and_the_other_way_round(family: SurrogateFamily, tmp_path: Path) -> None:
    family.save(tmp_path / "a.h5")
    with pytest.raises(InputError, match=r"a family of several operating points .name one: --corner"):
        load_surrogate(tmp_path / "a.h5")
    with pytest.raises(InputError, match=r"of one operating point, expected a family"):
        load_family("xnor_8t")
    assert isinstance(load_at(tmp_path / "a.h5", Request("tt", 0.95, 85.0)), Surrogate)
    with pytest.raises(InputError, match=r"a.h5: no process corner given"):
        load_at(tmp_path / "a.h5", Request())


def test_a_surrogate_of_one_point_only_confirms_it(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_fit, "BOOTSTRAPS", 3)
        surrogate = fit(write_points(tmp_path / "samples.h5", [record()]))
    assert isinstance(surrogate, Surrogate)
    surrogate.save(tmp_path / "a.h5")
    load_at(tmp_path / "a.h5", Request())
    load_at(tmp_path / "a.h5", Request("tt", 1.0, 27.0))
    with pytest.raises(InputError, match=r"vdd_v = 0.95, but this surrogate is of one operating point with 1.0"):
        load_at(tmp_path / "a.h5", Request("tt", 0.95))
    nameless = {name: value for name, value in surrogate.provenance.items() if name != "points"}
    replace(surrogate, provenance=nameless).save(tmp_path / "b.h5")
    with pytest.raises(InputError, match=r"one operating point, which its file does not name"):
        load_at(tmp_path / "b.h5", Request("tt"))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("family", "[]", "no operating points"),
        ("family", "[[", "incomplete family"),
        ("family", '[{"masked": ""}]', "incomplete family: 'vdd_v'"),
        ("interpolation", "1", "incomplete family"),
    ],
)
def test_a_wrong_file_is_refused(family: SurrogateFamily, tmp_path: Path, name: str, value: str, said: str) -> None:
    family.save(tmp_path / "a.h5")
    content = hdf5.read(tmp_path / "a.h5", filetype="cosim-surrogate", major=1)
    changed = hdf5.Content(dict(content.attributes) | {name: value}, content.datasets)
    hdf5.write(tmp_path / "b.h5", changed, filetype="cosim-surrogate", version=(1, 2))
    with pytest.raises(InputError, match=said):
        load_family(tmp_path / "b.h5")


@pytest.mark.parametrize("points", ["{}", "[1]", '[{"process": "tt"}, {}]'])
def test_wrong_points_of_samples_are_refused(tmp_path: Path, points: str) -> None:
    path = write_points(tmp_path / "samples.h5", [record(), record(vdd_v=1.1)], samples=16)
    content = hdf5.read(path, filetype="cosim-samples", major=1)
    changed = hdf5.Content(dict(content.attributes) | {"points": points}, content.datasets)
    hdf5.write(path, changed, filetype="cosim-samples", version=(1, 1))
    with pytest.raises(InputError, match=r"incomplete samples"):
        fit(path)


def test_columns_of_one_line_have_families(tmp_path: Path) -> None:
    """The swing is the word-line voltage: halfway between two of them the line moves half as much more."""
    parts = []
    pairs = pairs_of(32, (16, 32), (0, 4, 8, 12, 16, 20, 24, 28))
    for index, swing_v in enumerate((0.3, 0.4, 0.5)):
        reads = divider_reads(Divider(swing_v=swing_v), pairs, 32, seed=1)
        path = write_divider(tmp_path / f"{index}.h5", reads, 32, "[column]\nactive_rows = [16, 32]\n")
        parts.append(hdf5.read(path, filetype="cosim-samples", major=1))
    datasets: dict[str, hdf5.Dataset] = {}
    for name, item in parts[0].datasets.items():
        values = np.concatenate([part.datasets[name].values for part in parts])
        datasets[name] = hdf5.Dataset(values, item.units, item.long_name, item.axes)
    for kind in ("column", "comparator"):
        size = parts[0].datasets[f"{kind}_status"].values.size
        which = np.repeat(np.arange(3, dtype=np.int32), size)
        datasets[f"{kind}_point"] = hdf5.Dataset(which, "1", "point", (f"{kind}_read",))
    points = (
        "["
        + ", ".join(
            f'{{"process": "tt", "vdd_v": 1, "temp_c": 27, "word_line_v": {v}, "pulse_s": 2e-10, "level": "L0"}}'
            for v in (0.3, 0.4, 0.5)
        )
        + "]"
    )
    changed = hdf5.Content(dict(parts[0].attributes) | {"points": points}, datasets)
    hdf5.write(tmp_path / "samples.h5", changed, filetype="cosim-samples", version=(1, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_fit, "BOOTSTRAPS", 3)
        family = fit(tmp_path / "samples.h5")
    assert isinstance(family, SurrogateFamily)
    family.save(tmp_path / "a.h5")
    found, true = load_family(tmp_path / "a.h5").at(word_line_v=0.35), Divider(swing_v=0.35)
    for minus, plus in ((0, 32), (16, 16), (30, 2), (4, 12), (10, 14)):
        moments = found.moments("single_ended", np.array([float(minus)]), np.array([float(plus)]))
        assert moments.mean_v[0] == pytest.approx(true.mean_v(minus, plus), abs=1e-3)
        assert moments.sigma_v[0] == pytest.approx(true.sigma_v(minus, plus), rel=0.4, abs=0.2e-3)
