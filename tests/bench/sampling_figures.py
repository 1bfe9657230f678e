"""What point sets, control variates and sensitivities are worth: rms errors over many repetitions, and their z-scores.

The fast column of the 8T cell stands for ngspice: 17,000 columns a second, so that truth and repetitions cost little.

Run: python tests/bench/sampling_figures.py column 32 256      (rows on BL, samples; half a minute)
     python tests/bench/sampling_figures.py curve 64           (samples a count; the fitted line against the truth)
     python tests/bench/sampling_figures.py comparator 0.6     (level in volts; 512 bisected offsets, a minute)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np

from cosim.campaign.moments import Moments, batches_of, moments
from cosim.campaign.points import ColumnPoint, ComparatorPoint
from cosim.campaign.sampling import Task, run_task
from cosim.campaign.sensitivity import TOLERANCE_V, gradient_of
from cosim.circuit.amplifier import load_amplifier
from cosim.circuit.cell import load_cell
from cosim.circuit.column import ColumnBench, column_bench
from cosim.circuit.comparator import comparator_bench
from cosim.circuit.process import load_process
from cosim.fast.build import build_fast_column
from cosim.spice.engine import open_engine
from cosim.surrogate.fit import ColumnSamples, fit_line

ROWS, REPEATS, TRUTH = 64, 100, 40_000
Read = Callable[[ColumnPoint, int, int], tuple[np.ndarray, np.ndarray]]


def reader(bench: ColumnBench) -> Read:
    """Reads samples `start` to `stop` of a point: lines (sample, line) in volts, controls (line, sample, control)."""
    engine = open_engine("shared")
    fast = build_fast_column(bench, engine)
    engine.close()

    def read(point: ColumnPoint, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        draws = point.draws(1, start, stop)
        return fast.read(draws.products, draws.weights, draws.vth_shift_v), point.controls(draws)

    return read


def column(n_minus: int, samples: int, bench: ColumnBench) -> None:
    """Errors of BL's mean, sigma and skewness, by method, with and without controls."""
    read = reader(bench)
    point = ColumnPoint(bench, n_minus, ROWS - n_minus, samples, method="latin")
    lines, controls = read(point, 2**20, 2**20 + TRUTH)
    truth = moments(lines[:, 0], controls[0])
    print(f"BL at {n_minus}: {truth.mean:.5f} V, sigma {1e3 * truth.variance**0.5:.2f} mV, skew {truth.skew:.3f}")
    print(f"{samples} samples, {REPEATS} repetitions: rms error (and in units of the stated error)")
    for method in ("random", "latin", "sobol"):
        drawn = ColumnPoint(bench, n_minus, ROWS - n_minus, samples, method=method)
        found: dict[str, list[Moments]] = {"plain": [], "control": []}
        for repeat in range(REPEATS):
            lines, controls = read(drawn, repeat * samples, (repeat + 1) * samples)
            batch = batches_of(np.arange(samples), drawn.batch, method)
            found["plain"].append(moments(lines[:, 0], None, batch))
            found["control"].append(moments(lines[:, 0], controls[0], batch))
        for name, each in found.items():
            print(f"  {method:6s} {name:8s} {errors(each, truth)}")


def errors(found: Sequence[Moments], truth: Moments) -> str:
    """The rms errors as text, each with the rms of error over stated error."""
    sigma = truth.variance**0.5
    columns = (
        ("mean {:.3f} mV", 1e3, [(m.mean - truth.mean, m.mean_error) for m in found]),
        ("sigma {:.2f} %", 100, [(m.variance**0.5 / sigma - 1, 1 / np.sqrt(2 * m.freedom)) for m in found]),
        ("skew {:.3f}", 1, [(m.skew - truth.skew, m.skew_error) for m in found]),
    )
    texts = []
    for text, scale, pairs in columns:
        error, stated = np.array(pairs).T
        texts.append(f"{text.format(scale * rms(error))} ({rms(error / stated):.2f})")
    return "  ".join(texts)


