"""The chain's links kept in one folder: each step is skipped where its result is there for the same input.

A run folder holds `samples.h5`, `surrogate.h5`, a `calibration-*.h5` for each network and sensing, `outcomes.json`
and `report.html`. Every file says by hash what it was made from.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np

from cosim import hdf5, resources
from cosim.atomic import make_folder
from cosim.campaign.filetypes import SAMPLES
from cosim.circuit.column_adc import load_column_adc
from cosim.datasets import Name, load_images
from cosim.errors import CosimError, InputError
from cosim.network.files import FILETYPE as NETWORK
from cosim.network.files import load_network
from cosim.network.inference import evaluate
from cosim.network.layers import Network
from cosim.network.outcome import Outcome, load_outcomes, save_outcomes
from cosim.network.program import Mode
from cosim.network.sensing import (
    DEFAULT_BITS,
    calibrate_network,
    converter_name,
    levels_per_of,
    readouts_of,
    sensing_of,
)
from cosim.surrogate.calibration import Calibration, LevelsPer
from cosim.surrogate.codes import Mlsa
from cosim.surrogate.family_files import is_family, load_at, load_family
from cosim.surrogate.files import (
    SURROGATE,
    load_calibration,
    load_surrogate,
    save_calibration,
    save_surrogate,
)
from cosim.surrogate.files import surrogate_path as file_of
from cosim.surrogate.fit import fit
from cosim.surrogate.model import Sensing
from cosim.surrogate.operating import Request

CALIBRATION_IMAGES = 10_000
"""Training images for the levels: the first of the training set, never test images."""

FORMAT = 4
"""Raised when the same input gives another result, so that kept results are not taken for new ones."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What an evaluation is made of.

    Args:
        network: A network's name or file.
        sensing: By default differential, and single-ended where the column has one line.
        bits: Of the code; 3 where it is None, and the converter's own with an adc.
        images: Test images, from the first; all where it is None.
        mlsa: One comparator a level (`flash`), or one whose reference is stepped (`sequential`).
        adc: A stated column converter in the place of a sense amplifier, by name or folder.
        levels_per: What has levels of its own in layers of several bits; every pair of bits where it is None.
    """

    network: str
    mode: Mode
    sensing: Sensing | None = None
    bits: int | None = None
    seed: int = 0
    images: int | None = None
    mlsa: Mlsa = "flash"
    adc: str | Path | None = None
    levels_per: LevelsPer | None = None


def fitted(run: Path, *, max_failure_rate: float = 0.01) -> Path:
    """The surrogate of a run's samples; fitted now unless it is there and of these samples."""
    path = run / "surrogate.h5"
    samples = _hash_of(run / "samples.h5", SAMPLES)
    with suppress(CosimError):  # not there, damaged or of another version: fit now
        kept = (load_family(path) if is_family(path) else load_surrogate(path)).provenance
        if (kept.get("samples_sha256"), kept.get("fit_format")) == (samples, FORMAT):
            return path
    found = fit(run, max_failure_rate=max_failure_rate)
    marked = replace(found, provenance=dict(found.provenance) | {"fit_format": FORMAT})
    marked.save(path)
    return path


def at_point(run: Path, surrogate: str | Path, asked: Request) -> Path:
    """The file of a surrogate at one operating point: the file itself, or one made of a family in the folder `run`.

    Raises:
        InputError: The point lies beyond what was simulated, or beside a masked one; or the file is of another one.
    """
    path, found = file_of(surrogate), load_at(surrogate, asked)
    if not is_family(path):
        return path
    make_folder(run)
    save_surrogate(found, run / "surrogate.h5")
    return run / "surrogate.h5"


def folder_of(asked: Request) -> str:
    """The name of an operating point's folder beside its family.

    >>> folder_of(Request("ss", 0.95, 85.0))
    'ss_0.95V_85C'
    """
    parts = [asked.process, _with_unit(asked.vdd_v, "V"), _with_unit(asked.temp_c, "C")]
    bias = [
        _with_unit(asked.word_line_v, "V-wl"),
        _with_unit(None if asked.pulse_s is None else 1e12 * asked.pulse_s, "ps"),
    ]
    return "_".join(part for part in [*parts, *bias] if part) or "point"


