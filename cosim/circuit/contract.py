"""What the contracts of cells and sense amplifiers share: their folder, their ports, their mismatch devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cosim.circuit.contract_file import ContractFile
from cosim.circuit.guard import check_netlist
from cosim.circuit.kit import refuse_random
from cosim.circuit.names import Word
from cosim.circuit.process import Process, Quantity
from cosim.circuit.subcircuit import Subcircuit, parse_subcircuit

_SMALLEST_M, _LARGEST_M = 1e-9, 1e-3


@dataclass(frozen=True, slots=True)
class MismatchEntry:
    """A transistor with mismatch as a contract writes it: its type and the parameters of its size and shifts."""

    type: Word
    width: Word
    length: Word
    delvto: Word
    current: Word | None = None


@dataclass(frozen=True, slots=True)
class MismatchDevice:
    """A transistor with mismatch.

    Args:
        name: The element's name in the subcircuit.
        type: Its type in the process (nfet, pfet).
        width: The parameter that holds its width.
        length: The parameter that holds its length.
        delvto: The parameter that holds its shift.
        quantity: What is shifted: the threshold, in volts, or the current factor, relative to itself.
    """

    name: str
    type: str
    width: str
    length: str
    delvto: str
    quantity: Quantity = "vth"


def load_subcircuit(file: ContractFile, netlist: str, name: str) -> Subcircuit:
    """The subcircuit that a contract names, from its netlist after the guard's check.

    Raises:
        InputError: The netlist is missing or has no such subcircuit.
        UnsafeError: The netlist could run code or reach outside its folder.
    """
    if Path(netlist).name != netlist:
        raise file.error(("netlist",), f"expected a file beside the contract, got {netlist!r}")
    path = file.path.parent / netlist
    if not path.is_file():
        raise file.error(("netlist",), f"the netlist {netlist!r} is missing")
    # A cell's file may hold its own bench beside the subcircuit; only the subcircuit is used.
    subcircuit = parse_subcircuit(check_netlist(path, bench=True), name, place=str(path))
    refuse_random(
        "\n".join([*subcircuit.parameters.values(), *subcircuit.elements, *subcircuit.others]), place=str(path)
    )
    return subcircuit


def check_ports(file: ContractFile, subcircuit: Subcircuit, roles: Mapping[tuple[str | int, ...], str]) -> None:
    """Refuse roles for nodes that are no ports, ports with two roles, and ports with none.

    Args:
        file: The contract.
        subcircuit: What it describes.
        roles: The port at each key of the contract.

    Raises:
        InputError: At the key that is wrong.
    """
    seen: dict[str, tuple[str | int, ...]] = {}
    for keys, port in roles.items():
        with file.part():
            file.require(port, subcircuit.ports, keys, f"{_role(keys)}: port")
            if port in seen:
                raise file.error(keys, f"port {port!r} has two roles: {_role(seen[port])} and {_role(keys)}")
            seen[port] = keys
    for port in subcircuit.ports:
        with file.part():
            if port not in seen:
                raise file.error(("ports",), f"port {port!r} of subcircuit {subcircuit.name!r} has no role")


def check_parameters(file: ContractFile, subcircuit: Subcircuit, parameters: Mapping[str, float]) -> None:
    """Refuse unknown parameters and sizes that are not positive.

    Raises:
        InputError: At the parameter.
    """
    for name, value in parameters.items():
        keys = ("parameters", name)
        with file.part():
            file.require(name, subcircuit.parameters, keys, "parameter")
            if not value > 0:
                raise file.error(keys, f"{name} must be positive, got {value:g}", "sizes are in metres")


def check_mismatch(
    file: ContractFile,
    subcircuit: Subcircuit,
    parameters: Mapping[str, float],
    entries: Mapping[str, MismatchEntry],
) -> tuple[MismatchDevice, ...]:
    """The transistors with mismatch, in the contract's order.

    Raises:
        InputError: A device or a parameter is not in the subcircuit, a size has no value or none of a transistor, or
            two devices share a shift.
    """
    for name, entry in entries.items():
        keys = ("mismatch", name)
        with file.part():
            file.require(name, subcircuit.devices, keys, "device")
            _check_entry(file, subcircuit, parameters, entry, keys)
    for size in dict.fromkeys(size for entry in entries.values() for size in (entry.width, entry.length)):
        with file.part():
            _check_size(file, size, parameters.get(size, 0.0))
    check_shifts(file, parameters, mismatch_shifts(entries))
    return tuple(device for name, entry in entries.items() for device in _devices(name, entry))


def mismatch_shifts(entries: Mapping[str, MismatchEntry]) -> dict[tuple[str, ...], str]:
    """The parameter of each shift of transistors, by its key in the contract."""
    shifts = {("mismatch", name, "delvto"): entry.delvto for name, entry in entries.items()}
    more = {("mismatch", name, "current"): entry.current for name, entry in entries.items() if entry.current}
    return shifts | more


def check_shifts(file: ContractFile, parameters: Mapping[str, float], shifts: Mapping[tuple[str, ...], str]) -> None:
    """Refuse a shift that is a size, and two shifts through one parameter: a draw would change what it should not.

    Args:
        file: The contract.
        parameters: Its sizes.
        shifts: The parameter of each shift, by its key.

    Raises:
        InputError: At the key.
    """
    seen: dict[str, str] = {}
    for keys, name in shifts.items():
        with file.part():
            if name in parameters:
                raise file.error(keys, f"{keys[1]}: {name!r} is a size in [parameters], no shift")
            if name in seen:
                hint = "give each its own parameter of the subcircuit"
                raise file.error(keys, f"{keys[1]}: {name!r} shifts {seen[name]} already", hint)
            seen[name] = keys[1]


def device_sigmas(
    devices: tuple[MismatchDevice, ...], parameters: Mapping[str, float], process: Process, file: ContractFile
) -> Float[np.ndarray, "device"]:
    """Standard deviation of each transistor's shift, in volts (current factor: relative), in the contract's order.

    Raises:
        InputError: The process has no transistor of a type, or no value for a size; with the contract's line.
    """
    sigmas: list[float] = []
    for device in devices:
        with file.at(("mismatch", device.name.partition(".")[0], "type")):
            width_m, length_m = parameters[device.width], parameters[device.length]
            sigmas.append(process.device(device.type).sigma(device.quantity, width_m, length_m))
    return np.array(sigmas)


def _check_entry(
    file: ContractFile,
    subcircuit: Subcircuit,
    parameters: Mapping[str, float],
    entry: MismatchEntry,
    keys: tuple[str | int, ...],
) -> None:
    """The parameters that an entry names are the subcircuit's, and its sizes have values."""
    file.require(entry.delvto, subcircuit.parameters, (*keys, "delvto"), "parameter")
    if entry.current is not None:
        file.require(entry.current, subcircuit.parameters, (*keys, "current"), "parameter")
    for field, size in (("width", entry.width), ("length", entry.length)):
        file.require(size, subcircuit.parameters, (*keys, field), "parameter")
        if size not in parameters:
            raise file.error((*keys, field), f"{size!r} has no value in [parameters]")


def _check_size(file: ContractFile, name: str, value_m: float) -> None:
    """A width or length is one of a transistor; what is not positive or missing has been told before."""
    if value_m > 0 and not _SMALLEST_M <= value_m <= _LARGEST_M:
        hint = "sizes are in metres: 60e-9 is 60 nm"
        raise file.error(("parameters", name), f"{name}: expected 1e-9..1e-3 m, got {value_m:g}", hint)


def _devices(name: str, entry: MismatchEntry) -> list[MismatchDevice]:
    vth = MismatchDevice(name, entry.type, entry.width, entry.length, entry.delvto)
    if entry.current is None:
        return [vth]
    return [vth, MismatchDevice(f"{name}.current", entry.type, entry.width, entry.length, entry.current, "current")]


def _role(keys: tuple[str | int, ...]) -> str:
    names = [str(key) for key in keys if isinstance(key, str)]
    return names[-1].replace("_", " ")
