"""What an operating point needs before its samples: a safe bias where the recipe says auto, and the fast column at L2.

Both are kept in the run's folder, `bias/` and `fast/`, under the hash of all that they depend on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from cosim import hdf5
from cosim.campaign.auto_bias import BiasTask, FoundBias, run_bias
from cosim.campaign.fast_level import FULL, FastLevel, FastTask, level_of, pairs_off, run_fast
from cosim.campaign.filetypes import BIAS, FAST_LEVEL
from cosim.campaign.places import at_key
from cosim.campaign.points import ColumnPoint, column_bench_at
from cosim.campaign.recipe import Campaign
from cosim.campaign.sweep import OperatingPoint
from cosim.errors import CosimError, InputError

T = TypeVar("T")
R = TypeVar("R")


@runtime_checkable
class Run(Protocol):
    """Runs a function on tasks, in parallel, and gives each with its result as they complete."""

    def __call__(self, tasks: Sequence[T], fn: Callable[..., R]) -> Generator[tuple[T, R]]:
        """Each task with its result."""
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """An operating point, ready for its samples.

    Args:
        point: The operating point; its bias is `auto` only where it is not found yet.
        level: What reads its columns.
        bias: What the search for `auto` saw.
        waits: What is still to be done of "bias" and "fast"; empty once all is there.
    """

    point: OperatingPoint
    level: FastLevel = FULL
    bias: dict[str, float] = field(default_factory=dict[str, float])
    waits: tuple[str, ...] = ()

    def record(self, pairs: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """The operating point for the attribute `points` of samples.h5, for columns of these counts."""
        record = asdict(self.point) | {"level": self.level.level} | dict(self.level.figures)
        full = [list(pair) for pair in pairs if self.level.fast_at(pair) is None]
        if self.level.fast is not None and full:
            record["l0_pairs"] = full
        return record | ({"auto": self.bias} if self.bias else {})

    def describe(self, pairs: Sequence[tuple[int, int]]) -> str:
        """What became of the operating point, in one line for people."""
        if self.waits:
            return f"{self.point}: found by auto"
        about = [f"{self.point}: level {self.level.level}"]
        figures = self.level.figures
        if self.level.fast is not None:
            about.append(
                f"fast column within {figures['l2_bias_mv']:.3f} mV bias and {figures['l2_rms_mv']:.3f} mV rms"
            )
        if "l2_reason" in figures:
            full = sum(self.level.fast_at(pair) is None for pair in pairs)
            about.append(f"the full circuit reads {full} of {len(pairs)} counts, as {figures['l2_reason']}")
        return "; ".join(about)


def prepared(campaign: Campaign, out: Path, version: str) -> tuple[Prepared, ...]:
    """The operating points with what is in a run's folder already; nothing is run or written."""
    return tuple(_with_fast(campaign, out, version, i, _with_bias(campaign, out, version, i)) for i in _each(campaign))


def pairs_of(campaign: Campaign) -> tuple[tuple[int, int], ...]:
    """All counts of rows that pull BL and BLB at which columns are read."""
    column = campaign.recipe.column
    return (*column.counts, *((off.n_minus, off.n_plus) for off in column.rows_off))


def prepare(campaign: Campaign, out: Path, version: str, found: Sequence[Prepared], run: Run) -> Generator[Prepared]:
    """Do what operating points wait for and keep it in the run's folder; yields each at every step.

    Args:
        found: What `prepared` gave.

    Raises:
        InputError: No bias in the cell's range is safe; with the recipe's line.
    """
    ready = list(found)
    waiting = {i: bias_task(campaign, version, i) for i in _each(campaign) if "bias" in ready[i].waits}
    for index, result in _finished(waiting, run_bias, run):
        _keep_bias(campaign, out, index, waiting[index], result)
        bias = _with_bias(campaign, out, version, index)
        ready[index] = _with_fast(campaign, out, version, index, bias)
        yield ready[index]
    fasts = {i: fast_task(campaign, version, ready[i].point, i) for i in _each(campaign) if "fast" in ready[i].waits}
    for index, content in _finished(fasts, run_fast, run):
        kept = hdf5.Content(dict(content.attributes) | {"key": fasts[index].key}, content.datasets)
        _write(_fast_file(out, fasts[index]), kept, FAST_LEVEL)
        ready[index] = _with_fast(campaign, out, version, index, ready[index])
        yield ready[index]