def calibrated(
    run: Path,
    network_name: str,
    surrogate_path: Path,
    sensing: Sensing | None = None,
    bits: int | None = None,
    adc: str | Path | None = None,
    levels_per: LevelsPer | None = None,
) -> Calibration:
    """The levels for a network; made now from training images unless they are there and of the same input.

    Raises:
        InputError: The levels lie beyond what was measured, which keeps nothing, the folder cannot be written, or
            levels_per has nothing to choose.
    """
    network, network_hash = _network(network_name)
    about: dict[str, str | int | float] = {
        "network": network.name,
        "network_sha256": network_hash,
        "surrogate_sha256": _hash_of(surrogate_path, SURROGATE),
        "dataset": dataset_of(network),
        "split": "train",
        "calibration_format": FORMAT,
    }
    surrogate = load_surrogate(surrogate_path)
    sensing, name = sensing_of(surrogate, sensing, adc), converter_name(adc)
    if adc is not None:
        about["adc_sha256"] = hashlib.sha256(repr(load_column_adc(adc)).encode()).hexdigest()
    what = name if adc is not None else f"{bits or DEFAULT_BITS}bit"
    what += "-pair" if levels_per_of(network, levels_per, adc) == "pair" else ""
    path = run / f"calibration-{network.name}-{sensing}-{what}.h5"
    with suppress(CosimError):  # not there, damaged or of another version: calibrate now
        kept = load_calibration(path)
        if not (adc is not None and bits is not None) and all(
            kept.provenance.get(name) == value for name, value in about.items()
        ):
            return kept
    images = load_images(dataset_of(network), "train").images[:CALIBRATION_IMAGES]
    calibration = calibrate_network(
        network, surrogate, images, sensing=sensing, bits=bits, adc=adc, levels_per=levels_per, provenance=about
    )
    readouts_of(surrogate, calibration)  # What cannot be read is refused before it is kept.
    make_folder(run)
    save_calibration(calibration, path)
    return calibration


def evaluated(run: Path, chosen: Chosen, surrogate_path: Path | None) -> Outcome:
    """The accuracy of a network on its test images; evaluated now unless it is among the run's outcomes.

    Raises:
        InputError: A mode other than ideal without a surrogate, images that are not there or fewer than asked for,
            a folder that cannot be written, or a levels_per where there is nothing to choose.
    """
    network, network_hash = _network(chosen.network)
    levels_per = levels_per_of(network, chosen.levels_per, chosen.adc) or ""
    key = _key(chosen, network_hash, surrogate_path, levels_per)
    kept = load_outcomes(run / "outcomes.json")
    for outcome in kept:
        if outcome.key == key:
            return outcome
    outcome = _evaluate(run, chosen, network, network_hash, surrogate_path, key)
    others = [each for each in kept if _place(each) != _place(outcome)]
    save_outcomes([*others, outcome], run / "outcomes.json")
    return outcome


def check_network(name: str) -> None:
    """Look whether a network and its images are there.

    Raises:
        InputError: One of them is not, or is damaged.
    """
    network, _ = _network(name)
    load_images(dataset_of(network), "train")
    load_images(dataset_of(network), "test")


def dataset_of(network: Network) -> Name:
    """The data set that a network was trained on.

    Raises:
        InputError: The network does not say, or it is none that we can load.
    """
    name = network.provenance.get("dataset", "")
    for known in get_args(Name):
        if name == known:
            return known
    raise InputError(f"network {network.name} is for data set {name!r}, expected one of {', '.join(get_args(Name))}")


