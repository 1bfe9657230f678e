"""Everything that a run's page shows, read from its folder and checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from cosim import hdf5, resources
from cosim.campaign.filetypes import SAMPLES, STATUS
from cosim.errors import InputError
from cosim.network.outcome import Outcome, load_outcomes
from cosim.surrogate.calibration import Calibration, group_name
from cosim.surrogate.codes import Mlsa
from cosim.surrogate.family_files import is_family
from cosim.surrogate.files import CALIBRATION, SURROGATE, load_calibration, load_surrogate
from cosim.surrogate.fit import HELD_OUT
from cosim.surrogate.model import Surrogate

Header = Mapping[str, object]
"""A file's root attributes."""

Place = tuple[str, str, int, bool]
"""Network, sensing, bits, and whether every pair of bits has levels of its own."""


@dataclass(frozen=True, slots=True)
class Reads:
    """Good Monte Carlo reads with all rows on, and what became of all samples.

    Args:
        tally: For "column" and "comparator": samples by status.
    """

    n_minus: Float[np.ndarray, " read"]
    n_plus: Float[np.ndarray, " read"]
    bl_v: Float[np.ndarray, " read"]
    blb_v: Float[np.ndarray, " read"]
    held_out: Bool[np.ndarray, " read"]
    tally: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class KeptCalibration:
    """A calibration with its file's name and header.

    Args:
        mlsa: What read the outcomes: a flash where any was one, which has a comparator a level.
    """

    file: str
    calibration: Calibration
    header: Header
    mlsa: Mlsa = "flash"

    @property
    def network(self) -> str:
        """The network whose partial sums set the levels."""
        return str(self.calibration.provenance.get("network", "network not named"))

    @property
    def place(self) -> Place:
        """Which outcomes it belongs to."""
        per_pair = any(len(group) > 2 for group in self.calibration.levels)
        return (self.network, self.calibration.sensing, self.calibration.bits, per_pair)


@dataclass(frozen=True, slots=True)
class Run:
    """A run's results, each with where it came from.

    Args:
        reads: None where the folder has no samples, or samples of another surrogate (`note` says so).
        calibrations: Those that an outcome uses.
        left_out: Calibration files that are of another surrogate, or whose outcomes are.
    """

    surrogate: Surrogate
    header: Header
    reads: Reads | None
    note: str
    calibrations: tuple[KeptCalibration, ...]
    left_out: tuple[str, ...]
    outcomes: tuple[Outcome, ...]


def load_run(folder: Path, surrogate: str | Path | None = None) -> Run:
    """Read a run's folder.

    Args:
        surrogate: A file or a shipped surrogate's name; `surrogate.h5` of the folder by default.

    Raises:
        InputError: Something is missing, damaged or of another surrogate; the hint is the command that makes it.
        UnsafeError: A file reaches outside itself.
    """
    if not folder.is_dir():
        raise InputError("no such run folder", place=str(folder), hint=f"cosim demo --out {folder}")
    path = _surrogate_path(folder, surrogate)
    with _made_by(f"cosim fit {folder}" if path.parent == folder else "name another surrogate"):
        model = None if is_family(path) else load_surrogate(path)
        header = _header(path, SURROGATE)
    if model is None:
        hint = f"cosim evaluate NETWORK --surrogate {path} --corner ... makes a folder of one point, report that"
        raise InputError("a family of several operating points, a page is of one", place=str(path), hint=hint)
    outcomes = _outcomes(folder, path)
    kept = sorted((_calibration(file) for file in folder.glob("calibration-*.h5")), key=_order)
    mine = tuple(each for each in kept if each.calibration.provenance.get("surrogate_sha256") == header["content_hash"])
    current = _of_surrogate(folder, path, outcomes, mine, str(header["content_hash"]))
    reads, note = _reads(folder, model)
    stale = {_levels_of(folder, each).name for each in outcomes if each not in current}
    left_out = tuple(sorted(stale | {each.file for each in kept if each not in mine}))
    used = {_place(each) for each in current}
    drawn = tuple(replace(each, mlsa=_mlsa(each, current)) for each in mine if each.place in used)
    return Run(model, header, reads, note, drawn, left_out, current)


def _mlsa(kept: KeptCalibration, outcomes: tuple[Outcome, ...]) -> Mlsa:
    read = [each for each in outcomes if _place(each) == kept.place]
    return "sequential" if all(each.amplifier == "sequential" for each in read) else "flash"


def _place(outcome: Outcome) -> Place:
    return (outcome.network, outcome.sensing, outcome.bits, outcome.levels_per == "pair")


def _surrogate_path(folder: Path, surrogate: str | Path | None) -> Path:
    if surrogate is None:
        path = folder / "surrogate.h5"
        hint = f"cosim fit {folder}, or name the surrogate that the outcomes are of"
    else:
        path, hint = Path(surrogate), "name a surrogate's file, or one of models/surrogates/"
        if path.suffix != ".h5":
            path = resources.find("models", "surrogates", f"{surrogate}.h5")
    if not path.exists():
        raise InputError("no surrogate", place=str(path), hint=hint)
    return path


def _outcomes(folder: Path, surrogate: Path) -> tuple[Outcome, ...]:
    path = folder / "outcomes.json"
    command = f"cosim evaluate fashion_mnist_mlp --surrogate {surrogate} --out {folder}"
    if not path.exists():
        raise InputError("no outcomes", place=str(path), hint=command)
    try:
        outcomes = load_outcomes(path)
    except InputError as error:
        raise InputError(error.message, place=error.place, hint="delete it; " + command) from error
    if not outcomes:
        raise InputError("it holds no outcome", place=str(path), hint="delete it; " + command)
    return tuple(outcomes)


