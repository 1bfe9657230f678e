"""A process: the model cards of each corner and what its transistors' mismatch is."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from cosim.circuit.contract_file import ContractFile
from cosim.circuit.folders import circuit_folder
from cosim.circuit.guard import check_netlist, check_text
from cosim.circuit.kit import Statistic, cut, package_folder, refuse_random, take_statistics, without_models
from cosim.circuit.names import CornerName, Line, Word, check_corner_name, folder_name
from cosim.circuit.subcircuit import TransistorCall, parse_subcircuit
from cosim.config import load_toml
from cosim.errors import InputError

Coefficient = Annotated[float, Field(ge=0)]
PackageName = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z_.\-]*$")]
Quantity = Literal["vth", "current"]


@dataclass(frozen=True, slots=True)
class ProcessDevice:
    """A transistor type.

    Args:
        model: Its model card's name, or its subcircuit's.
        a_vt_vm: Pelgrom coefficient of its threshold, in volt metres; not used where the kit has its own formula.
        a_current_m: Pelgrom coefficient of its relative current factor, in metres (1 % um is 1e-8).
        subcircuit: What the subcircuit is called with; none for a plain transistor.
        vth: The kit's own random threshold shift.
        current: The kit's own random shift of the current factor.
    """

    model: str
    a_vt_vm: float = 0.0
    a_current_m: float = 0.0
    subcircuit: TransistorCall | None = None
    vth: Statistic | None = None
    current: Statistic | None = None

    def sigma(self, quantity: Quantity, width_m: float, length_m: float) -> float:
        """Standard deviation of the threshold in volts, or of the current factor relative to itself.

        Raises:
            InputError: The kit's formula has no value for that size, or a dimension is not positive.
        """
        own = self.vth if quantity == "vth" else self.current
        if own is not None:
            return own.sigma(width_m, length_m)
        try:
            return vth_sigma(self.a_vt_vm if quantity == "vth" else self.a_current_m, width_m, length_m)
        except ValueError as error:
            raise InputError(str(error)) from error


@dataclass(frozen=True, slots=True)
class ProcessCapacitor:
    """A capacitor type.

    Args:
        density_f_m2: Capacitance per area, in farads a square metre.
        a_c_m: Pelgrom coefficient of the relative deviation, in metres (1 % um is 1e-8).
    """

    density_f_m2: Annotated[float, Field(gt=0)]
    a_c_m: Coefficient


@dataclass(frozen=True, slots=True)
class Process:
    """Model cards and mismatch of a process.

    Args:
        name: The folder's name.
        models: The text of the model cards, by corner.
        devices: The transistor types, by the name that cells use (nfet, pfet).
        capacitors: The capacitor types, likewise (mom).
    """

    name: str
    models: Mapping[str, str] = field(repr=False)
    devices: Mapping[str, ProcessDevice]
    capacitors: Mapping[str, ProcessCapacitor] = field(default_factory=dict[str, ProcessCapacitor])

    def capacitor(self, type_: str) -> ProcessCapacitor:
        """The capacitor type of that name.

        Raises:
            InputError: The process has none; the message lists those that it has.
        """
        if type_ not in self.capacitors:
            raise _unknown(self.name, "capacitor type", type_, self.capacitors)
        return self.capacitors[type_]

    def device(self, type_: str) -> ProcessDevice:
        """The transistor type of that name.

        Raises:
            InputError: The process has none; the message lists those that it has.
        """
        if type_ not in self.devices:
            raise _unknown(self.name, "transistor type", type_, self.devices)
        return self.devices[type_]

    def corner_text(self, corner: str) -> str:
        """The model cards of a corner.

        Raises:
            InputError: The process has no such corner; the message lists those that it has.
        """
        if corner not in self.models:
            raise _unknown(self.name, "corner", corner, self.models)
        return self.models[corner]

    @property
    def model_names(self) -> dict[str, str | TransistorCall]:
        """What stands for each transistor type in a deck: its model card, or its subcircuit."""
        return {name: device.subcircuit or device.model for name, device in self.devices.items()}


def load_process(name_or_folder: str | Path) -> Process:
    """A process from its folder: `process.toml`, or `mismatch.toml` and a `<corner>.lib` for every corner.

    Args:
        name_or_folder: A built-in name ("generic65") or a folder of the user's own.

    Raises:
        InputError: The folder, its files or a key is missing or wrong; a kit's package is not installed.
        UnsafeError: A model file could run code or reach outside its folder.
    """
    folder = circuit_folder(name_or_folder, "process")
    if (folder / "process.toml").is_file():
        return _kit(folder)
    contract = load_toml(folder / "mismatch.toml", _MismatchFile)
    models = {
        check_corner_name(path.stem.lower(), place=str(folder)): check_netlist(path)
        for path in sorted(folder.glob("*.lib"))
    }
    if not models:
        raise InputError("no corner files (*.lib)", place=str(folder), hint="one a corner: tt.lib, ff.lib, ...")
    for corner, text in models.items():
        refuse_random(text, place=str(folder / f"{corner}.lib"))
    devices = {
        name: ProcessDevice(each.model, each.a_vt_vm, each.a_current_m) for name, each in contract.devices.items()
    }
    return Process(folder_name(folder), models, devices, contract.capacitors)


def vth_sigma(avt_vm: float, width_m: float, length_m: float) -> float:
    """Threshold-voltage standard deviation of one transistor, in volts.

    Pelgrom's area law (JSSC 24(5), 1989): sigma = A_vt / sqrt(W L).

    Args:
        avt_vm: Pelgrom coefficient, in volt metres (3.0 mV um is 3.0e-9), not negative.
        width_m: Drawn width, in metres.
        length_m: Drawn length, in metres.

    Raises:
        ValueError: A dimension is not positive or the coefficient is negative.

    >>> round(vth_sigma(3.0e-9, 120e-9, 60e-9), 4)
    0.0354
    """
    if not (width_m > 0 and length_m > 0 and width_m * length_m > 0 and avt_vm >= 0):
        raise ValueError(f"expected positive sizes and a_vt >= 0, got W={width_m}, L={length_m}, A={avt_vm}")
    return avt_vm / math.sqrt(width_m * length_m)


@dataclass(frozen=True, slots=True)
class _PlainDevice:
    model: Word
    a_vt_vm: Coefficient
    a_current_m: Coefficient = 0.0


@dataclass(frozen=True, slots=True)
class _MismatchFile:
    title: Line
    devices: dict[Word, _PlainDevice]
    capacitors: dict[Word, ProcessCapacitor] = field(default_factory=dict[str, ProcessCapacitor])


@dataclass(frozen=True, slots=True)
class _LibraryCall:
    file: Line
    section: CornerName | None = None


@dataclass(frozen=True, slots=True)
class _KitDevice:
    model: Word | None = None
    subcircuit: Word | None = None
    a_vt_vm: Coefficient | None = None
    a_current_m: Coefficient | None = None
    vth: Word | None = None
    current: Word | None = None


@dataclass(frozen=True, slots=True)
class _KitFile:
    title: Line
    corners: Annotated[dict[CornerName, tuple[_LibraryCall, ...]], Field(min_length=1)]
    devices: Annotated[dict[Word, _KitDevice], Field(min_length=1)]
    package: PackageName | None = None
    folder: Line | None = None
    capacitors: dict[Word, ProcessCapacitor] = field(default_factory=dict[str, ProcessCapacitor])
    parameters: dict[Word, float] = field(default_factory=dict[str, float])


def _kit(folder: Path) -> Process:
    """A process whose libraries lie elsewhere, or are called by section."""
    file = ContractFile(folder / "process.toml")
    contract = load_toml(file.path, _KitFile)
    home = _kit_home(file, contract, folder)
    for name, device in contract.devices.items():
        _check_device(file, name, device)
    models = _Corners(file, contract, home)
    return Process(folder_name(folder), models, models.devices(next(iter(models))), contract.capacitors)


class _Corners(Mapping[str, str]):
    """The corners of a kit; each library is read and checked when it is first asked for, since it may be large."""

    def __init__(self, file: ContractFile, contract: _KitFile, home: Path) -> None:
        self._file, self._contract, self._home = file, contract, home
        self._calls = {corner.lower(): (corner, calls) for corner, calls in contract.corners.items()}
        self._read: dict[str, tuple[str, dict[str, ProcessDevice]]] = {}

    def __getitem__(self, corner: str) -> str:
        return self._load(corner)[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    def devices(self, corner: str) -> dict[str, ProcessDevice]:
        """The transistors as a corner has them."""
        return self._load(corner)[1]

    def _load(self, corner: str) -> tuple[str, dict[str, ProcessDevice]]:
        if corner not in self._read:
            written, calls = self._calls[corner]
            text = _library(self._file, self._contract, self._home, written, calls)
            devices: dict[str, ProcessDevice] = {}
            for name, device in self._contract.devices.items():
                with self._file.at(("devices", name)):
                    text, devices[name] = _kit_device(text, device, place=f"corner {written}")
            with self._file.at(("corners", written)):
                refuse_random(text, place=f"corner {written}")
            self._read[corner] = (text, devices)
        return self._read[corner]


def _kit_home(file: ContractFile, contract: _KitFile, folder: Path) -> Path:
    """The folder that the libraries must stay in."""
    if (contract.package is None) != (contract.folder is None):
        raise file.error(("package",), "expected package and folder together, or neither")
    if contract.package is None or contract.folder is None:
        return folder
    with file.at(("package",)):
        return package_folder(contract.package, contract.folder)


def _check_device(file: ContractFile, name: str, device: _KitDevice) -> None:
    """One kind of transistor, and one source of its mismatch."""
    keys = ("devices", name)
    if (device.model is None) == (device.subcircuit is None):
        raise file.error(keys, f"{name}: expected either model or subcircuit")
    if (device.a_vt_vm is None) == (device.vth is None):
        hint = "a Pelgrom coefficient in V m, or the name of the kit's own random parameter"
        raise file.error(keys, f"{name}: expected either a_vt_vm or vth", hint)
    if device.a_current_m is not None and device.current is not None:
        raise file.error(keys, f"{name}: expected a_current_m or current, not both")
    if (device.vth or device.current) and device.subcircuit is None:
        raise file.error(keys, f"{name}: vth and current name parameters of a subcircuit, which is not given")


def _library(file: ContractFile, contract: _KitFile, home: Path, corner: str, calls: tuple[_LibraryCall, ...]) -> str:
    """The text of a corner after the guard's check, cut to what the transistors use."""
    text = "".join(f".param {name}={value:.9g}\n" for name, value in contract.parameters.items())
    for index, call in enumerate(calls):
        with file.at(("corners", corner, index)):
            path = home / call.file
            if not path.is_file():
                raise InputError(f"the library {call.file!r} is missing in {home.name!r}")
            text += check_netlist(path, root=home, section=call.section)
    names = [device.model or device.subcircuit or "" for device in contract.devices.values()]
    with file.at(("corners", corner)):
        return cut(check_text(text, place=f"corner {corner}"), names, place=f"corner {corner}")


def _kit_device(text: str, device: _KitDevice, *, place: str) -> tuple[str, ProcessDevice]:
    """The library with the transistor's own statistics made ours, and the transistor."""
    a_vt_vm, a_current_m = device.a_vt_vm or 0.0, device.a_current_m or 0.0
    if device.subcircuit is None:
        return text, ProcessDevice(device.model or "", a_vt_vm, a_current_m)
    names = [name for name in (device.vth, device.current) if name is not None]
    text, found = take_statistics(text, device.subcircuit, names, place=place)
    own = {each.name: each for each in found}
    parameters = parse_subcircuit(without_models(text), device.subcircuit, place=place).parameters
    renamed = {"delvto": device.vth.lower()} if device.vth else dict[str, str]()
    call = TransistorCall(device.subcircuit.lower(), frozenset(parameters), renamed)
    vth = own[device.vth.lower()] if device.vth else None
    current = own[device.current.lower()] if device.current else None
    return text, ProcessDevice(device.subcircuit, a_vt_vm, a_current_m, call, vth, current)


def _unknown(process: str, what: str, name: str, known: Mapping[str, object]) -> InputError:
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"it has: {', '.join(known)}"
    return InputError(f"process {process!r} has no {what} {name!r}", hint=hint)
