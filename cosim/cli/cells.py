"""`cosim new cell` and `cosim check`: a cell of one's own, from a template to a first read."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from cosim.cli.console import plain, show, table

if TYPE_CHECKING:
    from cosim.circuit.cell import Cell
    from cosim.circuit.cell_check import CellReport
    from cosim.circuit.process import Process
    from cosim.errors import CosimError

Json = Annotated[bool, Parameter(name="--json", negative="")]

new = App(name="new", help="Write a folder to begin with.")


@new.command
def cell(
    name: str,
    *,
    from_: Annotated[str, Parameter(name="--from")] = "xnor_8t",
    out: Path | None = None,
    json: Json = False,
) -> None:
    """Write a commented cell folder (netlist, contract, recipe, page) that characterizes as it is.

    Args:
        name: The new cell's name: lower-case letters, digits and _.
        from_: The cell to begin with, by name or folder.
        out: The folder to write; NAME here by default. Nothing is overwritten.
        json: Print one JSON object.
    """
    from cosim.circuit.template import write_template

    folder = out or Path(name)
    files = write_template(name, from_, folder)
    show(
        [str(file) for file in files],
        {"files": [str(file) for file in files]},
        json,
        f"cosim check {shlex.quote(str(folder))}",
    )


def check(folder: str, *, process: str | None = None, json: Json = False) -> None:
    """Say all that is wrong with a cell, a process or a sense amplifier; a good cell is read once in ngspice.

    Args:
        folder: A folder with cell.toml, process.toml, mismatch.toml or amplifier.toml; or a built-in cell's name.
        process: The process to read the cell in; by default its recipe's, or generic65.
        json: Print one JSON object.
    """
    path = Path(folder)
    if (path / "process.toml").is_file() or (path / "mismatch.toml").is_file():
        _check_process(path, json)
    elif (path / "amplifier.toml").is_file():
        _check_amplifier(path, json)
    else:
        _check_cell(folder, process, json)


def _check_cell(folder: str, process: str | None, json: bool) -> None:
    from cosim.circuit.cell_check import check_cell_folder
    from cosim.errors import CosimError

    problems: list[CosimError] = []
    used: Process | None = None
    try:
        used = _process_of(folder, process)
    except CosimError as error:
        problems.append(error)
    report = check_cell_folder(_folder(folder), used)
    problems = [*report.problems, *problems, *_recipe_problems(folder, bool(report.problems or problems))]
    if problems:
        _say_problems(problems)
        raise _summary(problems)
    assert report.cell is not None
    assert used is not None
    reads = _reads(report.cell, used)
    content = _content(report.cell, used, reads) | {"remarks": list(report.remarks)}
    following = f"cosim plan {shlex.quote(str(folder))}" + (
        "" if Path(folder, "recipe.toml").is_file() else " --recipe quick"
    )
    show(_lines(report, used, reads), content, json, following)


def _check_process(folder: Path, json: bool) -> None:
    from cosim.circuit.process import load_process

    found = load_process(folder)
    sizes = {corner: len(text) for corner, text in found.models.items()}
    rows = [
        [name, device.model, "subcircuit" if device.subcircuit else "model"] for name, device in found.devices.items()
    ]
    lines = [f"{folder}: all is well", *table(rows, ["transistor", "is", "a"]), f"corners: {', '.join(sizes)}"]
    show(lines, {"process": found.name, "corners": sizes, "devices": [row[0] for row in rows]}, json)


def _check_amplifier(folder: Path, json: bool) -> None:
    from cosim.circuit.amplifier import load_amplifier

    found = load_amplifier(folder)
    lines = [f"{folder}: all is well", f"{found.title}: {len(found.devices)} transistors with mismatch"]
    show(lines, {"amplifier": found.name, "devices": [device.name for device in found.devices]}, json)


def _folder(name_or_folder: str) -> str | Path:
    """A folder that is there comes before a built-in cell of the same name."""
    return Path(name_or_folder) if Path(name_or_folder).is_dir() else name_or_folder


def _process_of(folder: str, asked: str | None) -> Process:
    """The process to read the cell in: the one asked for, its recipe's, or our own."""
    from cosim.campaign.recipe import named_in
    from cosim.circuit.process import load_process
    from cosim.text_files import read_text

    recipe = Path(folder) / "recipe.toml"
    if asked is not None:
        return load_process(_folder(asked))
    # The rest of the recipe may be wrong, which is told elsewhere.
    text = read_text(recipe) if recipe.is_file() else ""
    named = re.search(r'^process\s*=\s*"([^"]+)"', text, re.MULTILINE)
    return load_process(named_in(recipe, named[1]) if named else "generic65")


def _recipe_problems(folder: str, already: bool) -> list[CosimError]:
    """What is wrong with the folder's recipe, beside what is told already."""
    from cosim.campaign.points import points_of
    from cosim.campaign.recipe import Recipe, load_campaign
    from cosim.config import toml_problems
    from cosim.errors import CosimError
    from cosim.text_files import read_text

    recipe = Path(folder) / "recipe.toml"
    if not recipe.is_file():
        return []
    problems: list[CosimError] = list(toml_problems(read_text(recipe), Recipe, place=str(recipe)))
    if not problems and not already:
        try:
            points_of(load_campaign(recipe))
        except CosimError as error:
            problems.append(error)
    return problems


def _say_problems(problems: list[CosimError]) -> None:
    for problem in dict.fromkeys(map(str, problems)):
        print(plain(problem), file=sys.stderr)


