"""What is missing, damaged or of another surrogate is named, with the command that makes it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cosim import hdf5
from cosim.errors import InputError
from cosim.report.page import write_page
from cosim.report.run import load_run
from cosim.surrogate.files import load_surrogate, save_surrogate
from cosim.surrogate.model import Surrogate


def refusal(run: Path) -> str:
    with pytest.raises(InputError) as caught:
        write_page(run)
    assert not (run / "report.html").exists()
    return str(caught.value)


def test_a_whole_run(whole_run: Path) -> None:
    run = load_run(whole_run)
    assert run.reads is not None
    assert run.reads.held_out.sum() == run.reads.held_out.size / 4
    assert [each.calibration.sensing for each in run.calibrations] == ["single_ended", "differential"]
    assert len(run.outcomes) == 5


def test_a_family_is_refused_with_the_way_to_a_page_of_one_point(whole_run: Path) -> None:
    with pytest.raises(InputError, match=r"a page is of one .cosim evaluate NETWORK .* --corner"):
        load_run(whole_run, "xnor_8t_corners")


def test_no_folder(tmp_path: Path) -> None:
    assert "no such run folder (cosim demo" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("surrogate.h5", "cosim fit"),
        ("outcomes.json", "cosim evaluate"),
        ("calibration-toy_mlp-differential-3bit.h5", "cosim evaluate toy_mlp --surrogate"),
    ],
)
def test_missing_file(run: Path, name: str, command: str) -> None:
    (run / name).unlink()
    message = refusal(run)
    assert name in message
    assert command in message


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("surrogate.h5", "cosim fit"),
        ("samples.h5", "cosim characterize"),
        ("calibration-toy_mlp-differential-3bit.h5", "cosim evaluate"),
        ("outcomes.json", "delete it"),
    ],
)
def test_file_cut_short(run: Path, name: str, command: str) -> None:
    whole = (run / name).read_bytes()
    (run / name).write_bytes(whole[: len(whole) // 2])
    message = refusal(run)
    assert name in message
    assert command in message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bits", "3"),
        ("seed", 1.5),
        ("network", 5),
        ("accuracy", {"value": 0.9, "low": 0.95, "high": 0.99, "n": 100}),
        ("accuracy", {"value": 0.9, "low": 0.8, "high": 1.2, "n": 100}),
        ("accuracy", {"value": float("nan"), "low": 0.8, "high": 0.9, "n": 100}),
        ("accuracy", {"value": 0.9, "low": 0.8, "high": 0.95, "n": 0}),
        ("seconds", float("inf")),
    ],
)
def test_an_outcome_that_cannot_be(run: Path, field: str, value: object) -> None:
    path = run / "outcomes.json"
    content = json.loads(path.read_text())
    content["outcomes"][2][field] = value
    path.write_text(json.dumps(content))
    assert "outcomes.json" in refusal(run)


def test_no_outcome(run: Path) -> None:
    path = run / "outcomes.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"outcomes": []}))
    assert "holds no outcome" in refusal(run)


def test_levels_of_another_surrogate(run: Path) -> None:
    change_surrogate(run, samples_sha256="0" * 64)
    message = refusal(run)
    assert "of another surrogate" in message
    assert "cosim evaluate toy_mlp" in message


def test_one_calibration_of_another_surrogate_is_left_out(run: Path) -> None:
    path = run / "calibration-toy_mlp-differential-3bit.h5"
    content = hdf5.read(path, filetype="cosim-calibration", major=1)
    attributes = dict(content.attributes) | {"surrogate_sha256": "0" * 64}
    hdf5.write(path, hdf5.Content(attributes, content.datasets), filetype="cosim-calibration", version=(1, 0))
    assert "no calibration of this surrogate" in refusal(run)
    of_another_surrogate(run, "differential")
    assert {each.sensing for each in load_run(run).outcomes} == {"", "single_ended"}
    text = write_page(run).read_text(encoding="utf-8")
    assert "87.49" not in text
    assert f"the outcomes of {path.name}" in text


def test_a_calibration_that_no_outcome_uses_is_not_drawn(run: Path) -> None:
    """An evaluation that failed leaves none, but a file from elsewhere must not decide about the page either."""
    path = run / "calibration-toy_mlp-differential-3bit.h5"
    content = hdf5.read(path, filetype="cosim-calibration", major=1)
    changed = dict(content.datasets)
    changed["reference_v"] = replace(changed["reference_v"], values=changed["reference_v"].values + 9.0)
    attributes = dict(content.attributes) | {"network": "another"}
    other = run / "calibration-another-differential-3bit.h5"
    hdf5.write(other, hdf5.Content(attributes, changed), filetype="cosim-calibration", version=(1, 0))
    assert {each.network for each in load_run(run).calibrations} == {"toy_mlp"}
    assert other.name not in write_page(run).read_text(encoding="utf-8")


def test_outcome_that_a_new_fit_left_behind(run: Path) -> None:
    of_another_surrogate(run, "single_ended")
    found = load_run(run)
    assert {each.sensing for each in found.outcomes} == {"", "differential"}
    assert found.left_out == ("calibration-toy_mlp-single_ended-3bit.h5",)


def test_samples_of_another_surrogate_are_not_drawn(run: Path) -> None:
    change_surrogate(run, samples_sha256="0" * 64)
    ideal_alone(run)
    found = load_run(run)
    assert found.reads is None
    assert "not what the surrogate was fitted to" in found.note
    assert len(found.left_out) == 2
    assert found.left_out[0] in write_page(run).read_text(encoding="utf-8")


def test_samples_without_a_table(run: Path) -> None:
    empty = hdf5.Content({"rows": 16}, {})
    hdf5.write(run / "samples.h5", empty, filetype="cosim-samples", version=(1, 0))
    change_surrogate(run, samples_sha256=hdf5.content_hash(empty))
    ideal_alone(run)
    message = refusal(run)
    assert "incomplete samples" in message
    assert "cosim characterize" in message


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("histogram", lambda table: 0 * table, "is empty"),
        ("centroid_mac", lambda table: table[:, :-1], "do not fit"),
        ("histogram", lambda table: table[:, :-1], "expected 17"),
    ],
)
def test_levels_that_do_not_fit(run: Path, name: str, change, expected: str) -> None:
    path = run / "calibration-toy_mlp-differential-3bit.h5"
    content = hdf5.read(path, filetype="cosim-calibration", major=1)
    table = content.datasets[name]
    changed = hdf5.Dataset(np.asarray(change(table.values)), table.units, table.long_name, ("group", f"own_{name}"))
    datasets = dict(content.datasets) | {name: changed}
    hdf5.write(path, hdf5.Content(content.attributes, datasets), filetype="cosim-calibration", version=(1, 0))
    message = refusal(run)
    assert expected in message
    assert path.name in message


def change_surrogate(run: Path, **provenance: str) -> None:
    model = load_surrogate(run / "surrogate.h5")
    changed = Surrogate(model.line, model.comparators, model.validation, dict(model.provenance) | provenance)
    save_surrogate(changed, run / "surrogate.h5")


def of_another_surrogate(run: Path, sensing: str) -> None:
    path = run / "outcomes.json"
    content = json.loads(path.read_text())
    for outcome in content["outcomes"]:
        if outcome["sensing"] == sensing:
            outcome["surrogate_sha256"] = "0" * 64
    path.write_text(json.dumps(content))


def ideal_alone(run: Path) -> None:
    path = run / "outcomes.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"outcomes": content["outcomes"][:1]}))
