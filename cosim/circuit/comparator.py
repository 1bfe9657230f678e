"""A comparator deciding once: its test bench as a deck."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cosim.circuit.amplifier import SenseAmplifier
from cosim.circuit.corner import Corner
from cosim.circuit.deck import Deck, title_line
from cosim.circuit.process import Process
from cosim.circuit.sources import edge_pulse, time_marks
from cosim.errors import InputError

START_S = 5e-12
"""When the clock begins to rise."""


@dataclass(frozen=True, slots=True)
class ComparatorBench:
    """A comparator at one reference level, clocked once with held inputs.

    The inputs are ideal sources: kick-back onto a floating bit line is not in this bench.

    Args:
        amplifier: The comparator.
        process: Its process.
        corner: Process corner, supply and temperature.
        common_mode_v: Common mode of the inputs (two inputs: the reference level), in volts.
        reference_v: Difference of the two references (four inputs), in volts.
        decision_s: From the half-way point of the clock's edge to the reading of the outputs, in seconds. The
            default suits common modes from 0.4 V up; below, the comparator is slow (see its README).
        time_step_s: The longest time step, in seconds.

    Raises:
        InputError: A value is out of its range.
    """

    amplifier: SenseAmplifier
    process: Process
    corner: Corner
    common_mode_v: float
    reference_v: float
    decision_s: float
    time_step_s: float = 5e-12

    def __post_init__(self) -> None:
        """Refuse values out of their range."""
        for name, value in (("common_mode_v", self.common_mode_v), ("vdd_v", self.corner.vdd_v)):
            span = getattr(self.amplifier.ranges, name)
            if span is not None and not span[0] <= value <= span[1]:
                raise InputError(
                    f"{name}: expected {span[0]:g}..{span[1]:g}, got {value:g}",
                    hint=f"the range in {self.amplifier.path}",
                )
        if not self.decision_s > self.amplifier.defaults.clock_rise_s:
            raise InputError(f"decision_s must be longer than the clock's rise, got {self.decision_s:g}")
        if not 0 < self.time_step_s <= self.decision_s:
            raise InputError(f"time_step_s must be positive and at most decision_s, got {self.time_step_s:g}")

    @property
    def read_time_s(self) -> float:
        """When the outputs are read, in seconds."""
        return START_S + self.amplifier.defaults.clock_rise_s / 2 + self.decision_s


def comparator_bench(
    amplifier: SenseAmplifier,
    process: Process,
    corner: Corner | None = None,
    *,
    common_mode_v: float | None = None,
    reference_v: float | None = None,
    decision_s: float | None = None,
) -> ComparatorBench:
    """A bench with the comparator's defaults for everything that is not given.

    Raises:
        InputError: A value is out of its range.
    """
    defaults = amplifier.defaults
    return ComparatorBench(
        amplifier,
        process,
        corner or Corner("tt", defaults.vdd_v, 27.0),
        defaults.common_mode_v if common_mode_v is None else common_mode_v,
        defaults.reference_v if reference_v is None else reference_v,
        defaults.decision_s if decision_s is None else decision_s,
    )


def comparator_deck(bench: ComparatorBench, differential_v: float, vth_shift_v: Float[np.ndarray, "device"]) -> Deck:
    """The deck of one decision.

    The input-referred offset is the differential at which the decision turns.

    Args:
        bench: The comparator and its reference level.
        differential_v: Signal above its reference, in volts.
        vth_shift_v: Threshold shift of each transistor with mismatch, in volts, in the order of
            amplifier.devices; added to the card's VTH0.

    Returns:
        A deck with the two outputs as probes, read once at bench.read_time_s.

    Raises:
        InputError: The shifts have the wrong shape or are not finite, or the process lacks the corner.
    """
    amplifier = bench.amplifier
    if vth_shift_v.shape != (len(amplifier.devices),) or not np.isfinite(vth_shift_v).all():
        raise InputError(f"expected {len(amplifier.devices)} finite shifts, got shape {vth_shift_v.shape}")
    lines = [
        title_line(f"{amplifier.name}: one decision, {bench.corner}"),
        *_options(bench),
        bench.process.corner_text(bench.corner.process).strip(),
        *amplifier.subcircuit.render(amplifier.parameters, bench.process.model_names),
        *_sources(bench, differential_v),
        _instance(amplifier, vth_shift_v),
        *(f".save v({node})" for node in amplifier.ports.outputs),
        f".tran {bench.time_step_s:.9g} {bench.read_time_s:.9g} 0 {bench.time_step_s:.9g}",
        ".end",
    ]
    return Deck("\n".join(lines) + "\n", amplifier.ports.outputs, (bench.read_time_s,))


def decision(bench: ComparatorBench, values: Float[np.ndarray, "probe time"]) -> int:
    """What the comparator decided: +1 (signal above the reference), -1, or 0 where it has not decided yet.

    Undecided means that the outputs differ by less than a quarter of the supply. Where both sides are exactly alike
    the rounding of the simulator decides.
    """
    difference_v = float(values[0, -1] - values[1, -1])
    if abs(difference_v) < bench.corner.vdd_v / 4:
        return 0
    return 1 if difference_v > 0 else -1


def _options(bench: ComparatorBench) -> list[str]:
    """Temperature, method and tolerances.

    vntol is a microvolt: a difference of 0.1 mV between the inputs must outweigh Newton's rest in the latch.
    """
    return [
        f".option temp={bench.corner.temp_c:.9g} method=trap reltol=1e-3 abstol=1e-9 vntol=1e-6 chgtol=1e-16",
    ]


def _sources(bench: ComparatorBench, differential_v: float) -> list[str]:
    amplifier, vdd_v = bench.amplifier, bench.corner.vdd_v
    rise_s, clock = amplifier.defaults.clock_rise_s, amplifier.ports.clock
    lines = [f"vdd vdd 0 {vdd_v:.9g}"]
    lines.append(edge_pulse("vclock", clock, vdd_v, START_S, rise_s, 0.5))
    lines += time_marks([START_S, START_S + rise_s])
    for name, share in amplifier.inputs.items():
        level_v = bench.common_mode_v + share.differential * differential_v + share.reference * bench.reference_v
        lines.append(f"v{name} {name} 0 {level_v:.12g}")
    loads = (f"c{name} {name} 0 {amplifier.defaults.c_load_f:.9g}" for name in amplifier.ports.outputs)
    return [*lines, *loads]


def _instance(amplifier: SenseAmplifier, shifts: Float[np.ndarray, "device"]) -> str:
    ports = amplifier.ports
    nodes = {name: name for name in amplifier.subcircuit.ports} | {ports.supply: "vdd", ports.ground: "0"}
    shift = [f"{d.delvto}={value:.9g}" for d, value in zip(amplifier.devices, shifts, strict=True) if value]
    return " ".join(["x0", *(nodes[p] for p in amplifier.subcircuit.ports), amplifier.subcircuit.name, *shift])