def _calibration(path: Path) -> KeptCalibration:
    with _made_by("delete it; cosim evaluate makes it again"):
        calibration = load_calibration(path)
        wrong = _wrong(calibration)
        if wrong:
            raise InputError(wrong, place=str(path))
        return KeptCalibration(path.name, calibration, _header(path, CALIBRATION))


def _wrong(calibration: Calibration) -> str:
    """What is wrong with the levels, or nothing."""
    if calibration.sensing not in ("single_ended", "differential") or not calibration.levels:
        return f"sensing {calibration.sensing!r} with {len(calibration.levels)} layers: no calibration"
    read = Counter[str]()
    for group, levels in calibration.levels.items():
        layer, n_active = group_name(group), group[1]
        read[layer] += int(levels.histogram.sum())
        references, finite = levels.reference_v.size, np.isfinite(levels.centroid_mac).all()
        if not references == levels.threshold_count.size == levels.centroid_mac.size - 1 or not finite:
            return f"the levels of layer {layer} do not fit each other"
        if levels.histogram.size != n_active + 1 or levels.histogram.min() < 0:
            return f"the histogram of layer {layer} is not of {n_active} rows"
    # Of layers whose inputs turn rows off, numbers of active rows that never occurred have levels too.
    return next((f"the histogram of layer {layer} is empty" for layer, reads in read.items() if not reads), "")


def _of_surrogate(
    folder: Path, surrogate: Path, outcomes: tuple[Outcome, ...], mine: tuple[KeptCalibration, ...], digest: str
) -> tuple[Outcome, ...]:
    """The outcomes without those of another surrogate.

    Raises:
        InputError: An outcome without its levels, or none of this surrogate although some read a circuit.
    """
    there = {each.place for each in mine}
    kept = tuple(each for each in outcomes if each.mode == "ideal" or each.surrogate_sha256 == digest)
    for each in kept:
        if each.mode != "ideal" and _place(each) not in there:
            place = str(_levels_of(folder, each))
            raise InputError("no calibration of this surrogate", place=place, hint=_again(folder, surrogate, each))
    if len(kept) < len(outcomes) and all(each.mode == "ideal" for each in kept):
        other = next(each for each in outcomes if each not in kept)
        what = "every outcome is of another surrogate than the page's"
        raise InputError(what, place=str(folder / "outcomes.json"), hint=_again(folder, surrogate, other))
    return kept


def _levels_of(folder: Path, outcome: Outcome) -> Path:
    pair = "-pair" if outcome.levels_per == "pair" else ""
    return folder / f"calibration-{outcome.network}-{outcome.sensing}-{outcome.bits}bit{pair}.h5"


def _again(folder: Path, surrogate: Path, outcome: Outcome) -> str:
    per = f" --levels-per {outcome.levels_per}" if outcome.levels_per else ""
    about = f"--sensing {outcome.sensing} --bits {outcome.bits}{per} --out {folder}"
    return f"cosim evaluate {outcome.network} --surrogate {surrogate} {about}"


def _reads(folder: Path, surrogate: Surrogate) -> tuple[Reads | None, str]:
    path = folder / "samples.h5"
    if not path.exists():
        return None, "The samples are not in this folder; the curves are the surrogate's."
    with _made_by(f"cosim characterize RECIPE --out {folder}"):
        content = hdf5.read(path, filetype=SAMPLES[0], major=SAMPLES[1][0])
        if content.attributes["content_hash"] != surrogate.provenance.get("samples_sha256"):
            return None, "samples.h5 of this folder is not what the surrogate was fitted to, so no sample is drawn."
        try:
            return _good(content, surrogate.rows), ""
        except (KeyError, ValueError, IndexError) as error:
            raise InputError(f"incomplete samples: {error}", place=str(path)) from error


def _good(content: hdf5.Content, rows: int) -> Reads:
    table = {name: data.values for name, data in content.datasets.items()}
    good = (table["column_status"] == 0) & (table["column_n_minus"] + table["column_n_plus"] == rows)
    columns = {name: table[f"column_{name}"][good].astype(float) for name in ("n_minus", "n_plus", "bl_v", "blb_v")}
    batch = table.get("column_batch", table["column_sample"])  # files of version 1.0 are of independent samples
    held_out = batch[good] % HELD_OUT == HELD_OUT - 1
    tally = {kind: _tally(table[f"{kind}_status"]) for kind in ("column", "comparator") if f"{kind}_status" in table}
    return Reads(**columns, held_out=held_out, tally=tally)


def _tally(status: np.ndarray) -> dict[str, int]:
    return {STATUS[code]: int((status == code).sum()) for code in np.unique(status)}


def _header(path: Path, filetype: tuple[str, tuple[int, int]]) -> Header:
    return hdf5.read(path, filetype=filetype[0], major=filetype[1][0]).attributes


def _order(kept: KeptCalibration) -> tuple[str, bool, int, str]:
    """Single-ended first, as the column's figures do."""
    return (kept.network, kept.calibration.sensing != "single_ended", kept.calibration.bits, kept.file)


@contextmanager
def _made_by(command: str) -> Generator[None]:
    """Say of a damaged file which command makes it."""
    try:
        yield
    except InputError as error:
        raise InputError(error.message, place=error.place, hint=command) from error
