"""The chain's links kept in one folder: each step is skipped where its result is there for the same input.

A run folder holds `samples.h5`, `surrogate.h5`, a `calibration-*.h5` for each network and sensing, `outcomes.json`
and `report.html`. Every file says by hash what it was made from.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cosim import hdf5, resources
from cosim.atomic import make_folder
from cosim.campaign.filetypes import SAMPLES
from cosim.datasets import Name, load_images
from cosim.errors import CosimError, InputError
from cosim.network.files import FILETYPE as NETWORK
from cosim.network.files import load_network
from cosim.network.inference import evaluate
from cosim.network.layers import Network
from cosim.network.outcome import Outcome, load_outcomes, save_outcomes
from cosim.network.program import Mode
from cosim.network.sensing import calibrate_network, readouts_of
from cosim.surrogate.calibration import Calibration
from cosim.surrogate.files import SURROGATE, load_calibration, load_surrogate, save_calibration, save_surrogate
from cosim.surrogate.fit import fit
from cosim.surrogate.model import Sensing, Surrogate

CALIBRATION_IMAGES = 10_000
"""Training images for the levels: the first of the training set, never test images."""

FORMAT = 3
"""Raised when the same input gives another result, so that kept results are not taken for new ones."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What an evaluation is made of.

    Args:
        network: A network's name or file.
        images: Test images, from the first; all where it is None.
    """

    network: str
    mode: Mode
    sensing: Sensing = "differential"
    bits: int = 3
    seed: int = 0
    images: int | None = None


def fitted(run: Path, *, max_failure_rate: float = 0.01) -> Path:
    """The surrogate of a run's samples; fitted now unless it is there and of these samples."""
    path = run / "surrogate.h5"
    samples = _hash_of(run / "samples.h5", SAMPLES)
    with suppress(CosimError):  # not there, damaged or of another version: fit now
        kept = load_surrogate(path).provenance
        if (kept.get("samples_sha256"), kept.get("fit_format")) == (samples, FORMAT):
            return path
    surrogate = fit(run, max_failure_rate=max_failure_rate)
    marked = Surrogate(
        surrogate.line, surrogate.comparators, surrogate.validation, dict(surrogate.provenance) | {"fit_format": FORMAT}
    )
    save_surrogate(marked, path)
    return path


def calibrated(run: Path, network_name: str, surrogate_path: Path, sensing: Sensing, bits: int) -> Calibration:
    """The levels for a network; made now from training images unless they are there and of the same input.

    Raises:
        InputError: The levels lie beyond what was measured, which keeps nothing, or the folder cannot be written.
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
    path = run / f"calibration-{network.name}-{sensing}-{bits}bit.h5"
    with suppress(CosimError):  # not there, damaged or of another version: calibrate now
        kept = load_calibration(path)
        if all(kept.provenance.get(name) == value for name, value in about.items()):
            return kept
    images = load_images(dataset_of(network), "train").images[:CALIBRATION_IMAGES]
    surrogate = load_surrogate(surrogate_path)
    calibration = calibrate_network(network, surrogate, images, sensing=sensing, bits=bits, provenance=about)
    readouts_of(surrogate, calibration)  # What cannot be read is refused before it is kept.
    make_folder(run)
    save_calibration(calibration, path)
    return calibration


def evaluated(run: Path, chosen: Chosen, surrogate_path: Path | None) -> Outcome:
    """The accuracy of a network on its test images; evaluated now unless it is among the run's outcomes.

    Raises:
        InputError: A mode other than ideal without a surrogate, images that are not there or fewer than asked for,
            or a folder that cannot be written.
    """
    network, network_hash = _network(chosen.network)
    key = _key(chosen, network_hash, surrogate_path)
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
    if name not in ("mnist", "fashion_mnist"):
        raise InputError(f"network {network.name} is for data set {name!r}, expected mnist or fashion_mnist")
    return name


def _evaluate(
    run: Path, chosen: Chosen, network: Network, network_hash: str, surrogate_path: Path | None, key: str
) -> Outcome:
    images, labels = _test_images(network, chosen.images)
    readouts, rows, ideal, surrogate_hash = None, 64, chosen.mode == "ideal", ""
    if not ideal:
        if surrogate_path is None:
            raise InputError(f"mode {chosen.mode} needs a surrogate")
        calibration = calibrated(run, chosen.network, surrogate_path, chosen.sensing, chosen.bits)
        surrogate, surrogate_hash = load_surrogate(surrogate_path), _hash_of(surrogate_path, SURROGATE)
        readouts, rows = readouts_of(surrogate, calibration), surrogate.rows
    make_folder(run)  # Now, and not after the evaluation.
    found = evaluate(network, images, labels, mode=chosen.mode, readouts=readouts, seed=chosen.seed, rows=rows)
    return Outcome(
        network=network.name,
        dataset=dataset_of(network),
        mode=chosen.mode,
        sensing="" if ideal else chosen.sensing,
        bits=0 if ideal else chosen.bits,
        seed=chosen.seed,
        accuracy=found.accuracy,
        partial_sums=found.partial_sums,
        seconds=found.seconds,
        network_sha256=network_hash,
        surrogate_sha256=surrogate_hash,
        key=key,
    )


def _test_images(network: Network, count: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The first test images and their labels; all where the count is None."""
    test = load_images(dataset_of(network), "test")
    if count is not None and not 1 <= count <= len(test.labels):
        raise InputError(f"{count} test images asked for, {test.name} has {len(test.labels)}")
    return test.images[:count], test.labels[:count]


def _place(outcome: Outcome) -> tuple[object, ...]:
    """Outcomes of one place replace each other; their keys tell whether the input was the same."""
    return (outcome.network, outcome.mode, outcome.sensing, outcome.bits, outcome.seed, outcome.accuracy.n)


def _key(chosen: Chosen, network_hash: str, surrogate_path: Path | None) -> str:
    what: dict[str, object] = {
        "format": FORMAT,
        "network": network_hash,
        "mode": chosen.mode,
        "images": chosen.images,
    }
    if chosen.mode != "ideal" and surrogate_path is not None:
        what |= {
            "surrogate": _hash_of(surrogate_path, SURROGATE),
            "sensing": chosen.sensing,
            "bits": chosen.bits,
            "seed": chosen.seed,
            "calibration_images": CALIBRATION_IMAGES,
        }
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
