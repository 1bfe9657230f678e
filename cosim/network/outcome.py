"""Outcomes of evaluations as they are kept beside a run and shown on its page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cosim.atomic import replace_file
from cosim.errors import InputError
from cosim.stats import Estimate

OUTCOMES = "cosim-outcomes"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One evaluation of one network.

    Args:
        sensing: How the column was sensed; empty in mode ideal, which reads no circuit.
        bits: Bits of a code; 0 in mode ideal.
        accuracy: With its 95 % interval over images.
        seconds: Wall time of the evaluation.
        key: Hash of network, images, surrogate, calibration, mode and seed.
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
    key: str


def save_outcomes(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write outcomes as JSON; the file is there completely or not at all."""
    content = {"filetype": OUTCOMES, "version": [1, 0], "outcomes": [asdict(each) for each in outcomes]}
    replace_file(path, json.dumps(content, indent=1).encode())


def load_outcomes(path: Path) -> list[Outcome]:
    """Outcomes from JSON; none where there is no file.

    Raises:
        InputError: The file is damaged or of another type.
    """
    if not path.exists():
        return []
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["filetype"] != OUTCOMES or content["version"][0] != 1:
            raise ValueError("another type or version")
        return [Outcome(**(each | {"accuracy": Estimate(**each["accuracy"])})) for each in content["outcomes"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"no outcomes file of version 1: {error}", place=str(path), hint="delete it") from error
