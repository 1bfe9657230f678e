"""generic65 in ngspice: drive, leakage, swing, DIBL, corners and mismatch against CIRCUITS' targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from cosim.circuit.process import Process, load_process, vth_sigma

Sweep = Callable[[str], dict[str, np.ndarray]]

VDD_V, LOW_V = 1.0, 0.05
VTH_CURRENT_A = 1e-7 * 1e-6 / 60e-9
"""The usual constant-current threshold: 100 nA times W / L, here of 1 um / 60 nm."""


@dataclass(frozen=True)
class Figures:
    ion_ua: float
    ioff_na: float
    swing_mv: float
    dibl_mv: float
    vth_v: float


def transistor(sweep: Sweep, models: str, type_: str) -> Figures:
    """Figures of a transistor of 1 um / 60 nm at 27 C, all of them positive."""
    sign = 1 if type_ == "nfet" else -1
    text = f"""* one transistor, saturated and with a low drain voltage
{models}
.option temp=27
vg g 0 0
vsat s 0 {sign * VDD_V}
vlow l 0 {sign * LOW_V}
msat s g 0 0 {type_} w=1u l=60n
mlow l g 0 0 {type_} w=1u l=60n
.save v(g) i(vsat) i(vlow)
.dc vg 0 {sign * VDD_V} {sign * 0.005}
.end
"""
    found = sweep(text)
    gate = np.abs(found["v(g)"])
    current, low = np.abs(found["i(vsat)"]), np.abs(found["i(vlow)"])
    decades = np.log10(np.interp([0.05, 0.15], gate, current))
    vth, vth_low = (np.interp(np.log(VTH_CURRENT_A), np.log(i), gate) for i in (current, low))
    return Figures(
        ion_ua=current[-1] * 1e6,
        ioff_na=current[0] * 1e9,
        swing_mv=100 / float(np.diff(decades)[0]),
        dibl_mv=1e3 * (vth_low - vth) / (VDD_V - LOW_V),
        vth_v=float(vth),
    )


@pytest.fixture(scope="module")
def process() -> Process:
    return load_process("generic65")


@pytest.mark.parametrize(("type_", "ion_ua", "ioff_na"), [("nfet", 700, 1.5), ("pfet", 300, 0.4)])
def test_typical_transistors_meet_the_targets(
    sweep: Sweep, process: Process, type_: str, ion_ua: float, ioff_na: float
) -> None:
    """Ion and swing within 1 %, Ioff within 3 %: what the fit reached, rounded parameters included."""
    figures = transistor(sweep, process.models["tt"], type_)
    assert figures.ion_ua == pytest.approx(ion_ua, rel=0.01)
    assert figures.ioff_na == pytest.approx(ioff_na, rel=0.03)
    assert figures.swing_mv == pytest.approx(87, rel=0.01)
    assert 50 <= figures.dibl_mv <= 70


@pytest.mark.parametrize("type_", ["nfet", "pfet"])
def test_corners_move_each_type_as_their_names_say(sweep: Sweep, process: Process, type_: str) -> None:
    figures = {corner: transistor(sweep, text, type_) for corner, text in process.models.items()}
    letter = 0 if type_ == "nfet" else 1
    for corner, found in figures.items():
        like = {"t": "tt", "f": "ff", "s": "ss"}[corner[letter]]
        assert found == figures[like]
    for corner, direction in (("ff", -1), ("ss", +1)):
        shift_mv = 1e3 * (figures[corner].vth_v - figures["tt"].vth_v)
        # 35 mV by the card; the shorter channel and the mobility add to what a current shows.
        assert 33 < direction * shift_mv < 45
        assert 1.09 < (figures[corner].ion_ua / figures["tt"].ion_ua) ** -direction < 1.20


@pytest.mark.parametrize("type_", ["nfet", "pfet"])
def test_sigma_of_vth_in_ngspice_is_pelgroms(sweep: Sweep, process: Process, type_: str) -> None:
    """300 transistors of each of two areas: Vth spreads as A / sqrt(W L), and half as much in four times the area.

    A sample's sigma scatters by 1 / sqrt(2 * 299) = 4.1 %; 16 % is 3.9 sigma: one false alarm in 5000.
    """
    rng, count = np.random.default_rng(65), 300
    measured = []
    for width_m, length_m in ((120e-9, 60e-9), (240e-9, 120e-9)):
        sigma_v = vth_sigma(process.device(type_).a_vt_vm, width_m, length_m)
        shifts = rng.normal(size=count) * sigma_v
        vth = thresholds(sweep, process.models["tt"], type_, width_m, length_m, shifts)
        # delvto is added to VTH0 as the card counts it: a negative threshold becomes less negative. 2.5 % more than
        # the shift is seen, since the current at the threshold also depends on the field.
        follows = np.polyfit(shifts, vth, 1)[0]
        assert follows == pytest.approx(1 if type_ == "nfet" else -1, abs=0.04)
        measured.append(vth.std(ddof=1))
        assert measured[-1] == pytest.approx(sigma_v, rel=0.16)
    assert measured[0] / measured[1] == pytest.approx(2, rel=0.23)  # 4 sigma of a ratio of two such samples


def thresholds(
    sweep: Sweep, models: str, type_: str, width_m: float, length_m: float, shifts: np.ndarray
) -> np.ndarray:
    """Constant-current thresholds of transistors with the given delvto, in volts, positive."""
    sign = 1 if type_ == "nfet" else -1
    devices = [
        f"v{i} d{i} 0 {sign * VDD_V}\nm{i} d{i} g 0 0 {type_} w={width_m} l={length_m} delvto={shift:.9g}"
        for i, shift in enumerate(shifts)
    ]
    saved = " ".join(f"i(v{i})" for i in range(len(shifts)))
    analysis = f".save v(g) {saved}\n.dc vg 0 {sign * 0.6} {sign * 0.02}\n.end"
    found = sweep("\n".join(["* thresholds", models, ".option temp=27", "vg g 0 0", *devices, analysis, ""]))
    gate, level = np.abs(found["v(g)"]), np.log(1e-7 * width_m / length_m)
    currents = (np.abs(found[f"i(v{i})"]) for i in range(len(shifts)))
    return np.array([np.interp(level, np.log(current), gate) for current in currents])
