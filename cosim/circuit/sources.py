"""Sources of the test benches."""

from __future__ import annotations

from collections.abc import Iterable


def edge_pulse(name: str, node: str, peak_v: float, start_s: float, edge_s: float, width_s: float) -> str:
    """A source that rises from 0 to its peak, stays, and falls again, once.

    Args:
        name: Name of the element, beginning with v.
        node: Its node; the other one is ground.
        peak_v: The peak, in volts.
        start_s: When it begins to rise, in seconds.
        edge_s: Rise and fall time, in seconds.
        width_s: From the half-way point of the rise to that of the fall, in seconds.

    >>> edge_pulse("vwl", "wl", 0.5, 1e-11, 1e-11, 1.5e-10)
    'vwl wl 0 pulse(0 0.5 1e-11 1e-11 1e-11 1.4e-10 1)'
    """
    times = f"{start_s:.9g} {edge_s:.9g} {edge_s:.9g} {width_s - edge_s:.9g} 1"
    return f"{name} {node} 0 pulse(0 {peak_v:.9g} {times})"


def time_marks(times_s: Iterable[float]) -> list[str]:
    """Sources of nothing that make ngspice place a time step at each given time.

    ngspice 39 asks for a pulse's next corner only once a step has ended at the last one. When rounding ends that
    step a little early the rest of the pulse has no corners, and a step may jump over an edge (seen in 3 % of
    random pulses; 25 mV on a bit line). Here every corner has a source of its own, asked for at time 0.

    >>> time_marks([2e-12])
    ['vmark0 mark0 0 pwl(0 0 2e-12 0)']
    """
    return [f"vmark{i} mark{i} 0 pwl(0 0 {time_s:.9g} 0)" for i, time_s in enumerate(times_s)]


def level_steps(name: str, node: str, first_v: float, steps: Iterable[tuple[float, float]], edge_s: float) -> str:
    """A source that begins at a level and goes to others, one edge each.

    Args:
        name: Name of the element, beginning with v.
        node: Its node; the other one is ground.
        first_v: Where it begins, in volts.
        steps: When each edge begins, in seconds, and where it goes, in volts; in order.
        edge_s: How long an edge takes, in seconds.

    >>> level_steps("vmwl", "mwl", 0.2, [(1e-10, 0.4)], 1e-11)
    'vmwl mwl 0 pwl(0 0.2 1e-10 0.2 1.1e-10 0.4)'
    """
    points, level_v = [(0.0, first_v)], first_v
    for start_s, next_v in steps:
        points += [(start_s, level_v), (start_s + edge_s, next_v)]
        level_v = next_v
    return f"{name} {node} 0 pwl({' '.join(f'{time_s:.9g} {value_v:.9g}' for time_s, value_v in points)})"
