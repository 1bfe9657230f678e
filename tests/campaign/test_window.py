"""However many tasks there are, only a window of them is under way, on any executor."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosim.campaign import collect as collecting
from cosim.campaign.collect import collect
from cosim.campaign.recipe import load_campaign
from cosim.campaign.sampling import Samples, Task


class Counting(ThreadPoolExecutor):
    """Answers without ngspice and remembers how many tasks were under way."""

    def __init__(self, width: int = 0, fails_at: int = -1) -> None:
        super().__init__(2)
        self.width, self.fails_at = width, fails_at
        self.gate = threading.Event()
        self.submitted: list[int] = []
        self.futures: list[Future[Any]] = []

    def submit(self, fn: object, /, *args: Any, **kwargs: Any) -> Future[Any]:
        assert fn is collecting.run_task
        self.submitted.append(args[0].start)
        future = super().submit(self._answer, args[0], len(self.futures))
        self.futures.append(future)
        self.most = max(getattr(self, "most", 0), sum(not each.done() for each in self.futures))
        return future

    def _answer(self, task: Task, index: int) -> Samples:
        if index == self.fails_at:
            raise RuntimeError("a task failed")
        if 0 <= self.fails_at < index:
            self.gate.wait(3)
        count = task.stop - task.start
        values = {"bl_v": np.zeros(count), "blb_v": np.zeros(count), "flipped": np.zeros(count, np.int16)}
        about = {"sample": np.arange(task.start, task.stop, dtype=np.int32), "status": np.zeros(count, np.uint8)}
        return Samples(task, about | values, {})


@pytest.mark.parametrize(("width", "window"), [(0, 10), (3, 10), (12, 24)])
def test_only_a_window_of_tasks_is_under_way(
    width: int, window: int, tiny_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "WINDOW", 10)
    campaign = load_campaign(tiny_recipe(samples="160"))
    with Counting(width) as executor:
        progress = collect(campaign, tmp_path / "run", executor=executor)
        next(progress)
        assert executor.submitted == [], "nothing before it is asked for"
        next(progress)
        assert len(executor.submitted) == window
        assert list(progress)[-1].done == 960
    assert len(executor.submitted) == 60, "each task once"
    assert executor.most <= window


def test_a_failing_task_cancels_the_others(tiny_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "WINDOW", 10)
    campaign = load_campaign(tiny_recipe(samples="160"))
    with Counting(fails_at=5) as executor:
        with pytest.raises(RuntimeError, match="a task failed"):
            list(collect(campaign, tmp_path / "run", executor=executor))
        # Two threads are at work on one each; the rest of the window will never begin.
        assert any(future.cancelled() for future in executor.futures)
        assert sum(not future.done() for future in executor.futures) <= 2
        executor.gate.set()
    assert len(executor.submitted) <= 6 + 10
