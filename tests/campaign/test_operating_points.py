"""Operating points as axes: a grid or a list in the recipe, the same draws at each, told apart in the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cosim import hdf5
from cosim.campaign.collect import Progress, collect, plan
from cosim.campaign.filetypes import STATUS
from cosim.campaign.flips import Flips, flips_of
from cosim.campaign.points import ColumnPoint, ComparatorPoint, key_of, points_of
from cosim.campaign.recipe import Campaign, load_campaign
from cosim.campaign.schedule import schedule
from cosim.cli.plans import flip_lines, plan_lines
from cosim.errors import InputError

NO_CORNER = ("\n[corner]", 'process = "tt"', "vdd_v = 1.0", "temp_c = 27.0")


@pytest.fixture
def recipe(tmp_path: Path, tiny_text: Callable[..., str]) -> Callable[..., Path]:
    """The tiny recipe with lines more at its end, and without some."""

    def write(more: str = "", *, without: tuple[str, ...] = (), name: str = "tiny", **changes: str) -> Path:
        text = tiny_text(**changes)
        for line in without:
            assert line in text
            # The top level has a process too: that of the model cards.
            text = text.replace(f"{line}\n", "\n", 1)
        path = tmp_path / f"{name}.toml"
        path.write_text(text + more)
        return path

    return write


# --- Recipes ---


def test_a_grid_is_every_combination(recipe: Callable[..., Path]) -> None:
    path = recipe(
        '[sweep]\nprocess = ["ff", "ss"]\nvdd_v = [0.9, 1.1]\npulse_s = [1e-10]\n',
        without=('process = "tt"', "vdd_v = 1.0"),
    )
    points = load_campaign(path).operating_points
    assert [str(point) for point in points] == [
        f"{process} {vdd_v} V 27 C, word line 0.5 V, pulse 100 ps" for process in ("ff", "ss") for vdd_v in (0.9, 1.1)
    ]


def test_a_list_takes_what_it_does_not_name_from_the_recipe(recipe: Callable[..., Path]) -> None:
    path = recipe('[[point]]\nprocess = "ff"\nword_line_v = 0.45\n[[point]]\ntemp_c = 85\nword_line_v = "auto"\n')
    first, second = load_campaign(path).operating_points
    assert str(first) == "ff 1 V 27 C, word line 0.45 V, pulse 150 ps"
    assert str(second) == "tt 1 V 85 C, word line auto, pulse 150 ps"
    assert second.auto == ("word_line_v",)


def test_a_sweep_of_all_corners_needs_no_corner(recipe: Callable[..., Path]) -> None:
    path = recipe('[sweep]\nprocess = ["ff"]\nvdd_v = [0.9]\ntemp_c = [-40, 125]\n', without=NO_CORNER)
    assert [point.temp_c for point in load_campaign(path).operating_points] == [-40, 125]


def test_every_point_is_at_every_operating_point(recipe: Callable[..., Path]) -> None:
    path = recipe("[sweep]\nvdd_v = [0.9, 1.0]\n", without=("vdd_v = 1.0",), comparator=True)
    points = points_of(load_campaign(path))
    assert [point.operating for point in points] == [0] * 8 + [1] * 8
    assert [point.bench.corner.vdd_v for point in points] == [0.9] * 8 + [1.0] * 8
    assert len({point.label for point in points}) == 16


def test_active_rows_bring_their_own_counts(recipe: Callable[..., Path]) -> None:
    """At each number of rows that are on: the counts up to it, and it itself."""
    campaign = load_campaign(recipe("active_rows = [5, 8]\n"))
    counts = [(point.n_minus, point.n_plus) for point in points_of(campaign) if isinstance(point, ColumnPoint)]
    assert counts == [(0, 5), (1, 4), (2, 3), (4, 1), (5, 0), (0, 8), (1, 7), (2, 6), (4, 4), (6, 2), (8, 0)]


def test_draws_are_the_same_at_every_operating_point(recipe: Callable[..., Path]) -> None:
    """Common random numbers: differences between operating points scatter less than the points."""
    path = recipe('[[point]]\nprocess = "ff"\n[[point]]\nvdd_v = 0.9\nword_line_v = 0.4\n', comparator=True)
    points = points_of(load_campaign(path))
    for first, second in zip(points[:8], points[8:], strict=True):
        if isinstance(first, ColumnPoint) and isinstance(second, ColumnPoint):
            np.testing.assert_array_equal(first.draw(3, 5).products, second.draw(3, 5).products)
            np.testing.assert_array_equal(first.draw(3, 5).vth_shift_v, second.draw(3, 5).vth_shift_v)
        if isinstance(first, ComparatorPoint) and isinstance(second, ComparatorPoint):
            np.testing.assert_array_equal(first.draw(3, 5), second.draw(3, 5))


def test_the_key_of_an_old_recipe_is_what_it_was(recipe: Callable[..., Path]) -> None:
    """Golden: shards of one operating point from before there were several stay valid; else raise `points.FORMAT`.

    Another deck (netlist, model card, time step) changes it rightly.
    """
    points = points_of(load_campaign(recipe(comparator=True)))
    assert [key_of(point, 3, "shared", "39")[:12] for point in (points[0], points[-1])] == GOLDEN


Two = tuple[Campaign, Path, list[Progress]]
GOLDEN = ["c939657f1b47", "ed7bb19ef25c"]


def test_many_draws_are_those_of_single_samples(recipe: Callable[..., Path]) -> None:
    for cell in ('"xnor_8t"', '"hbnn_6t"'):
        point = points_of(load_campaign(recipe(cell=cell)))[3]
        assert isinstance(point, ColumnPoint)
        draws = point.draws(3, 10, 15)
        for index in range(5):
            one = point.draw(3, 10 + index)
            np.testing.assert_array_equal(draws.products[index], one.products)
            np.testing.assert_array_equal(draws.weights[index], one.weights)
            np.testing.assert_array_equal(draws.vth_shift_v[index], one.vth_shift_v)


WRONG = [
    ("[sweep]\nvdd_v = [0.9]\n[[point]]\nvdd_v = 0.9\n", 16, "both [sweep] and [[point]]"),
    ("[sweep]\nvdd_v = [0.9, 1.1]\n", 9, "corner.vdd_v is named in [sweep] too (leave one of them out)"),
    ("pulse_s = 1e-10\n[sweep]\npulse_s = [1e-10]\n", 16, "column.pulse_s is named in [sweep] too"),
    ("[[point]]\nvdd_v = 0.9\n[[point]]\nvdd_v = 1.1\n", 9, "corner.vdd_v is named in every [[point]] too"),
    ("[sweep]\nword_line_v = []\n", 17, "sweep.word_line_v names no value"),
    ("[sweep]\n", 16, "[sweep] names nothing"),
    ("[sweep]\nword_line_v = [0.4, 0.45, 0.4]\n", 17, "sweep.word_line_v names 0.4 twice"),
    ("[sweep]\nword_line = [0.4]\n", 17, "unknown key 'sweep.word_line'"),
    ('[sweep]\nword_line_v = ["auto"]\n', 17, "expected a number, got 'auto'"),
    ("[sweep]\nword_line_v = [0.4, 3.0]\n", 17, "word_line_v: expected 0.3..1.2, got 3"),
    ("[[point]]\ntemp_c = 85\n[[point]]\ntemp_c = 400\n[[point]]\n", 19, "temp_c must be in -100..250"),
    ("[[point]]\npulse_s = 1e-10\n[[point]]\npulse_s = 5e-12\n", 19, "pulse_s: expected 2e-11..1e-09, got 5e-12"),
    ('[[point]]\nprocess = "ff"\n[[point]]\nprocess = "fx"\n[[point]]\n', 19, "no corner 'fx'"),
    ("[[point]]\nword_line_v = 0.5\n[[point]]\npulse_s = 1e-10\n[[point]]\n", 20, "pulse 150 ps is named twice"),
    ("[[point]]\nvdd = 0.9\n", 17, "unknown key 'point[1].vdd'"),
    ('word_line_v = "automatic"\n', 16, "'auto'"),
    ('level = "L1"\n', 16, "'L0' or 'L2'"),
    ("samples_l0 = 16\n", 16, "column.samples_l0 goes with level L2, here it is L0"),
    ('level = "L2"\nsamples_l0 = 32\n', 17, "column.samples_l0 = 32, expected at most samples = 16"),
    ("active_rows = []\n", 16, "names no number of rows"),
    ("active_rows = [0]\n", 16, "at least 1"),
    ("active_rows = [4, 16]\n", 16, "column.active_rows has 16, expected 1 to rows = 8"),
    ("active_rows = [4, 8, 4]\n", 16, "column.active_rows names 4 twice"),
    ("active_rows = [4, 8]\nrows_off = [{ n_minus = 1, n_plus = 3 }]\n", 17, "1 + 3 is among the counts of active"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "line", "said"), WRONG, ids=[each[2] for each in WRONG])
def test_what_contradicts_itself_is_refused(recipe: Callable[..., Path], more: str, line: int, said: str) -> None:
    path = recipe(more)
    with pytest.raises(InputError) as caught:
        points_of(load_campaign(path))
    assert str(caught.value).startswith(f"{path}:{line}:"), str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_corner_that_nothing_names_is_missing(recipe: Callable[..., Path]) -> None:
    path = recipe('[sweep]\nprocess = ["ff"]\n', without=NO_CORNER)
    with pytest.raises(InputError, match=r"'corner' is missing, and nothing else names vdd_v"):
        load_campaign(path)


def test_a_comparator_level_out_of_range_at_one_supply_names_the_supply(recipe: Callable[..., Path]) -> None:
    path = recipe("[sweep]\nvdd_v = [0.9, 1.19]\n", without=("vdd_v = 1.0",), comparator=True)
    campaign = load_campaign(path)
    assert points_of(campaign)
    # A supply that the cell may have and the amplifier may not is said where the supply is named.
    path.write_text(path.read_text().replace("1.19", "5.0"))
    with pytest.raises(InputError, match=rf"{path}:24:1: vdd_v: expected"):
        points_of(load_campaign(path))


# --- Samples ---


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, tiny_text: Callable[..., str]) -> Two:
    """Two corners and, at the first, two word lines: the second flips cells."""
    folder = tmp_path_factory.mktemp("two")
    text = tiny_text(comparator=True, n_minus="[0, 1, 3, 4, 5, 7]").replace('process = "tt"\n', "")
    text = text.replace('cell = "xnor_8t"', 'cell = "xnor_8t"\nmax_failure_rate = 0.9')
    (folder / "two.toml").write_text(
        text + '[[point]]\nprocess = "ff"\nword_line_v = 0.45\n'
        '[[point]]\nprocess = "ff"\nword_line_v = 1.0\npulse_s = 1e-9\n[[point]]\nprocess = "ss"\n'
    )
    campaign = load_campaign(folder / "two.toml")
    return campaign, folder / "run", list(collect(campaign, folder / "run", workers=2))


def table_of(run: Path) -> tuple[hdf5.Content, dict[str, np.ndarray]]:
    content = hdf5.read(run / "samples.h5", filetype="cosim-samples", major=1)
    return content, {name: data.values for name, data in content.datasets.items()}


def test_the_file_tells_the_operating_points(two: Two) -> None:
    content, table = table_of(two[1])
    points = json.loads(str(content.attributes["points"]))
    assert points == [
        {"process": "ff", "vdd_v": 1.0, "temp_c": 27.0, "word_line_v": 0.45, "pulse_s": 1.5e-10, "level": "L0"},
        {"process": "ff", "vdd_v": 1.0, "temp_c": 27.0, "word_line_v": 1.0, "pulse_s": 1e-9, "level": "L0"},
        {"process": "ss", "vdd_v": 1.0, "temp_c": 27.0, "word_line_v": 0.5, "pulse_s": 1.5e-10, "level": "L0"},
    ]
    assert np.bincount(table["column_point"]).tolist() == [96, 96, 96]
    assert np.bincount(table["comparator_point"]).tolist() == [32, 32, 32]
    assert not table["column_level"].any()
    # The slow corner's lines fall least, at every count that pulls.
    means = [table["column_blb_v"][(table["column_point"] == p) & (table["column_n_plus"] == 8)].mean() for p in (0, 2)]
    assert means[0] < means[1]
    campaign = two[0]
    for corner in ("ff", "ss"):
        assert content.attributes[f"netlist_process_{corner}"] == campaign.process.corner_text(corner)
    assert "netlist_process" not in content.attributes


def test_comparators_are_simulated_once_where_only_the_word_line_differs(
    two: Two,
) -> None:
    _, table = table_of(two[1])
    assert two[2][-1].total == two[2][-1].fresh == 3 * 96 + 2 * 32
    offsets = [table["comparator_offset_v"][table["comparator_point"] == p] for p in range(3)]
    np.testing.assert_array_equal(offsets[0], offsets[1])
    keys = [{task.key for task in plan(two[0], "39") if task.point.operating == p} for p in range(3)]
    assert [len(keys[0] & keys[p]) for p in (1, 2)] == [2, 0]


def test_operating_points_are_told_as_they_come(two: Two) -> None:
    told = [progress.told for progress in two[2] if progress.told]
    assert len(told) == 3
    assert "ss 1 V 27 C, word line 0.5 V, pulse 150 ps: all samples are there" in told


def test_the_flip_map_names_where_cells_flip(two: Two) -> None:
    flips = flips_of(two[1] / "samples.h5")
    assert {each.point for each in flips} == {"ff 1 V 27 C, word line 1 V, pulse 1000 ps"}
    alone = next(each for each in flips if (each.n_minus, each.n_plus) == (1, 7))
    assert alone.share == 1.0
    assert alone.samples == 16
    _, table = table_of(two[1])
    assert sum(each.flipped for each in flips) == (table["column_status"] == STATUS.index("flipped")).sum()
    lines = flip_lines(flips)
    assert "1+7" in lines[0]
    assert lines[1].startswith("ff 1 V 27 C, word line 1 V, pulse 1000 ps")
    assert "100.0 %" in lines[1]


def test_a_run_without_flips_has_no_flip_map(two: Two, tmp_path: Path) -> None:
    content, table = table_of(two[1])
    status = np.where(table["column_status"] == 1, 0, table["column_status"]).astype(np.uint8)
    data = content.datasets["column_status"]
    quiet = hdf5.Dataset(status, data.units, data.long_name, data.axes)
    datasets = dict(content.datasets) | {"column_status": quiet}
    path = tmp_path / "samples.h5"
    hdf5.write(path, hdf5.Content(content.attributes, datasets), filetype="cosim-samples", version=(1, 1))
    assert flips_of(path) == ()
    assert flip_lines(()) == []


def test_a_file_of_the_first_version_has_one_operating_point(two: Two, tmp_path: Path) -> None:
    content, _ = table_of(two[1])
    later = ("column_point", "comparator_point", "column_level")
    datasets = {name: data for name, data in content.datasets.items() if name not in later}
    attributes = {name: value for name, value in content.attributes.items() if name != "points"}
    path = tmp_path / "samples.h5"
    hdf5.write(path, hdf5.Content(attributes, datasets), filetype="cosim-samples", version=(1, 0))
    assert {each.point for each in flips_of(path)} == {""}
    assert flip_lines(flips_of(path))[1].startswith("all points")


def test_the_plan_sums_up_operating_points(two: Two, tmp_path: Path) -> None:
    campaign, run, _ = two
    full = schedule(campaign, run, workers=1)
    assert full.left_s == 0
    assert [each.level for each in full.operating] == ["L0"] * 3
    lines = plan_lines(full)
    assert len(lines) == 1 + 2 * 3
    assert lines[1].startswith("ff 1 V 27 C, word line 0.45 V, pulse 150 ps: 6 counts")
    assert lines[1].split()[-5:-2] == ["L0", "96", "96"]
    empty = schedule(campaign, tmp_path / "none", workers=1)
    assert not (tmp_path / "none").exists()
    # Shared comparators are not counted twice.
    left = {point.operating: point.left_s for point in empty.points if point.label.startswith("strongarm")}
    assert left[1] == 0 < left[0]


def test_flips_without_samples_have_no_share() -> None:
    assert Flips("", 0, 8, 0, 0).share == 0


def test_the_same_tasks_from_the_same_recipe(two: Two) -> None:
    assert plan(two[0], "39") == plan(two[0], "39")
