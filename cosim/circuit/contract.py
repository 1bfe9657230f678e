"""What the contracts of cells and sense amplifiers share: their folder, their ports, their mismatch devices."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cosim.circuit.guard import check_netlist
from cosim.circuit.process import Process, vth_sigma
from cosim.circuit.subcircuit import Subcircuit, parse_subcircuit
from cosim.errors import InputError
from cosim.text_files import read_text


@dataclass(frozen=True, slots=True)
class MismatchEntry:
    """A transistor with mismatch as a contract writes it: its type and the parameters of its size and shift."""

    type: str
    width: str
    length: str
    delvto: str


@dataclass(frozen=True, slots=True)
class MismatchDevice:
    """A transistor with mismatch.

    Args:
        name: The element's name in the subcircuit.
        type: Its type in the process (nfet, pfet).
        width: The parameter that holds its width.
        length: The parameter that holds its length.
        delvto: The parameter that holds its threshold shift.
    """

    name: str
    type: str
    width: str
    length: str
    delvto: str


@dataclass(frozen=True, slots=True)
class ContractFile:
    """A contract's file, to say where in it an error is."""

    path: Path

    def error(self, keys: tuple[str | int, ...], message: str, hint: str | None = None) -> InputError:
        """An InputError at the line and column of a key; at its nearest parent where the key is missing."""
        from cosim.toml_places import key_places  # tree-sitter is needed only to tell where an error is.

        places = key_places(read_text(self.path))
        while keys and keys not in places:
            keys = keys[:-1]
        line, column = places.get(keys, (1, 1))
        return InputError(message, place=f"{self.path}:{line}:{column}", hint=hint)

    def require(self, name: str, known: Iterable[str], keys: tuple[str | int, ...], what: str) -> None:
        """Refuse a name that is not known.

        Raises:
            InputError: With the nearest known name, or the list of them.
        """
        names = list(known)
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names) or 'none'}"
            raise self.error(keys, f"{what} {name!r} is not in the subcircuit", hint)


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
    return parse_subcircuit(check_netlist(path, bench=True), name, place=str(path))


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
        file.require(port, subcircuit.ports, keys, f"{_role(keys)}: port")
        if port in seen:
            raise file.error(keys, f"port {port!r} has two roles: {_role(seen[port])} and {_role(keys)}")
        seen[port] = keys
    missing = [port for port in subcircuit.ports if port not in seen]
    if missing:
        raise file.error(("ports",), f"port {missing[0]!r} of subcircuit {subcircuit.name!r} has no role")


def check_parameters(file: ContractFile, subcircuit: Subcircuit, parameters: Mapping[str, float]) -> None:
    """Refuse unknown parameters and sizes that are not positive.

    Raises:
        InputError: At the parameter.
    """
    for name, value in parameters.items():
        keys = ("parameters", name)
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
        InputError: A device or a parameter is not in the subcircuit, or a size has no value.
    """
    for name, entry in entries.items():
        keys = ("mismatch", name)
        file.require(name, subcircuit.devices, keys, "device")
        file.require(entry.delvto, subcircuit.parameters, (*keys, "delvto"), "parameter")
        for field, size in (("width", entry.width), ("length", entry.length)):
            file.require(size, subcircuit.parameters, (*keys, field), "parameter")
            if size not in parameters:
                raise file.error((*keys, field), f"{size!r} has no value in [parameters]")
    return tuple(
        MismatchDevice(name, entry.type, entry.width, entry.length, entry.delvto) for name, entry in entries.items()
    )


def device_sigmas(
    devices: tuple[MismatchDevice, ...], parameters: Mapping[str, float], process: Process
) -> Float[np.ndarray, "device"]:
    """Threshold-voltage standard deviation of each transistor, in volts, in the contract's order.

    Raises:
        InputError: The process has no transistor of a type.
    """
    return np.array(
        [vth_sigma(process.device(d.type).a_vt_vm, parameters[d.width], parameters[d.length]) for d in devices]
    )


def _role(keys: tuple[str | int, ...]) -> str:
    names = [str(key) for key in keys if isinstance(key, str)]
    return names[-1].replace("_", " ")
