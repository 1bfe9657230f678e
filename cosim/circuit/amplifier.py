"""A sense amplifier (comparator): its subcircuit and its contract (amplifier.toml)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

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
from cosim.circuit.names import Line, Word, folder_name
from cosim.circuit.process import Process
from cosim.circuit.subcircuit import Subcircuit
from cosim.config import load_toml

Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, slots=True)
class AmplifierPorts:
    """The ports of a comparator by role; the first output ends high when the decision is +1."""

    clock: Word
    outputs: Annotated[tuple[Word, ...], Field(min_length=2, max_length=2)]
    supply: Word
    ground: Word


@dataclass(frozen=True, slots=True)
class InputShare:
    """How an input is driven: common_mode_v + differential * differential_v + reference * reference_v."""

    differential: float = 0.0
    reference: float = 0.0


@dataclass(frozen=True, slots=True)
class AmplifierDefaults:
    """Bias and timing of a comparator.

    Args:
        vdd_v: Supply, in volts.
        common_mode_v: Common mode of the inputs; with two inputs the reference level. In volts.
        reference_v: Difference of the two references, in volts; 0 with two inputs.
        clock_rise_s: Rise time of the clock, in seconds.
        decision_s: From the half-way point of the clock's edge to the reading of the outputs, in seconds.
        c_load_f: Capacitance on each output, in farads.
    """

    vdd_v: Positive
    common_mode_v: Annotated[float, Field(ge=0)]
    reference_v: float
    clock_rise_s: Positive
    decision_s: Positive
    c_load_f: Positive


@dataclass(frozen=True, slots=True)
class AmplifierRanges:
    """Where a comparator may be operated: lowest and highest value; none given, nothing is refused."""

    vdd_v: tuple[float, float] | None = None
    common_mode_v: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class SenseAmplifier:
    """A comparator.

    Args:
        name: The folder's name.
        title: What it is, one line.
        subcircuit: Its transistors.
        ports: Its ports by role.
        inputs: How each input is driven, by port.
        parameters: Sizes, in metres.
        devices: The transistors with mismatch, in the order of every `device` axis.
        defaults: Bias and timing.
        ranges: Where it may be operated.
        path: The contract, for messages.
    """

    name: str
    title: str
    subcircuit: Subcircuit
    ports: AmplifierPorts
    inputs: Mapping[str, InputShare]
    parameters: Mapping[str, float]
    devices: tuple[MismatchDevice, ...]
    defaults: AmplifierDefaults
    ranges: AmplifierRanges
    path: Path

    def vth_sigmas(self, process: Process) -> Float[np.ndarray, "device"]:
        """Threshold-voltage standard deviation of each transistor with mismatch, in volts.

        Raises:
            InputError: The process has no transistor of a type.
        """
        return device_sigmas(self.devices, self.parameters, process, ContractFile(self.path))


def load_amplifier(name_or_folder: str | Path) -> SenseAmplifier:
    """A comparator from its folder: `amplifier.toml` and the netlist that it names.

    Args:
        name_or_folder: A built-in name ("strongarm") or a folder of the user's own.

    Raises:
        InputError: The folder, the contract or the netlist is missing or wrong; with file and line.
        UnsafeError: The netlist could run code or reach outside its folder.
    """
    folder = circuit_folder(name_or_folder, "sense")
    file = ContractFile(folder / "amplifier.toml")
    contract = load_toml(file.path, _AmplifierFile)
    subcircuit = load_subcircuit(file, contract.netlist, contract.subcircuit)
    check_ports(file, subcircuit, _roles(contract))
    check_parameters(file, subcircuit, contract.parameters)
    if not any(share.differential for share in contract.inputs.values()):
        raise file.error(("inputs",), "no input has a share of the differential")
    devices = check_mismatch(file, subcircuit, contract.parameters, contract.mismatch)
    return SenseAmplifier(
        name=folder_name(folder),
        title=contract.title,
        subcircuit=subcircuit,
        ports=contract.ports,
        inputs=contract.inputs,
        parameters=contract.parameters,
        devices=devices,
        defaults=contract.defaults,
        ranges=contract.ranges,
        path=file.path,
    )


@dataclass(frozen=True, slots=True)
class _AmplifierFile:
    title: Line
    netlist: Line
    subcircuit: Word
    ports: AmplifierPorts
    inputs: dict[Word, InputShare]
    parameters: dict[Word, float]
    mismatch: dict[Word, MismatchEntry]
    defaults: AmplifierDefaults
    ranges: AmplifierRanges = field(default_factory=AmplifierRanges)


def _roles(contract: _AmplifierFile) -> dict[tuple[str | int, ...], str]:
    ports = contract.ports
    roles: dict[tuple[str | int, ...], str] = {
        ("ports", "clock"): ports.clock,
        ("ports", "supply"): ports.supply,
        ("ports", "ground"): ports.ground,
    }
    roles |= {("ports", "outputs", i): name for i, name in enumerate(ports.outputs)}
    return roles | {("inputs", name): name for name in contract.inputs}