def curve(samples: int, bench: ColumnBench) -> None:
    """The line model fitted to 15 counts against the truth at all, by method; rms over 12 fits and all counts."""
    read = reader(bench)
    every = [ColumnPoint(bench, n, ROWS - n, samples, method="latin") for n in range(ROWS + 1)]
    truth = []
    for point in every:
        lines, controls = read(point, 2**20, 2**20 + 4096)
        truth.append(moments(lines[:, 0], controls[0]))
    true = np.array([[m.mean, m.variance**0.5, m.skew] for m in truth]).T
    counts = (0, 1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 60, 62, 63, 64)
    for method in ("random", "latin"):
        for with_controls in (False, True):
            z, absolute = [], []
            for repeat in range(12):
                line = fit_line(_reads(read, bench, counts, samples, method, repeat, with_controls), ROWS)
                found = np.array([line.mean_v, line.sigma_v, line.skew])
                stated = np.array([line.mean_error_v, line.sigma_error_v, line.skew_error])
                z.append(((found - true) / np.maximum(stated, 1e-9))[:, 1:])
                absolute.append((found - true)[:, 1:])
            error, score = ([rms(np.array(each)[:, i]) for i in range(3)] for each in (absolute, z))
            name = f"{method} {'control' if with_controls else 'plain'}"
            print(
                f"  {name:15s} mean {1e3 * error[0]:.3f} mV ({score[0]:.2f})  sigma {1e3 * error[1]:.3f} mV "
                f"({score[1]:.2f})  skew {error[2]:.3f} ({score[2]:.2f})"
            )


def _reads(
    read: Read, bench: ColumnBench, counts: Sequence[int], samples: int, method: str, repeat: int, with_controls: bool
) -> ColumnSamples:
    parts = []
    for n_minus in counts:
        point = ColumnPoint(bench, n_minus, ROWS - n_minus, samples, method=method)
        lines, controls = read(point, repeat * samples, (repeat + 1) * samples)
        index = np.arange(samples)
        place = np.tile([float(n_minus), float(ROWS - n_minus)], (samples, 1))
        parts.append((*place.T, index.astype(float), *lines.T, batches_of(index, point.batch, method) * 1.0, *controls))
    columns = [np.concatenate(each) for each in zip(*parts, strict=True)]
    return ColumnSamples(*columns[: None if with_controls else 6])


def comparator(level_v: float) -> None:
    """Errors of the offset's sigma from n bisected samples and the gradient, against those from 256 plain ones."""
    amplifier, process = load_amplifier("strongarm"), load_process("generic65")
    bench = comparator_bench(amplifier, process, common_mode_v=level_v)
    devices, total = len(amplifier.devices), 512
    drawn = ComparatorPoint(bench, "strongarm", "single_ended", level_v, 0.32, 0.5e-3, total)
    stepped = ComparatorPoint(
        bench, "strongarm", "single_ended", level_v, 0.32, TOLERANCE_V, 2 * devices, perturbed=True
    )
    engine = open_engine("shared")
    offset_v, step_v = (
        run_task(Task(point, "", 1, 0, point.samples, "shared", 60.0, engine.version), lambda _: engine).columns[
            "offset_v"
        ]
        for point in (drawn, stepped)
    )
    engine.close()
    gradient = gradient_of(np.arange(2 * devices), step_v)
    predicted = np.array([drawn.controls(1, index) for index in range(total)]) @ gradient
    unit = (predicted / np.linalg.norm(gradient))[:, None]
    truth, plain = moments(offset_v, unit), moments(offset_v)
    print(f"{level_v:g} V: gradient alone {1e3 * np.linalg.norm(gradient):.2f} mV, 512 samples "
          f"{1e3 * plain.variance**0.5:.2f} mV, with gradient {1e3 * truth.variance**0.5:.2f} mV, "
          f"r2 {np.corrcoef(predicted, offset_v)[0, 1] ** 2:.4f}")  # fmt: skip
    print(f"  256 samples, plain: sigma {100 / np.sqrt(2 * 255):.2f} % (normal theory)")
    for size in (16, 32, 64):
        sets = [slice(start, start + size) for start in range(0, total, size)]
        print(f"  {size} samples with the gradient: {errors([moments(offset_v[s], unit[s]) for s in sets], truth)}")


def rms(values: np.ndarray) -> float:
    """The root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


if __name__ == "__main__":
    what, *numbers = sys.argv[1:]
    if what == "comparator":
        comparator(float(numbers[0]))
    else:
        chosen = column_bench(load_cell("xnor_8t"), load_process("generic65"), rows=ROWS)
        {"column": column, "curve": curve}[what](*map(int, numbers), chosen)
