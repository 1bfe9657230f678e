"""What a column has once a bit line beside its cells: a load, a clamp, a reset switch; and its phases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from cosim.circuit.contract import load_subcircuit
from cosim.circuit.contract_file import ContractFile
from cosim.circuit.names import Word

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=2)]
LineRole = Literal["line", "level", "gate", "gate_bar", "supply", "ground"]


@dataclass(frozen=True, slots=True)
class LineDevice:
    """A subcircuit of the cell's netlist that stands once on each bit line.

    Args:
        subcircuit: Its name.
        ports: What each port is joined to: the `line`, the `level` that the line is pre-charged or reset to, the
            reset's `gate` (high while it is on) and `gate_bar`, the supply, the ground.
        parameters: Its sizes, in metres, ohms or farads.
        per_row: Parameters that are multiplied by the rows: a switch grows with what it has to charge.
    """

    subcircuit: Word
    ports: dict[Word, LineRole]
    parameters: dict[Word, Positive] = field(default_factory=dict[str, float])
    per_row: tuple[Word, ...] = ()

    def instance(self, name: str, nodes: Mapping[str, str], rows: int, order: tuple[str, ...]) -> str:
        """Its line in a deck.

        Args:
            name: The element's name, beginning with x.
            nodes: The node of each role.
            rows: Rows of the column.
            order: The subcircuit's ports in order.
        """
        scale = {key: rows if key in self.per_row else 1 for key in self.parameters}
        sizes = [f"{key}={value * scale[key]:.9g}" for key, value in self.parameters.items()]
        return " ".join([name, *(nodes[self.ports[port]] for port in order), self.subcircuit, *sizes])


@dataclass(frozen=True, slots=True)
class Clamp:
    """Holds each bit line while its current is measured.

    Args:
        level: The voltage, in units of the supply.
        resistance_ohm: Between that voltage and the line.
        transimpedance_ohm: The read-out is the level less this times the line's current.
    """

    level: Fraction
    resistance_ohm: Positive
    transimpedance_ohm: Positive


@dataclass(frozen=True, slots=True)
class RowDac:
    """Sets each row's share of the full current.

    Args:
        drive: `replica`: a servo drives the word line until a replica cell at the hold voltage carries the share
            of full_scale_a. `voltage`: the word line is the share of the word-line voltage.
        full_scale_a: A cell's current at a share of 1, in amperes.
    """

    drive: Literal["replica", "voltage"]
    full_scale_a: Positive


@dataclass(frozen=True, slots=True)
class Clock:
    """A line that all rows share and that moves once or twice; in seconds from the start of the phases.

    Args:
        rise_s: When it begins to rise; without it, it is high from the beginning.
        fall_s: When it begins to fall; without it, it stays high.
        level: Its high level in units of the supply.
    """

    rise_s: Positive | None = None
    fall_s: Positive | None = None
    level: Fraction = 1.0


@dataclass(frozen=True, slots=True)
class Phases:
    """When what happens in a charge-sharing column, in seconds from the start.

    Args:
        release_s: The reset switches open.
        drive_s: The word lines leave their rest level; 0: they never were there.
        clocks: Ports of the cell that move with the phases.
    """

    release_s: Positive
    drive_s: NotNegative
    clocks: dict[Word, Clock] = field(default_factory=dict[str, Clock])

    @property
    def last_edge_s(self) -> float:
        """When the last edge of any line begins."""
        edges = [edge for clock in self.clocks.values() for edge in (clock.rise_s, clock.fall_s) if edge is not None]
        return max(self.release_s, self.drive_s, *edges)


def device_ports(file: ContractFile, netlist: str, table: str, device: LineDevice) -> tuple[str, ...]:
    """The ports of a line device in order.

    Raises:
        InputError: The netlist has no such subcircuit, or a port or parameter is not the subcircuit's.
    """
    found = load_subcircuit(file, netlist, device.subcircuit)
    for port in device.ports:
        file.require(port, found.ports, (table, "ports", port), f"{table}: port")
    for port in found.ports:
        if port not in device.ports:
            raise file.error((table, "ports"), f"port {port!r} of subcircuit {found.name!r} has no role")
    for name in device.parameters:
        file.require(name, found.parameters, (table, "parameters", name), f"{table}: parameter")
    for index, name in enumerate(device.per_row):
        file.require(name, device.parameters, (table, "per_row", index), f"{table}: parameter")
    if "line" not in device.ports.values():
        raise file.error((table, "ports"), f"[{table}] has no port on the line")
    return found.ports
