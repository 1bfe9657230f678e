"""A cell's contract as its file says it (cell.toml), checked against the subcircuit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from cosim.circuit.capacitor import CapacitorEntry
from cosim.circuit.contract import MismatchEntry, check_parameters, check_ports
from cosim.circuit.contract_file import ContractFile
from cosim.circuit.line_device import Clamp, LineDevice, Phases, RowDac, device_ports
from cosim.circuit.names import Line, Word
from cosim.circuit.subcircuit import Subcircuit

Fraction = Annotated[float, Field(ge=0, le=2)]
Positive = Annotated[float, Field(gt=0)]
Levels = dict[Word, Fraction]
Sensing = Literal["discharge", "static", "charge-share"]


@dataclass(frozen=True, slots=True)
class CellPorts:
    """The ports of a cell by role.

    Args:
        bit_lines: The lines that are read. Two: product -1 pulls the first down, product +1 the second. One: it is
            lower with every product of -1.
        word_lines: The driven word lines.
        storage: The storage nodes.
        supply: The supply.
        ground: The ground.
        held: Ports at a fixed level, in units of the supply: what writes the cell and is idle in a read.
    """

    bit_lines: Annotated[tuple[Word, ...], Field(min_length=1, max_length=2)]
    word_lines: tuple[Word, ...]
    storage: tuple[Word, ...]
    supply: Word
    ground: Word
    held: Levels = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class CellDefaults:
    """Bias, timing and size of a column of this cell.

    Args:
        vdd_v: Supply, in volts.
        word_line_v: Word-line voltage of a selected row, in volts.
        pulse_s: Word-line pulse between the half-way points of its edges, in seconds; `static` and `charge-share`:
            from the half-way point of the last edge to the read.
        edge_s: Rise and fall time of the word line, in seconds.
        c_bit_line_f: Capacitance on each bit line beside the transistors' own, in farads.
        rows: Rows of a column.
        settle_s: `discharge`: from the end of the falling edge to the read, in seconds.
    """

    vdd_v: Positive
    word_line_v: Positive
    pulse_s: Positive
    edge_s: Positive
    c_bit_line_f: Positive
    rows: Annotated[int, Field(gt=0)]
    settle_s: Annotated[float, Field(ge=0)] = 0.0


@dataclass(frozen=True, slots=True)
class CellRanges:
    """Where a cell may be operated: lowest and highest value; none given, nothing is refused."""

    vdd_v: tuple[float, float] | None = None
    word_line_v: tuple[float, float] | None = None
    pulse_s: tuple[float, float] | None = None
    c_bit_line_f: tuple[float, float] | None = None
    rows: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class CellFile:
    """cell.toml, key by key."""

    title: Line
    netlist: Line
    subcircuit: Word
    sensing: Sensing
    ports: CellPorts
    weight: dict[Literal["+1", "-1"], Levels]
    drive: dict[Literal["+1", "-1", "0"], Levels]
    precharge: Levels
    parameters: dict[Word, float]
    defaults: CellDefaults
    mismatch: dict[Word, MismatchEntry] = field(default_factory=dict[str, MismatchEntry])
    capacitors: dict[Word, CapacitorEntry] = field(default_factory=dict[str, CapacitorEntry])
    ranges: CellRanges = field(default_factory=CellRanges)
    load: LineDevice | None = None
    clamp: Clamp | None = None
    row_dac: RowDac | None = None
    reset: LineDevice | None = None
    phases: Phases | None = None


def check_cell(file: ContractFile, contract: CellFile, subcircuit: Subcircuit) -> dict[str, tuple[str, ...]]:
    """The ports in order of every line device, by its subcircuit's name.

    Raises:
        InputError: What does not fit the subcircuit or the sensing style; with line and column.
    """
    check_ports(file, subcircuit, _roles(contract))
    check_parameters(file, subcircuit, contract.parameters)
    needed = ("+1", "-1") if contract.sensing == "charge-share" else ("+1", "0")
    with file.part():
        _check_levels(file, "weight", contract.weight, ("+1", "-1"), contract.ports.storage)
    with file.part():
        _check_levels(file, "drive", contract.drive, needed, contract.ports.word_lines)
        _check_driven(file, contract)
    with file.part():
        _check_nodes(file, ("precharge",), contract.precharge, contract.ports.bit_lines)
    _check_ranges(file, contract)
    with file.part():
        _check_sensing(file, contract)
    devices = {"load": contract.load, "reset": contract.reset}
    return {
        device.subcircuit: device_ports(file, contract.netlist, table, device)
        for table, device in devices.items()
        if device is not None
    }


def _roles(contract: CellFile) -> dict[tuple[str | int, ...], str]:
    ports = contract.ports
    roles: dict[tuple[str | int, ...], str] = {("ports", "supply"): ports.supply, ("ports", "ground"): ports.ground}
    for role in ("bit_lines", "word_lines", "storage"):
        roles |= {("ports", role, i): name for i, name in enumerate(getattr(ports, role))}
    clocks = contract.phases.clocks if contract.phases else {}
    return roles | {("ports", "held", n): n for n in ports.held} | {("phases", "clocks", n): n for n in clocks}


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


def _check_driven(file: ContractFile, contract: CellFile) -> None:
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


def _check_ranges(file: ContractFile, contract: CellFile) -> None:
    for name in CellRanges.__dataclass_fields__:
        span = getattr(contract.ranges, name)
        value = getattr(contract.defaults, name)
        with file.part():
            if span is not None and not span[0] <= value <= span[1]:
                message = f"{name} = {value:g} is outside its range {span[0]:g}..{span[1]:g}"
                raise file.error(("defaults", name), message)


_TABLES: dict[Sensing, tuple[str, ...]] = {
    "discharge": (),
    "static": ("load", "clamp", "row_dac"),
    "charge-share": ("reset", "phases"),
}


def _check_sensing(file: ContractFile, contract: CellFile) -> None:
    """Each sensing style has its own tables, needs some of them, and takes none of another style's."""
    style, given = contract.sensing, {name for names in _TABLES.values() for name in names if getattr(contract, name)}
    for name in sorted(given - set(_TABLES[style])):
        raise file.error((name,), f"[{name}] does not belong to sensing {style!r}")
    if style == "discharge" and not contract.defaults.settle_s > 0:
        raise file.error(
            ("defaults",), "'defaults.settle_s' is missing", "from the pulse's end to the read, in seconds"
        )
    if style == "static" and (contract.load is None) == (contract.clamp is None):
        raise file.error(("sensing",), "sensing 'static' needs either [load] or [clamp]")
    if contract.row_dac is not None and contract.clamp is None:
        raise file.error(("row_dac",), "[row_dac] scales currents, which only a [clamp] measures")
    if style == "charge-share" and not {"reset", "phases"} <= given:
        raise file.error(("sensing",), "sensing 'charge-share' needs [reset] and [phases]")
