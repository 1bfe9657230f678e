"""A bitcell: its subcircuit and its contract (cell.toml)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from cosim.circuit.contract import (
    ContractFile,
    MismatchDevice,
    MismatchEntry,
    check_mismatch,
    check_parameters,
    check_ports,
    device_sigmas,
    load_subcircuit,
)
from cosim.circuit.folders import circuit_folder
from cosim.circuit.process import Process
from cosim.circuit.subcircuit import Subcircuit
from cosim.config import load_toml

Fraction = Annotated[float, Field(ge=0, le=2)]
Positive = Annotated[float, Field(gt=0)]
Levels = dict[str, Fraction]


@dataclass(frozen=True, slots=True)
class CellPorts:
    """The ports of a cell by role.

    Args:
        bit_lines: Two lines: product -1 discharges the first, product +1 the second.
        word_lines: The driven word lines.
        storage: The storage nodes.
        supply: The supply.
        ground: The ground.
    """

    bit_lines: tuple[str, str]
    word_lines: tuple[str, ...]
    storage: tuple[str, ...]
    supply: str
    ground: str


@dataclass(frozen=True, slots=True)
class CellDefaults:
    """Bias, timing and size of a column of this cell.

    Args:
        vdd_v: Supply, in volts.
        word_line_v: Word-line voltage of a selected row, in volts.
        pulse_s: Word-line pulse between the half-way points of its edges, in seconds.
        edge_s: Rise and fall time of the word line, in seconds.
        settle_s: From the end of the falling edge to the read, in seconds.
        c_bit_line_f: Capacitance on each bit line beside the transistors' own, in farads.
        rows: Rows of a column.
    """

    vdd_v: Positive
    word_line_v: Positive
    pulse_s: Positive
    edge_s: Positive
    settle_s: Positive
    c_bit_line_f: Positive
    rows: Annotated[int, Field(gt=0)]


@dataclass(frozen=True, slots=True)
class CellRanges:
    """Where a cell may be operated: lowest and highest value; none given, nothing is refused."""

    vdd_v: tuple[float, float] | None = None
    word_line_v: tuple[float, float] | None = None
    pulse_s: tuple[float, float] | None = None
    c_bit_line_f: tuple[float, float] | None = None
    rows: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """A bitcell.

    Args:
        name: The folder's name.
        title: What it is, one line.
        sensing: How a column of it is read.
        subcircuit: Its transistors.
        ports: Its ports by role.
        weight: Storage node levels in units of the supply, by weight (+1, -1).
        drive: Word-line levels in units of the word-line voltage, by input (+1, 0, and -1 unless inputs are 0 and 1).
        precharge: Bit-line levels before the read in units of the supply.
        parameters: Sizes, in metres.
        devices: The transistors with mismatch, in the order of every `device` axis.
        defaults: Bias and timing.
        ranges: Where it may be operated.
        path: The contract, for messages.
    """

    name: str
    title: str
    sensing: str
    subcircuit: Subcircuit
    ports: CellPorts
    weight: Mapping[int, Levels]
    drive: Mapping[int, Levels]
    precharge: Levels
    parameters: Mapping[str, float]
    devices: tuple[MismatchDevice, ...]
    defaults: CellDefaults
    ranges: CellRanges
    path: Path

    def vth_sigmas(self, process: Process) -> Float[np.ndarray, "device"]:
        """Threshold-voltage standard deviation of each transistor with mismatch, in volts.

        Raises:
            InputError: The process has no transistor of a type.
        """
        return device_sigmas(self.devices, self.parameters, process)

    def states(self, product: int) -> tuple[tuple[int, int], ...]:
        """The (weight, input) pairs that give a product, as far as the cell has a drive for the input.

        Args:
            product: -1, 0 or +1.

        >>> load_cell("xnor_8t").states(-1)
        ((1, -1), (-1, 1))
        """
        pairs = ((weight, product * weight) for weight in (1, -1))
        return tuple((weight, input_) for weight, input_ in pairs if input_ in self.drive)


def load_cell(name_or_folder: str | Path) -> Cell:
    """A cell from its folder: `cell.toml` and the netlist that it names.

    Args:
        name_or_folder: A built-in name ("xnor_8t") or a folder of the user's own.

    Raises:
        InputError: The folder, the contract or the netlist is missing or wrong; with file and line.
        UnsafeError: The netlist could run code or reach outside its folder.
    """
    folder = circuit_folder(name_or_folder, "bitcells")
    file = ContractFile(folder / "cell.toml")
    contract = load_toml(file.path, _CellFile)
    subcircuit = load_subcircuit(file, contract.netlist, contract.subcircuit)
    _check(file, contract, subcircuit)
    devices = check_mismatch(file, subcircuit, contract.parameters, contract.mismatch)
    return Cell(
        name=folder.resolve().name,
        title=contract.title,
        sensing=contract.sensing,
        subcircuit=subcircuit,
        ports=contract.ports,
        weight={int(key): levels for key, levels in contract.weight.items()},
        drive={int(key): levels for key, levels in contract.drive.items()},
        precharge=contract.precharge,
        parameters=contract.parameters,
        devices=devices,
        defaults=contract.defaults,
        ranges=contract.ranges,
        path=file.path,
    )


@dataclass(frozen=True, slots=True)
class _CellFile:
    title: str
    netlist: str
    subcircuit: str
    sensing: Literal["discharge"]
    ports: CellPorts
    weight: dict[Literal["+1", "-1"], Levels]
    drive: dict[Literal["+1", "-1", "0"], Levels]
    precharge: Levels
    parameters: dict[str, float]
    mismatch: dict[str, MismatchEntry]
    defaults: CellDefaults
    ranges: CellRanges = field(default_factory=CellRanges)


def _check(file: ContractFile, contract: _CellFile, subcircuit: Subcircuit) -> None:
    ports = contract.ports
    roles: dict[tuple[str | int, ...], str] = {("ports", "supply"): ports.supply, ("ports", "ground"): ports.ground}
    for role in ("bit_lines", "word_lines", "storage"):
        roles |= {("ports", role, i): name for i, name in enumerate(getattr(ports, role))}
    check_ports(file, subcircuit, roles)
    check_parameters(file, subcircuit, contract.parameters)
    _check_levels(file, "weight", contract.weight, ("+1", "-1"), ports.storage)
    _check_levels(file, "drive", contract.drive, ("+1", "0"), ports.word_lines)
    _check_driven(file, contract)
    _check_nodes(file, ("precharge",), contract.precharge, ports.bit_lines)
    _check_ranges(file, contract)


def _check_levels(
    file: ContractFile,
    table: str,
    given: Mapping[Any, Levels],
    values: tuple[str, ...],
    nodes: tuple[str, ...],
) -> None:
    """Every value has a level for every node of the role, and for no other."""
    for value in values:
        if value not in given:
            raise file.error((table,), f"[{table}] has no entry for {value!r}")
    for value, levels in given.items():
        _check_nodes(file, (table, value), levels, nodes)


def _check_driven(file: ContractFile, contract: _CellFile) -> None:
    """A cell whose inputs are 0 and 1 has no entry for -1; then nothing may be left that only a -1 would drive."""
    for name in contract.ports.word_lines:
        if len({levels[name] for levels in contract.drive.values()}) == 1:
            hint = "" if "-1" in contract.drive else "; inputs 0 and 1 need none for '-1', other cells do"
            raise file.error(("drive",), f"[drive] never moves the word line {name!r}", f"give it a level{hint}")


def _check_nodes(file: ContractFile, keys: tuple[str, ...], levels: Levels, nodes: tuple[str, ...]) -> None:
    for name in levels:
        if name not in nodes:
            raise file.error((*keys, name), f"{keys[0]}: unknown node {name!r}", f"expected {', '.join(nodes)}")
    for name in nodes:
        if name not in levels:
            raise file.error(keys, f"{keys[0]}: {name!r} has no level")


def _check_ranges(file: ContractFile, contract: _CellFile) -> None:
    for name in CellRanges.__dataclass_fields__:
        span = getattr(contract.ranges, name)
        value = getattr(contract.defaults, name)
        if span is not None and not span[0] <= value <= span[1]:
            raise file.error(("defaults", name), f"{name} = {value:g} is outside its range {span[0]:g}..{span[1]:g}")
