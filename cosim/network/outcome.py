"""Outcomes of evaluations as they are kept beside a run and shown on its page."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cosim.atomic import replace_file
from cosim.errors import InputError
from cosim.stats import Estimate
from cosim.text_files import reason

OUTCOMES = "cosim-outcomes"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One evaluation of one network.

    Args:
        sensing: How the column was sensed; empty in mode ideal, which reads no circuit.
        bits: Bits of a code; 0 in mode ideal.
        accuracy: With its 95 % interval over images.
        seconds: Wall time of the evaluation.
        network_sha256: Content hash of the network.
        surrogate_sha256: Content hash of the surrogate; empty in mode ideal.
        key: Hash of network, images, surrogate, calibration, mode and seed.
        amplifier: `sequential`, or the name of a column ADC; empty for a flash of comparators, and in mode ideal.
        levels_per: `pair` where every pair of bits of a layer has levels of its own, `layer` where all have one set;
            empty where layers have one pair anyway, or a converter's levels, and in mode ideal.
    """

    network: str
    dataset: str
    mode: str
    sensing: str
    bits: int
    seed: int
    accuracy: Estimate
    partial_sums: int
    seconds: float
    network_sha256: str
    surrogate_sha256: str
    key: str
    amplifier: str = ""
    levels_per: str = ""


def save_outcomes(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write outcomes as JSON; the file is there completely or not at all."""
    content = {"filetype": OUTCOMES, "version": [1, 2], "outcomes": [asdict(each) for each in outcomes]}
    replace_file(path, json.dumps(content, indent=1).encode())


def load_outcomes(path: Path) -> list[Outcome]:
    """Outcomes from JSON; none where there is no file.

    Raises:
        InputError: The file is damaged, of another type, or holds an accuracy that cannot be.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(f"cannot be read: {reason(error)}", place=str(path)) from error
    except ValueError as error:
        raise InputError("no outcomes file of version 1: not UTF-8", place=str(path), hint="delete it") from error
    outcomes = _parsed(text, path)
    wrong = next((each for each in outcomes if not _possible(each)), None)
    if wrong is not None:
        raise InputError(f"an accuracy of {wrong.network} that cannot be", place=str(path), hint="delete it")
    return outcomes


def _parsed(text: str, path: Path) -> list[Outcome]:
    try:
        content: dict[str, Any] = json.loads(text)
        if content["filetype"] != OUTCOMES or content["version"][0] != 1:
            raise ValueError("another type or version")
        return TypeAdapter(list[Outcome]).validate_json(json.dumps(content["outcomes"]), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"outcome {where}: {first['msg']}", place=str(path), hint="delete it") from error
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        what = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"no outcomes file of version 1: {what}", place=str(path), hint="delete it") from error


def _possible(outcome: Outcome) -> bool:
    accuracy = outcome.accuracy
    ordered = 0 <= accuracy.low <= accuracy.value <= accuracy.high <= 1
    return ordered and accuracy.n > 0 and outcome.partial_sums >= 0 and math.isfinite(outcome.seconds)
