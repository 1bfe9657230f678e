"""A wrong recipe gets one line: the place, what came, what was expected, and a suggestion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cosim.campaign.points import points_of
from cosim.campaign.recipe import load_campaign
from cosim.errors import InputError
from cosim.resources import data_folder

WRONG = [
    ({"samples": "16\nsamplse = 2"}, 16, "unknown key 'column.samplse'", "did you mean 'samples'?"),
    ({"seed": "-1"}, 3, "at least 0", "-1"),
    ({"seed": str(2**63)}, 3, "at most 9", str(2**63)),
    ({"seed": "1.5"}, 3, "a whole number", "1.5"),
    ({"samples": "15"}, 15, "at least 16", "15"),
    ({"samples": "16\npulse_s = -1e-10"}, 16, "greater than 0", "-1e-10"),
    ({"samples": "16\npulse_s = nan"}, 16, "finite", "nan"),
    ({"rows": "0"}, 13, "at least 1", "0"),
    ({"n_minus": "[0, 1, 2, 4, 6, 9]"}, 14, "column.n_minus has 9", "expected 0 to rows = 8"),
    ({"n_minus": "[0, 1, 2, 4, 6, -1]"}, 14, "at least 0", "-1"),
    ({"n_minus": "[0, 1, 2, 4, 6, 4]"}, 14, "column.n_minus names 4 twice", ""),
    ({"n_minus": "[0, 1, 4, 8]"}, 14, "5 different counts", "expected at least 6"),
    ({"n_minus": "[0, 1, 2, 4, 6, 8]\nrows_off = [{ n_minus = 4, n_plus = 4 }]"}, 15, "leaves no row of 8 off", ""),
    ({"cell": '"xnor_9t"'}, 4, "there is no 'xnor_9t'", "did you mean 'xnor_8t'?"),
    ({"process": '"generic66"'}, 5, "there is no 'generic66'", "did you mean 'generic65'?"),
    ({"vdd_v": "5.0"}, 9, "vdd_v: expected 0.7..1.2, got 5", "cell.toml"),
    ({"samples": "16\nword_line_v = 3.0"}, 16, "word_line_v: expected 0.3..1.2, got 3", "cell.toml"),
    ({"seed": "3\nengine = \"spectre\""}, 4, "'shared' or 'batch'", "'spectre'"),
    ({"seed": ""}, 3, "not valid TOML", ""),
]  # fmt: skip

WRONG_COMPARATOR = [
    ({"amplifier": '"strongam"'}, 18, "there is no 'strongam'", "did you mean 'strongarm'?"),
    ({"sensing": '"differential"'}, 19, "strongarm cannot sense differential", "no input for a second reference"),
    ({"amplifier": '"strongarm_differential"'}, 19, "cannot sense single_ended", "inputs for two references"),
    ({"level_v": "[0.7, 0.7]"}, 20, "level_v names 0.7 twice", ""),
    ({"tolerance_v": "1e-300"}, 22, "at least 1e-06", "1e-300"),
    ({"level_v": "[0.7]"}, 20, "at least 2", ""),
    ({"level_v": "[0.7, 3.0]"}, 20, "common_mode_v: expected 0..1.2, got 3", "amplifier.toml"),
    ({"level_v": "[0.7, 0.8]\nparameters = { w_tial = 1e-7 }"}, 21, "strongarm has no parameter 'w_tial'", "w_tail"),
    ({"level_v": "[0.7, 0.8]\nparameters = { w_tail = 0.0 }"}, 21, "greater than 0", "0.0"),
    ({"level_v": "[0.7, 0.8]\nparameters = { w_tail = nan }"}, 21, "finite", "nan"),
    ({"level_v": "[0.7, 0.8]\nparameters = { w_tail = 120.0 }"}, 21, "at most 0.001", "120.0"),
    ({"level_v": "[0.7, 0.8]\ndecision_s = 0.8"}, 21, "at most 1e-06", "0.8"),
    ({"level_v": "[0.7, 0.8]\ndecision_s = 1e-11"}, 21, "more than the clock's rise of 2e-11", "decision_s = 1e-11"),
]


@pytest.mark.parametrize(("changes", "line", "came", "expected"), WRONG)
def test_a_wrong_recipe_is_refused(
    tiny_recipe: Callable[..., Path], changes: dict[str, str], line: int, came: str, expected: str
) -> None:
    _refused(tiny_recipe(**changes), line, came, expected)


@pytest.mark.parametrize(("changes", "line", "came", "expected"), WRONG_COMPARATOR)
def test_a_wrong_comparator_is_refused(
    tiny_recipe: Callable[..., Path], changes: dict[str, str], line: int, came: str, expected: str
) -> None:
    _refused(tiny_recipe(comparator=True, **changes), line, came, expected)


def _refused(path: Path, line: int, came: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        points_of(load_campaign(path))
    said = str(caught.value)
    assert said.startswith(f"{path}:{line}:"), said
    assert came in said
    assert expected in said
    assert "\n" not in said
    assert caught.value.exit_code == 2


def test_two_comparators_of_one_style_are_refused(tiny_recipe: Callable[..., Path]) -> None:
    path = tiny_recipe(comparator=True)
    text = path.read_text()
    path.write_text(text + text[text.index("[[comparator]]") :])
    with pytest.raises(InputError, match="sensing names single_ended twice"):
        load_campaign(path)


def test_an_unknown_corner_is_refused(tiny_recipe: Callable[..., Path]) -> None:
    path = tiny_recipe()
    path.write_text(path.read_text().replace('process = "tt"', 'process = "tx"'))
    with pytest.raises(InputError, match=r"tiny.toml:8:1: .*no corner 'tx'"):
        load_campaign(path)


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(InputError, match=r"there is no 'quik\.toml'.*did you mean 'quick\.toml'"):
        load_campaign("quik")


@pytest.mark.parametrize("path", sorted(data_folder("characterization").glob("*.toml")), ids=lambda path: path.stem)
def test_the_shipped_recipes_load(path: Path) -> None:
    campaign = load_campaign(path)
    assert points_of(campaign)
    # A column of one line is read by a stated converter.
    both = {"single_ended", "differential"} if len(campaign.cell.ports.bit_lines) == 2 else set()
    assert {each.sensing for each in campaign.recipe.comparator} == both


def test_a_run_folder_of_the_recipe_s_name_is_no_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick").mkdir()
    (tmp_path / "mine").mkdir()
    assert load_campaign("quick").recipe.title.startswith("Quick")
    with pytest.raises(InputError, match=r"mine/recipe.toml: no such file"):
        load_campaign("mine")