def _summary(problems: list[CosimError]) -> CosimError:
    """The error to leave with: what is unsafe decides the exit code, then what is wrong, then what is missing."""
    from cosim.errors import EngineMissingError, InputError, UnsafeError

    count = len({str(problem) for problem in problems})
    kinds = (UnsafeError, InputError, EngineMissingError)
    kind = next(kind for kind in kinds if any(isinstance(problem, kind) for problem in problems))
    return kind(f"{count} problem{'s' if count > 1 else ''}; nothing was run")


def _reads(cell: Cell, process: Process) -> list[dict[str, Any]]:
    """One read without mismatch at three counts: each line's voltage and the cells that flipped."""
    import numpy as np

    from cosim.circuit.column import column_bench, column_deck, flipped_rows
    from cosim.circuit.corner import Corner
    from cosim.errors import InputError
    from cosim.spice.engine import Failed, open_engine

    corner = Corner(next(iter(process.models)) if "tt" not in process.models else "tt", cell.defaults.vdd_v, 27.0)
    bench = column_bench(cell, process, corner)
    engine = open_engine("shared")
    reads: list[dict[str, Any]] = []
    try:
        for n_minus in sorted({0, bench.rows // 2, bench.rows}):
            products = np.where(np.arange(bench.rows) < n_minus, -1, 1).astype(np.int8)
            weights = np.array([cell.states(int(product))[0][0] for product in products], np.int8)
            deck = column_deck(bench, products, weights, np.zeros((bench.rows, len(cell.devices))))
            (result,) = engine.run([deck], timeout_s=60.0)
            if isinstance(result, Failed):
                hint = "look at the netlist's nodes, sizes and models"
                raise InputError(f"ngspice cannot read the column: {result.detail}", place=str(cell.path), hint=hint)
            lines = dict(zip(cell.ports.bit_lines, result.values[:, -1].tolist(), strict=False))
            flips = int(flipped_rows(bench, weights, result.values).sum())
            reads.append({"n_minus": n_minus, "lines_v": lines, "flipped": flips})
    finally:
        engine.close()
    return reads


def _lines(report: CellReport, process: Process, reads: list[dict[str, Any]]) -> list[str]:
    """The one-screen summary of a good cell."""
    cell = report.cell
    assert cell is not None
    ports = {
        "bit lines": cell.ports.bit_lines,
        "word lines": cell.ports.word_lines,
        "storage": cell.ports.storage,
        "supply, ground": (cell.ports.supply, cell.ports.ground),
    }
    drives = [f"{value:+d}: {_levels(levels)}".replace("+0", "0", 1) for value, levels in cell.drive.items()]
    at = cell.defaults
    return [
        f"{cell.path.parent}: all is well",
        f"{cell.title} (subcircuit {cell.subcircuit.name}, sensing {cell.sensing})",
        *(f"  {role:15}{', '.join(names) or 'none'}" for role, names in ports.items()),
        f"  {'drives':15}{'; '.join(drives)}  (of the word-line voltage)",
        f"  {'pre-charge':15}{_levels(cell.precharge)}  (of the supply)",
        f"  {'operated at':15}{at.vdd_v:g} V, word line {at.word_line_v:g} V for {1e12 * at.pulse_s:g} ps, "
        f"{1e15 * at.c_bit_line_f:g} fF a line, {at.rows} rows",
        *table(_device_rows(cell, process), ["  device", "type", "W, nm", "L, nm", "sigma"]),
        *(f"  note: {remark}" for remark in report.remarks),
        f"One read in ngspice, {process.name}, no mismatch:",
        *table(_read_rows(reads), [f"  rows on {cell.ports.bit_lines[0]}", *reads[0]["lines_v"], "flipped"]),
        *_judgement(reads),
    ]


def _device_rows(cell: Cell, process: Process) -> list[list[str]]:
    from cosim.circuit.contract import MismatchDevice

    rows: list[list[str]] = []
    for device, sigma in zip(cell.devices, cell.vth_sigmas(process), strict=True):
        if isinstance(device, MismatchDevice):
            sizes = [f"{1e9 * cell.parameters[name]:.0f}" for name in (device.width, device.length)]
            shown = f"{1e3 * sigma:.1f} mV" if device.quantity == "vth" else f"{1e2 * sigma:.2f} %"
            rows.append([f"  {device.name}", device.type, *sizes, shown])
        else:
            rows.append([f"  {device.name}", device.type, "", "", f"{1e2 * sigma:.2f} %"])
    return rows


def _read_rows(reads: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [f"  {read['n_minus']}", *(f"{value:.4f} V" for value in read["lines_v"].values()), str(read["flipped"])]
        for read in reads
    ]


def _judgement(reads: list[dict[str, Any]]) -> list[str]:
    """What a designer should see in the numbers."""
    lines: list[str] = []
    first = [next(iter(read["lines_v"].values())) for read in reads]
    if max(first) - min(first) < 0.01:
        lines.append("  note: the line hardly moves: look at the drives, the word-line voltage and the pulse")
    if any(read["flipped"] for read in reads):
        lines.append("  note: cells lose what they store: lower the word-line voltage or the pulse")
    return lines


def _levels(levels: Any) -> str:
    return ", ".join(f"{name}={level:g}" for name, level in levels.items())


def _content(cell: Cell, process: Process, reads: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "cell": cell.name,
        "subcircuit": cell.subcircuit.name,
        "process": process.name,
        "ports": {
            "bit_lines": cell.ports.bit_lines,
            "word_lines": cell.ports.word_lines,
            "storage": cell.ports.storage,
        },
        "sigma": dict(zip([d.name for d in cell.devices], cell.vth_sigmas(process).tolist(), strict=True)),
        "reads": reads,
    }
