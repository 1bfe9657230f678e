"""Capacitors of a cell that have mismatch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from cosim.circuit.contract import MismatchEntry, check_shifts, mismatch_shifts
from cosim.circuit.contract_file import ContractFile
from cosim.circuit.names import Word
from cosim.circuit.process import Process
from cosim.circuit.subcircuit import Subcircuit

_SMALLEST_F, _LARGEST_F = 1e-18, 1e-6


@dataclass(frozen=True, slots=True)
class CapacitorEntry:
    """A capacitor with mismatch as a contract writes it: its type and the parameters of its value and deviation."""

    type: Word
    value: Word
    shift: Word


@dataclass(frozen=True, slots=True)
class CapacitorDevice:
    """A capacitor with mismatch.

    Args:
        name: The element's name in the subcircuit.
        type: Its type in the process (mom).
        value: The parameter that holds its capacitance, in farads.
        delvto: The parameter that holds its relative deviation; called as a transistor's shift is, so that a deck
            gives both to a row in the same way.
    """

    name: str
    type: str
    value: str
    delvto: str

    def sigma(self, parameters: Mapping[str, float], process: Process) -> float:
        """Standard deviation of its capacitance relative to itself."""
        found = process.capacitor(self.type)
        return capacitor_sigma(found.a_c_m, found.density_f_m2, parameters[self.value])


def capacitor_sigma(a_c_m: float, density_f_m2: float, capacitance_f: float) -> float:
    """Standard deviation of a capacitance relative to itself.

    Pelgrom's area law (JSSC 24(5), 1989) with the area that the capacitance takes: A_C / sqrt(C / density).

    Args:
        a_c_m: Coefficient, in metres (1 % um is 1e-8).
        density_f_m2: Capacitance per area, in farads a square metre.
        capacitance_f: In farads.

    Raises:
        ValueError: A value is not positive.

    >>> round(capacitor_sigma(1e-8, 1.5e-3, 2e-15), 5)
    0.00866
    """
    if not (a_c_m >= 0 and density_f_m2 > 0 and capacitance_f > 0):
        raise ValueError(f"expected positive values, got A={a_c_m}, density={density_f_m2}, C={capacitance_f}")
    return a_c_m / math.sqrt(capacitance_f / density_f_m2)


def check_capacitors(
    file: ContractFile,
    subcircuit: Subcircuit,
    parameters: Mapping[str, float],
    entries: Mapping[str, CapacitorEntry],
    mismatch: Mapping[str, MismatchEntry],
) -> tuple[CapacitorDevice, ...]:
    """The capacitors with mismatch, in the contract's order.

    Args:
        file: The contract.
        subcircuit: What it describes.
        parameters: Its sizes.
        entries: Its capacitors.
        mismatch: Its transistors, whose shifts the capacitors may not share.

    Raises:
        InputError: A capacitor or a parameter is not in the subcircuit, the capacitance has no value or none of a
            cell, or two devices share a shift.
    """
    for name, entry in entries.items():
        keys = ("capacitors", name)
        file.require(name, subcircuit.devices, keys, "capacitor")
        file.require(entry.shift, subcircuit.parameters, (*keys, "shift"), "parameter")
        file.require(entry.value, subcircuit.parameters, (*keys, "value"), "parameter")
        if entry.value not in parameters:
            raise file.error((*keys, "value"), f"{entry.value!r} has no value in [parameters]")
        if not _SMALLEST_F <= parameters[entry.value] <= _LARGEST_F:
            message = f"{entry.value}: expected 1e-18..1e-6 F, got {parameters[entry.value]:g}"
            raise file.error(("parameters", entry.value), message)
    own = {("capacitors", name, "shift"): entry.shift for name, entry in entries.items()}
    if own:
        with_transistors = mismatch_shifts(mismatch) | own
        check_shifts(file, parameters, with_transistors)
    return tuple(CapacitorDevice(name, entry.type, entry.value, entry.shift) for name, entry in entries.items())
