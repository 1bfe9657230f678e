"""Perturbed comparators: their shifts, their tasks, and the gradient of an offset that is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosim import hdf5
from cosim.campaign import collect as collecting
from cosim.campaign.collect import collect, plan
from cosim.campaign.points import ComparatorPoint
from cosim.campaign.recipe import load_campaign
from cosim.campaign.sampling import Samples, Task, controls_of, run_task
from cosim.campaign.sensitivity import TOLERANCE_V, gradient_of, step_of
from cosim.spice.engine import Engine


@pytest.fixture
def recipe(tiny_recipe: Callable[..., Path]) -> Path:
    path = tiny_recipe(comparator=True)
    path.write_text(path.read_text() + 'method = "sensitivity"\n')
    return path


def perturbed(recipe: Path) -> list[Task]:
    return [task for task in plan(load_campaign(recipe), "39") if task.point.kind == "sensitivity"]


def test_each_device_is_shifted_up_and_down() -> None:
    steps = np.array([step_of(sample, 4) for sample in range(8)])
    np.testing.assert_array_equal(steps[0::2], np.eye(4))
    np.testing.assert_array_equal(steps[1::2], -np.eye(4))


def test_the_gradient_of_a_linear_offset() -> None:
    """In any order, with a constant and with curvature, which both signs take out."""
    slope, order = np.array([1.0, -2.0, 0.5]), np.array([3, 0, 5, 1, 4, 2])
    offsets = [3 + step_of(s, 3) @ slope + 0.7 * (step_of(s, 3) ** 2).sum() for s in order.tolist()]
    np.testing.assert_allclose(gradient_of(order, np.array(offsets)), slope)
    for missing in (order[:-1], order[:0]):
        with pytest.raises(ValueError, match="without both"):
            gradient_of(missing, np.array(offsets)[: missing.size])


def test_a_level_gets_two_comparators_a_device_at_the_tight_tolerance(recipe: Path) -> None:
    tasks = perturbed(recipe)
    assert [(task.start, task.stop) for task in tasks] == [(0, 16), (16, 22)] * 2
    point = tasks[0].point
    assert isinstance(point, ComparatorPoint)
    assert point.tolerance_v == TOLERANCE_V
    sigmas = point.bench.amplifier.vth_sigmas(point.bench.process)
    np.testing.assert_array_equal(point.draw(3, 5), -np.eye(11)[2] * sigmas)
    drawn = next(t.point for t in plan(load_campaign(recipe), "39") if t.point.kind == "comparator")
    assert drawn == replace(point, samples=16, tolerance_v=0.1, perturbed=False)


def test_a_real_comparator_s_input_pair_is_antisymmetric(recipe: Path, engine: Engine) -> None:
    """Both inputs are alike: their gradients differ in sign only, and are the largest with the latch's pair's."""
    first = perturbed(recipe)[0]
    samples = run_task(replace(first, start=2, stop=6, engine_version=engine.version), lambda _: engine)
    up_p, down_p, up_n, down_n = samples.columns["offset_v"]
    gradient_p, gradient_n = (up_p - down_p) / 2, (up_n - down_n) / 2
    # Two brackets of 20 uV each.
    assert gradient_p == pytest.approx(-gradient_n, abs=4 * TOLERANCE_V)
    assert 8e-3 < gradient_p < 20e-3


def test_the_file_holds_them_in_a_table_of_their_own(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(task: Task, **_: Any) -> Samples:
        count, controls = task.stop - task.start, controls_of(task)
        about = {"sample": np.arange(task.start, task.stop, dtype=np.int32), "status": np.zeros(count, np.uint8)}
        lines = {"bl_v": np.ones(count), "blb_v": np.ones(count), "flipped": np.zeros(count, np.int16)}
        offsets = {"offset_v": controls["control"] @ np.arange(11.0)} if "control" in controls else lines
        return Samples(task, about | offsets | controls, {})

    monkeypatch.setattr(collecting, "run_task", run)
    list(collect(load_campaign(recipe), tmp_path / "run"))
    content = hdf5.read(tmp_path / "run" / "samples.h5", filetype="cosim-samples", major=1)
    table = {name: data.values for name, data in content.datasets.items()}
    assert table["sensitivity_offset_v"].size == 2 * 22
    assert table["comparator_offset_v"].size == 2 * 16
    assert table["comparator_control"].shape == (32, 11)
    for level in (0.7, 0.9):
        at = table["sensitivity_level_v"] == level
        found = gradient_of(table["sensitivity_sample"][at], table["sensitivity_offset_v"][at])
        np.testing.assert_allclose(found, np.arange(11.0))