def _evaluate(
    run: Path, chosen: Chosen, network: Network, network_hash: str, surrogate_path: Path | None, key: str
) -> Outcome:
    images, labels = _test_images(network, chosen.images)
    readouts, rows, ideal, surrogate_hash = None, 64, chosen.mode == "ideal", ""
    sensing, bits, levels_per = "", 0, ""
    if not ideal:
        if surrogate_path is None:
            raise InputError(f"mode {chosen.mode} needs a surrogate")
        how = (chosen.sensing, chosen.bits, chosen.adc, chosen.levels_per)
        calibration = calibrated(run, chosen.network, surrogate_path, *how)
        levels_per = levels_per_of(network, chosen.levels_per, chosen.adc) or ""
        surrogate, surrogate_hash = load_surrogate(surrogate_path), _hash_of(surrogate_path, SURROGATE)
        readouts, rows = readouts_of(surrogate, calibration, chosen.mlsa), surrogate.rows
        sensing, bits = calibration.sensing, calibration.bits
    make_folder(run)  # Now, and not after the evaluation.
    found = evaluate(network, images, labels, mode=chosen.mode, readouts=readouts, seed=chosen.seed, rows=rows)
    return Outcome(
        network=network.name,
        dataset=dataset_of(network),
        mode=chosen.mode,
        sensing=sensing,
        bits=bits,
        seed=chosen.seed,
        accuracy=found.accuracy,
        partial_sums=found.partial_sums,
        seconds=found.seconds,
        network_sha256=network_hash,
        surrogate_sha256=surrogate_hash,
        key=key,
        amplifier="" if ideal else _amplifier(chosen),
        levels_per=levels_per,
    )


def _test_images(network: Network, count: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The first test images and their labels; all where the count is None."""
    test = load_images(dataset_of(network), "test")
    if count is not None and not 1 <= count <= len(test.labels):
        raise InputError(f"{count} test images asked for, {test.name} has {len(test.labels)}")
    return test.images[:count], test.labels[:count]


def _place(outcome: Outcome) -> tuple[object, ...]:
    """Outcomes of one place replace each other; their keys tell whether the input was the same."""
    how = (outcome.sensing, outcome.bits, outcome.amplifier, outcome.levels_per)
    return (outcome.network, outcome.mode, *how, outcome.seed, outcome.accuracy.n)


def _amplifier(chosen: Chosen) -> str:
    """What turns voltages into codes, where it is not a flash of comparators."""
    return converter_name(chosen.adc) or ("" if chosen.mlsa == "flash" else chosen.mlsa)


def _with_unit(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:g}{unit}"


def _key(chosen: Chosen, network_hash: str, surrogate_path: Path | None, levels_per: str) -> str:
    what: dict[str, object] = {
        "format": FORMAT,
        "network": network_hash,
        "mode": chosen.mode,
        "images": chosen.images,
    }
    if chosen.mode != "ideal" and surrogate_path is not None:
        what |= {
            "surrogate": _hash_of(surrogate_path, SURROGATE),
            "sensing": sensing_of(load_surrogate(surrogate_path), chosen.sensing, chosen.adc),
            "bits": DEFAULT_BITS if chosen.bits is None else chosen.bits,
            "seed": chosen.seed,
            "calibration_images": CALIBRATION_IMAGES,
        }
        # Only where it is another, so that the keys of earlier outcomes stay.
        if chosen.mlsa != "flash":
            what["mlsa"] = chosen.mlsa
        if levels_per:
            what["levels_per"] = levels_per
        if chosen.adc is not None:
            what |= {"adc": repr(load_column_adc(chosen.adc)), "bits": chosen.bits}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _network(name: str) -> tuple[Network, str]:
    path = Path(name)
    if path.suffix != ".h5":
        path = resources.find("models", "networks", f"{name}.h5")
    return load_network(path), _hash_of(path, (NETWORK, (1, 0)))


def _hash_of(path: Path, filetype: tuple[str, tuple[int, int]]) -> str:
    """The content hash that a file states and that reading it has checked."""
    content = hdf5.read(path, filetype=filetype[0], major=filetype[1][0])
    return str(content.attributes["content_hash"])