def bias_task(campaign: Campaign, version: str, index: int) -> BiasTask:
    """The search for an operating point's bias."""
    recipe, point = campaign.recipe, campaign.operating_points[index]
    column = _column(campaign, index, point)
    task = BiasTask(column, point.auto, "", recipe.seed, recipe.engine, recipe.timeout_s, version)
    return replace(task, key=task.own_key(version))


def fast_task(campaign: Campaign, version: str, point: OperatingPoint, index: int) -> FastTask:
    """The building of an operating point's fast column."""
    recipe = campaign.recipe
    pairs = pairs_off(pairs_of(campaign), recipe.column.rows)
    run = (recipe.seed, recipe.engine, recipe.timeout_s, version)
    task = FastTask(_column(campaign, index, point), pairs, "", *run)
    return replace(task, key=task.own_key(version))


def _each(campaign: Campaign) -> range:
    return range(len(campaign.operating_points))


def _column(campaign: Campaign, index: int, point: OperatingPoint) -> ColumnPoint:
    """All rows on, half of them on each line."""
    bench = column_bench_at(campaign, index, point)
    return ColumnPoint(bench, bench.rows // 2, bench.rows - bench.rows // 2, 0, index, str(point))


def _finished(tasks: dict[int, T], fn: Callable[..., R], run: Run) -> Iterator[tuple[int, R]]:
    """The results with the operating points that they are of."""
    of = {id(task): index for index, task in tasks.items()}
    with closing(run(list(tasks.values()), fn)) as results:
        for task, result in results:
            yield of[id(task)], result


# --- In the run's folder ---


def _with_bias(campaign: Campaign, out: Path, version: str, index: int) -> Prepared:
    point = campaign.operating_points[index]
    if not point.auto:
        return Prepared(point)
    task = bias_task(campaign, version, index)
    about = _attributes(_bias_file(out, task), BIAS, task.key)
    try:
        found = FoundBias(float(about["word_line_v"]), float(about["pulse_s"]))  # type: ignore[arg-type]
        figures = {name: float(about[name]) for name in ("edge_mean_v", "edge_sigma_v", "lowest_v") if name in about}  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError):
        return Prepared(point, waits=("bias",))
    return Prepared(replace(point, word_line_v=found.word_line_v, pulse_s=found.pulse_s), bias=figures)


def _with_fast(campaign: Campaign, out: Path, version: str, index: int, ready: Prepared) -> Prepared:
    if campaign.recipe.column.level == "L0":
        return ready
    if "bias" in ready.waits:
        return replace(ready, waits=("bias", "fast"))
    task = fast_task(campaign, version, ready.point, index)
    try:
        content = hdf5.read(_fast_file(out, task), filetype=FAST_LEVEL[0], major=FAST_LEVEL[1][0])
        if content.attributes.get("key") != task.key:
            return replace(ready, waits=("fast",))
        return replace(ready, level=level_of(content), waits=())
    except CosimError:
        return replace(ready, waits=("fast",))


def _keep_bias(campaign: Campaign, out: Path, index: int, task: BiasTask, found: FoundBias) -> None:
    if found.failure:
        point = campaign.operating_points[index]
        with at_key(campaign.place, *campaign.place_of(index, point.auto[0])):
            raise InputError(f"{point}: {found.failure}", hint="give a bias, or leave this operating point out")
    about = {"key": task.key, "word_line_v": found.word_line_v, "pulse_s": found.pulse_s} | found.figures()
    _write(_bias_file(out, task), hdf5.Content(dict(about), {}), BIAS)


def _bias_file(out: Path, task: BiasTask) -> Path:
    return out / "bias" / f"{task.key[:24]}.h5"


def _fast_file(out: Path, task: FastTask) -> Path:
    return out / "fast" / f"{task.key[:24]}.h5"


def _write(path: Path, content: hdf5.Content, filetype: tuple[str, tuple[int, int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    hdf5.write(path, content, filetype=filetype[0], version=filetype[1])


def _attributes(path: Path, filetype: tuple[str, tuple[int, int]], key: str) -> dict[str, Any]:
    """A file's attributes; none where it is missing, damaged or of another key."""
    try:
        about = hdf5.read(path, filetype=filetype[0], major=filetype[1][0]).attributes
    except CosimError:
        return {}
    return dict(about) if about.get("key") == key else {}
