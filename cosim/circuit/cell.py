"""A bitcell: its subcircuit and its contract (cell.toml)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cosim.circuit.capacitor import CapacitorDevice, check_capacitors
from cosim.circuit.cell_file import CellDefaults, CellFile, CellPorts, CellRanges, Levels, check_cell
from cosim.circuit.contract import MismatchDevice, check_mismatch, device_sigmas, load_subcircuit
from cosim.circuit.contract_file import ContractFile
from cosim.circuit.folders import circuit_folder
from cosim.circuit.line_device import Clamp, LineDevice, Phases, RowDac
from cosim.circuit.names import folder_name
from cosim.circuit.process import Process
from cosim.circuit.subcircuit import Subcircuit
from cosim.config import load_toml

__all__ = ["Cell", "CellDefaults", "CellPorts", "CellRanges", "load_cell"]


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
        devices: The transistors with mismatch, then the capacitors, in the order of every `device` axis.
        defaults: Bias and timing.
        ranges: Where it may be operated.
        path: The contract, for messages.
        load: Static sensing: what each bit line is loaded with.
        clamp: Static sensing: what holds each bit line and measures its current.
        row_dac: Static sensing: what sets each row's share of the full current.
        reset: Charge sharing: each line's reset switch.
        phases: Charge sharing: when what happens.
        line_ports: The ports in order of each line device's subcircuit.
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
    devices: tuple[MismatchDevice | CapacitorDevice, ...]
    defaults: CellDefaults
    ranges: CellRanges
    path: Path
    load: LineDevice | None = None
    clamp: Clamp | None = None
    row_dac: RowDac | None = None
    reset: LineDevice | None = None
    phases: Phases | None = None
    line_ports: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def vth_sigmas(self, process: Process) -> Float[np.ndarray, "device"]:
        """Standard deviation of each device with mismatch: thresholds in volts, capacitors relative to themselves.

        Raises:
            InputError: The process has no transistor or capacitor of a type; with the contract's line.
        """
        transistors = tuple(device for device in self.devices if isinstance(device, MismatchDevice))
        capacitors = [device for device in self.devices if isinstance(device, CapacitorDevice)]
        file = ContractFile(self.path)
        own: list[float] = []
        for device in capacitors:
            with file.at(("capacitors", device.name, "type")):
                own.append(device.sigma(self.parameters, process))
        return np.concatenate([device_sigmas(transistors, self.parameters, process, file), own])

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
    contract = load_toml(file.path, CellFile)
    subcircuit = load_subcircuit(file, contract.netlist, contract.subcircuit)
    line_ports = check_cell(file, contract, subcircuit)
    transistors = check_mismatch(file, subcircuit, contract.parameters, contract.mismatch)
    capacitors = check_capacitors(file, subcircuit, contract.parameters, contract.capacitors, contract.mismatch)
    return Cell(
        name=folder_name(folder),
        title=contract.title,
        sensing=contract.sensing,
        subcircuit=subcircuit,
        ports=contract.ports,
        weight={int(key): levels for key, levels in contract.weight.items()},
        drive={int(key): levels for key, levels in contract.drive.items()},
        precharge=contract.precharge,
        parameters=contract.parameters,
        devices=(*transistors, *capacitors),
        defaults=contract.defaults,
        ranges=contract.ranges,
        path=file.path,
        load=contract.load,
        clamp=contract.clamp,
        row_dac=contract.row_dac,
        reset=contract.reset,
        phases=contract.phases,
        line_ports=line_ports,
    )
