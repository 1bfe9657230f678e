"""What the page says of who read the columns, and where."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from cosim.network.outcome import load_outcomes, save_outcomes
from cosim.report.origin import operating_point, samples_from
from cosim.report.page import page_of
from cosim.report.run import load_run
from cosim.report.tables import code_tables

POINT = {"process": "tt", "vdd_v": 1.0, "temp_c": 27.0, "word_line_v": 0.5, "pulse_s": 1.5e-10}
FAST = POINT | {"level": "L2", "l2_bias_mv": 0.0631, "l2_rms_mv": 0.0214}


def test_ngspice_read_the_samples_of_an_l0_run() -> None:
    for records in ([], [POINT], [POINT | {"level": "L0"}]):
        assert samples_from({"points": json.dumps(records)}).startswith("every sample is an ngspice run")


def test_the_fast_columns_errors_are_named() -> None:
    said = samples_from({"points": json.dumps([FAST])})
    assert "fast model" in said
    assert "0.063 mV (bias) and 0.021 mV (rms)" in said
    assert "missed" not in said
    assert "missed its bound" in samples_from({"points": json.dumps([FAST | {"l2_reason": "at 60+4"}])})
    assert "at 1 of 2 operating points" in samples_from({"points": json.dumps([FAST, POINT | {"level": "L0"}])})


def test_a_point_between_is_called_so() -> None:
    assert (
        operating_point({"points": json.dumps([POINT])})
        == "One operating point: tt 1 V 27 C, word line 0.5 V, pulse 150 ps"
    )
    assert operating_point({"operating_point": "ss 0.95 V 27 C", "interpolated": 1}).endswith(
        "ss 0.95 V 27 C, interpolated between those that were simulated"
    )


def test_the_page_says_it(whole_run: Path) -> None:
    run = load_run(whole_run)
    fast = dataclasses.replace(
        run.surrogate, provenance=dict(run.surrogate.provenance) | {"points": json.dumps([FAST])}
    )
    assert "Real: every sample is an ngspice run" in page_of(run)
    assert "Real: columns were read by the fast model" in page_of(dataclasses.replace(run, surrogate=fast))


def test_codes_are_those_of_the_sense_amplifier_that_read(run: Path) -> None:
    """One comparator for all levels gives other codes than one comparator a level."""
    flash = code_tables(load_run(run))
    outcomes = [
        dataclasses.replace(each, amplifier="sequential" if each.sensing else "")
        for each in load_outcomes(run / "outcomes.json")
    ]
    save_outcomes(outcomes, run / "outcomes.json")
    found = load_run(run)
    sequential = code_tables(found)
    assert {kept.mlsa for kept in found.calibrations} == {"sequential"}
    # Single-ended levels lie five offset sigmas apart here, so that two of them rarely fire in the wrong order.
    assert max(abs(flash[key] - sequential[key]).max() for key in flash) > 1e-5
    assert "3 bit, sequential" in page_of(found)
