"""A new cell's folder, made from a cell that is there: a netlist, a contract, a recipe and a page, all commented."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from cosim.circuit.cell import Cell, load_cell
from cosim.errors import InputError
from cosim.text_files import read_text, reason

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""A cell's name: it is a folder, a subcircuit and a word on the command line."""


def write_template(name: str, source: str | Path, folder: Path) -> tuple[Path, ...]:
    """Write a cell's folder that characterizes as it is.

    Args:
        name: The new cell's name.
        source: The cell to begin with: a built-in name or a folder.
        folder: Where to write; nothing may be there yet.

    Returns:
        The files, in the order in which they are edited.

    Raises:
        InputError: The name is not plain, the folder is there already or cannot be written, or no such source.
    """
    if not NAME.fullmatch(name):
        hint = "begin with a letter; lower-case letters, digits and _; at most 40"
        raise InputError(f"{name!r} is no name for a cell", hint=hint)
    cell = load_cell(source)
    if folder.is_symlink() or folder.exists():
        raise InputError(
            "is there already; nothing is overwritten", place=str(folder), hint="give another name or --out"
        )
    files = _files(name, cell)
    try:
        folder.mkdir(parents=True)
        for file, text in files.items():
            with (folder / file).open("x", encoding="utf-8") as stream:
                stream.write(text)
    except OSError as error:
        raise InputError(f"cannot be written: {reason(error)}", place=str(folder)) from error
    return tuple(folder / file for file in files)


def _files(name: str, cell: Cell) -> Mapping[str, str]:
    netlist = read_text(cell.path.parent / _netlist_of(cell))
    contract = read_text(cell.path)
    word = re.compile(rf"(?<![\w.]){re.escape(cell.subcircuit.name)}(?![\w.])", re.IGNORECASE)
    renamed = re.sub(r"(?mi)^(\.(?:subckt|ends)\b.*)$", lambda line: word.sub(name, line[1]), netlist)
    contract = re.sub(r'(?m)^netlist\s*=\s*"[^"]*"', 'netlist = "cell.cir"', contract, count=1)
    contract = re.sub(r'(?m)^subcircuit\s*=\s*"[^"]*"', f'subcircuit = "{name}"', contract, count=1)
    contract = re.sub(r'(?m)^title\s*=\s*".*"', f'title = "{name}: made from {cell.name}"', contract, count=1)
    return {
        "cell.cir": _CIR.format(name=name, source=cell.name) + renamed,
        "cell.toml": _TOML.format(name=name, source=cell.name) + contract,
        "recipe.toml": _recipe(name, cell),
        "README.md": _README.format(name=name, source=cell.name, title=cell.title),
    }


def _netlist_of(cell: Cell) -> str:
    found = re.search(r'(?m)^netlist\s*=\s*"([^"]*)"', read_text(cell.path))
    return found[1] if found else "cell.cir"


def _recipe(name: str, cell: Cell) -> str:
    rows, vdd_v = cell.defaults.rows, cell.defaults.vdd_v
    counts = sorted({round(rows * step / 8) for step in range(9)})
    levels = ", ".join(f"{share * vdd_v:.3g}" for share in (0.4, 0.6, 0.8, 1.0))
    text = _RECIPE.format(name=name, vdd_v=vdd_v, rows=rows, counts=counts) + _SINGLE.format(levels=levels)
    return text + (_DIFFERENTIAL if len(cell.ports.bit_lines) == 2 else "")


_CIR = """\
* {name}: a cell made from {source}. Change it to yours, and cell.toml with it.
* The rules: one .subckt; every transistor's type is a word that the process knows (nfet, pfet); every size
* and every threshold shift (delvto, in volts) is a parameter, so that cell.toml can name them. Names, port
* order and the number of transistors are free. Includes stay in this folder; control blocks are refused.
"""

_TOML = """\
# What the netlist's ports mean, and how a column of {name} is driven and read.
# Change it with cell.cir, then: cosim check FOLDER (it says all that does not fit, with line and column).
"""

_RECIPE = """\
# What `cosim characterize FOLDER` simulates for this cell. `cosim plan FOLDER` says how long it takes.
title = "{name}: a first look"
seed = 1
cell = "."                # this folder; another cell by its folder, relative to this file, or by a built-in name
process = "generic65"     # or a folder of your own, for example "./process" (see docs/new-cell.md)

[corner]
process = "tt"
vdd_v = {vdd_v:g}
temp_c = 27.0

[column]
rows = {rows}
n_minus = {counts}        # rows that pull the first line; the others pull the second
samples = 32              # Monte Carlo samples a count: 64 and more for a figure that counts

# The comparators that read the column; without them `cosim fit` works and `cosim evaluate` does not.
"""

_SINGLE = """\
[[comparator]]
amplifier = "strongarm"
sensing = "single_ended"
level_v = [{levels}]
samples = 16
"""

_DIFFERENTIAL = """
[[comparator]]
amplifier = "strongarm_differential"
sensing = "differential"
level_v = [-0.6, -0.3, 0.0, 0.3, 0.6]
samples = 16
"""

_README = """\
# {name}

Made from {source} ({title}). Say here what your cell is, with a drawing, its sizes and where it comes from.

- `cell.cir`: the subcircuit.
- `cell.toml`: what its ports mean, how it is driven and read, which transistors vary.
- `recipe.toml`: what to simulate.

In this folder's parent:

    cosim check {name}                  # what is wrong, or one read in ngspice
    cosim plan {name}                   # what will run, and for how long
    cosim characterize {name}           # Monte Carlo into runs/{name}; stop it any time and run it again
    cosim fit runs/{name}
    cosim evaluate fashion_mnist_mlp --surrogate runs/{name}/surrogate.h5
"""
