"""A process: the model cards of each corner and what its transistors' mismatch is."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field

from cosim.circuit.folders import circuit_folder
from cosim.circuit.guard import check_netlist
from cosim.config import load_toml
from cosim.errors import InputError


@dataclass(frozen=True, slots=True)
class ProcessDevice:
    """A transistor type: its model card's name and its Pelgrom coefficient, in volt metres."""

    model: str
    a_vt_vm: Annotated[float, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class Process:
    """Model cards and mismatch of a process.

    Args:
        name: The folder's name.
        models: The text of the model cards, by corner.
        devices: The transistor types, by the name that cells use (nfet, pfet).
    """

    name: str
    models: Mapping[str, str] = field(repr=False)
    devices: Mapping[str, ProcessDevice]

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
    def model_names(self) -> dict[str, str]:
        """The model card of each transistor type."""
        return {name: device.model for name, device in self.devices.items()}


def load_process(name_or_folder: str | Path) -> Process:
    """A process from its folder: `<corner>.lib` for every corner and `mismatch.toml`.

    Args:
        name_or_folder: A built-in name ("generic65") or a folder of the user's own.

    Raises:
        InputError: The folder, its files or a key is missing or wrong.
        UnsafeError: A model file could run code or reach outside its folder.
    """
    folder = circuit_folder(name_or_folder, "process")
    contract = load_toml(folder / "mismatch.toml", _MismatchFile)
    models = {path.stem.lower(): check_netlist(path) for path in sorted(folder.glob("*.lib"))}
    if not models:
        raise InputError("no corner files (*.lib)", place=str(folder), hint="one a corner: tt.lib, ff.lib, ...")
    return Process(folder.resolve().name, models, contract.devices)


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
    if not (width_m > 0 and length_m > 0 and avt_vm >= 0):
        raise ValueError(f"expected positive sizes and a_vt >= 0, got W={width_m}, L={length_m}, A={avt_vm}")
    return avt_vm / math.sqrt(width_m * length_m)


@dataclass(frozen=True, slots=True)
class _MismatchFile:
    title: str
    devices: dict[str, ProcessDevice]


def _unknown(process: str, what: str, name: str, known: Mapping[str, object]) -> InputError:
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"it has: {', '.join(known)}"
    return InputError(f"process {process!r} has no {what} {name!r}", hint=hint)
