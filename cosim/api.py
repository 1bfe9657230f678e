"""The Python interface: the chain's links as plain functions."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8

from cosim.campaign.collect import Progress, collect
from cosim.campaign.recipe import load_campaign
from cosim.campaign.store import SampleStore
from cosim.circuit.cell import Cell, load_cell
from cosim.datasets import load_images
from cosim.errors import InputError
from cosim.network.files import load_network
from cosim.network.inference import Evaluation
from cosim.network.inference import evaluate as _evaluate
from cosim.network.layers import Network
from cosim.network.program import MODES, Mode
from cosim.network.sensing import calibrate_network, check_calibration, readouts_of
from cosim.surrogate.calibration import Calibration, LevelsPer
from cosim.surrogate.codes import Mlsa, check_mlsa
from cosim.surrogate.family import SurrogateFamily
from cosim.surrogate.family_files import load_family
from cosim.surrogate.files import load_surrogate
from cosim.surrogate.files import save_surrogate as _save_surrogate
from cosim.surrogate.fit import fit as _fit
from cosim.surrogate.model import Sensing, Surrogate

__all__ = [
    "calibrate",
    "characterize",
    "evaluate",
    "fit",
    "load_cell",
    "load_family",
    "load_images",
    "load_network",
    "load_surrogate",
    "save_surrogate",
]


def characterize(
    cell: Cell | str | Path,
    recipe: str | Path,
    *,
    out: str | Path,
    executor: Executor | None = None,
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> SampleStore:
    """Simulate a recipe's samples for a cell; what is in `out` already is not done again.

    Args:
        cell: A cell, its name or its folder; it takes the place of the recipe's.
        recipe: A recipe of `characterization/` by name, or a TOML file.
        out: Folder of the samples.
        executor: Runs the tasks; by default threads that each drive one ngspice process.
        workers: Threads of the default executor; by default one a core.
        progress: Called after each task.

    Raises:
        EngineMissingError: ngspice is not installed.
        InputError: Wrong recipe, cell or folder.
        UnsafeError: A netlist holds what could run code.
    """
    campaign = load_campaign(recipe)
    campaign = replace(campaign, cell=cell if isinstance(cell, Cell) else load_cell(cell))
    for each in collect(campaign, Path(out), executor=executor, workers=workers):
        if progress is not None:
            progress(each)
    return SampleStore(Path(out))


def fit(store: SampleStore | str | Path, *, max_failure_rate: float = 0.01) -> Surrogate | SurrogateFamily:
    """Fit a surrogate to samples and check it on those held out; see `cosim.surrogate.fit.fit`.

    Samples of several operating points give a family: `fit(store).at("ss", vdd_v=0.95, temp_c=85)` is a surrogate.
    """
    return _fit(store.path if isinstance(store, SampleStore) else Path(store), max_failure_rate=max_failure_rate)


def save_surrogate(surrogate: Surrogate, path: str | Path) -> None:
    """Write a surrogate as an HDF5 file, which is there completely or not at all; `surrogate.save(path)` is the same.

    Raises:
        InputError: The file cannot be written.
    """
    _save_surrogate(surrogate, Path(path))


def calibrate(
    network: Network,
    surrogate: Surrogate,
    training_images: UInt8[np.ndarray, "image ..."],
    *,
    sensing: Sensing | None = None,
    bits: int | None = None,
    adc: str | Path | None = None,
    levels_per: LevelsPer | None = None,
) -> Calibration:
    """The sense amplifier's levels for a network, from training images; see `calibrate_network`.

    Args:
        sensing: By default differential, and single-ended where the column has one line.
        bits: Of the code; 3 by default.
        adc: A stated column converter ("column_adc", or a folder) in the place of a sense amplifier; it has its own
            levels, and takes no bits.
        levels_per: Where weights or activations have several bits: `pair` (the default), levels for every pair of a
            bit of the weights and one of the activations, or `layer`, one set for all pairs of a layer.

    Raises:
        InputError: The images do not fit the network, bits is outside 1..6 or beside an adc, the column has no
            lines for such sensing, or levels_per has nothing to choose.
    """
    return calibrate_network(
        network,
        surrogate,
        training_images,
        sensing=sensing,
        bits=bits,
        adc=adc,
        levels_per=levels_per,
        provenance={"network": network.name},
    )


def evaluate(
    network: Network,
    surrogate: Surrogate | None,
    images: UInt8[np.ndarray, "image ..."],
    labels: Integer[np.ndarray, " image"],
    *,
    mode: Mode = "iid",
    calibration: Calibration | None = None,
    mlsa: Mlsa = "flash",
    seed: int = 0,
    threads: int | None = None,
) -> Evaluation:
    """Accuracy of a network with every partial sum read through a surrogate.

    Args:
        mode: `ideal` (exact integers, needs no surrogate), `nominal` (mean transfer and levels) or `iid` (a fresh
            column and fresh comparators at every read).
        calibration: The levels; needed in nominal and iid.
        mlsa: `flash` (one comparator a level, each with an offset of its own) or `sequential` (one comparator, its
            reference stepped while the word line is off: one offset a read; the line's droop is not modelled). Not
            with the calibration of a column ADC.
        seed: Of the draws in iid; an image's result depends on the seed and its place in `images` alone.

    Raises:
        InputError: Something does not fit, the surrogate or the calibration is missing, the calibration is of
            another network, or there is no such mode (yet).
    """
    if mode not in MODES:
        what = "is not there yet" if str(mode) == "die" else "is none"
        raise InputError(f"mode {mode!r} {what}, expected one of {', '.join(MODES)}")
    check_mlsa(mlsa)
    if mode == "ideal":
        return _evaluate(network, images, labels, mode=mode, threads=threads)
    if surrogate is None or calibration is None:
        missing = "a surrogate" if surrogate is None else "a calibration"
        raise InputError(f"mode {mode} needs {missing}", hint="cosim.calibrate(network, surrogate, training_images)")
    check_calibration(network, calibration)
    readouts = readouts_of(surrogate, calibration, mlsa)
    return _evaluate(
        network, images, labels, mode=mode, readouts=readouts, seed=seed, threads=threads, rows=surrogate.rows
    )
