"""Everything that is wrong with a cell's folder, and what to look at twice: for `cosim check`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cosim.circuit.capacitor import check_capacitors
from cosim.circuit.cell import Cell, load_cell
from cosim.circuit.cell_file import CellFile, check_cell
from cosim.circuit.contract import check_mismatch, load_subcircuit
from cosim.circuit.contract_file import ContractFile
from cosim.circuit.folders import circuit_folder
from cosim.circuit.guard import netlist_problems
from cosim.circuit.process import Process
from cosim.circuit.subcircuit import Subcircuit
from cosim.config import load_toml, toml_problems
from cosim.errors import CosimError, UnsafeError
from cosim.text_files import read_text

_SIZE = {"width": "w", "length": "l"}


@dataclass(frozen=True, slots=True)
class CellReport:
    """What a check found.

    Args:
        problems: What must be put right, in the order of reading; what is unsafe comes first.
        remarks: What is allowed but looks like an oversight.
        cell: The cell, where nothing is wrong.
    """

    problems: tuple[CosimError, ...]
    remarks: tuple[str, ...]
    cell: Cell | None


def check_cell_folder(name_or_folder: str | Path, process: Process | None = None) -> CellReport:
    """All problems of a cell's contract and netlist, not only the first.

    Args:
        name_or_folder: A built-in name or a folder.
        process: Its transistor types must be the netlist's, where it is given.

    Raises:
        InputError: There is no such folder, or no cell.toml in it.
    """
    folder = circuit_folder(name_or_folder, "bitcells")
    problems: list[CosimError] = []
    file = ContractFile(folder / "cell.toml", problems)
    text = read_text(file.path)
    problems += toml_problems(text, CellFile, place=str(file.path))
    if problems:
        named = re.search(r'^\s*netlist\s*=\s*"([^"/\\]+)"', text, re.MULTILINE)
        path = folder / (named[1] if named else "cell.cir")
        problems += netlist_problems(path, bench=True) if path.is_file() else []
        return _report(problems, [], None)
    contract = load_toml(file.path, CellFile)
    subcircuit = _subcircuit(file, contract)
    if subcircuit is None:
        return _report(problems, [], None)
    with file.part():
        check_cell(file, contract, subcircuit)
    with file.part():
        check_mismatch(file, subcircuit, contract.parameters, contract.mismatch)
    with file.part():
        check_capacitors(file, subcircuit, contract.parameters, contract.capacitors, contract.mismatch)
    _check_lines(file, contract, subcircuit, process)
    if problems:
        return _report(problems, [], None)
    return _report(problems, _remarks(contract, subcircuit), load_cell(folder))


def _report(problems: list[CosimError], remarks: list[str], cell: Cell | None) -> CellReport:
    ordered = sorted(problems, key=lambda error: not isinstance(error, UnsafeError))
    return CellReport(tuple(ordered), tuple(remarks), cell)


def _subcircuit(file: ContractFile, contract: CellFile) -> Subcircuit | None:
    """The subcircuit, if the netlist is there, safe and has it."""
    assert file.problems is not None
    path = file.path.parent / contract.netlist
    if Path(contract.netlist).name == contract.netlist and path.is_file():
        file.problems.extend(netlist_problems(path, bench=True))
    if not file.problems:
        with file.part():
            return load_subcircuit(file, contract.netlist, contract.subcircuit)
    return None


def _check_lines(file: ContractFile, contract: CellFile, subcircuit: Subcircuit, process: Process | None) -> None:
    """Every [mismatch] entry says of its transistor what the netlist's line says of it."""
    lines = {line.split()[0]: line for line in subcircuit.elements if line[0] in "mx"}
    for name, entry in contract.mismatch.items():
        keys = ("mismatch", name)
        if name not in lines:
            continue
        used = set(re.findall(r"[a-z_]\w*", lines[name].partition(" ")[2]))
        for field in ("delvto", "current", "width", "length"):
            parameter = getattr(entry, field)
            with file.part():
                if parameter is not None and parameter in subcircuit.parameters and parameter not in used:
                    hint = f"its line is: {lines[name]}"
                    raise file.error((*keys, field), f"{name} does not use the parameter {parameter!r}", hint)
        with file.part():
            if process is not None and entry.type not in process.devices:
                known = ", ".join(process.devices)
                raise file.error((*keys, "type"), f"{name}: process {process.name!r} has no {entry.type!r}", known)
            if entry.type not in used and any(other in used for other in (process.devices if process else ())):
                hint = f"its line is: {lines[name]}"
                raise file.error((*keys, "type"), f"{name} is no {entry.type!r} in the netlist", hint)


def _remarks(contract: CellFile, subcircuit: Subcircuit) -> list[str]:
    """Transistors without mismatch, and parameters that neither file gives a use."""
    transistors = [name for name in subcircuit.devices if name[0] == "m"]
    ideal = [name for name in transistors if name not in contract.mismatch]
    text = " ".join(subcircuit.elements)
    unused = [name for name in subcircuit.parameters if not re.search(rf"(?<!\w){re.escape(name)}(?!\w|=)", text)]
    remarks: list[str] = []
    if ideal:
        remarks.append(f"without an entry in [mismatch], so exactly alike in every cell: {', '.join(ideal)}")
    if unused:
        remarks.append(f"parameters of the subcircuit that no line uses: {', '.join(unused)}")
    return remarks
