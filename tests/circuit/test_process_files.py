from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cosim.circuit.corner import Corner
from cosim.circuit.process import load_process, vth_sigma
from cosim.errors import InputError, UnsafeError
from cosim.resources import find

FOLDER = find("netlists", "process", "generic65")


def test_the_process_has_five_corners_and_two_transistor_types() -> None:
    process = load_process("generic65")
    assert set(process.models) == {"tt", "ff", "ss", "sf", "fs"}
    assert process.model_names == {"nfet": "nfet", "pfet": "pfet"}
    assert process.device("pfet").a_vt_vm == 3.0e-9


def test_the_models_are_all_that_a_corner_holds() -> None:
    text = load_process(FOLDER).corner_text("ss")
    assert [line.split()[0] for line in text.splitlines() if not line.startswith("+")] == [".model", ".model"]


def test_an_unknown_corner_or_type_is_told_with_what_there_is() -> None:
    process = load_process("generic65")
    with pytest.raises(InputError, match=r"no corner 'xx' \(it has: ff, fs, sf, ss, tt\)"):
        process.corner_text("xx")
    with pytest.raises(InputError, match="did you mean 'nfet'"):
        process.device("nfets")


def test_wrong_process_folders_are_refused(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(FOLDER, tmp_path / "kit"))
    (copy / "tt.lib").write_text("* models\n.control\nshell id\n.endc\n", encoding="utf-8")
    with pytest.raises(UnsafeError, match=r"tt\.lib:2"):
        load_process(copy)
    for path in copy.glob("*.lib"):
        path.unlink()
    with pytest.raises(InputError, match="no corner files"):
        load_process(copy)
    (copy / "mismatch.toml").write_text('title = "x"\n[devices.nfet]\nmodel = "n"\na_vt_vm = -1\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"mismatch\.toml:4:\d+: .*at least 0"):
        load_process(copy)


def test_sigma_refuses_sizes_that_are_not_positive() -> None:
    for arguments in (
        (3e-9, 0.0, 60e-9),
        (3e-9, 1e-7, -6e-8),
        (-3e-9, 1e-7, 6e-8),
        (3e-9, float("nan"), 6e-8),
        (3e-9, 1e-320, 6e-8),
    ):
        with pytest.raises(ValueError, match="positive"):
            vth_sigma(*arguments)
    with pytest.raises(InputError, match="positive"):
        load_process("generic65").device("nfet").sigma("vth", 1e-320, 6e-8)


def test_a_corner_refuses_what_is_no_supply_or_temperature() -> None:
    for arguments in (("tt", 0.0, 27.0), ("tt", float("nan"), 27.0), ("tt", 1.0, 300.0)):
        with pytest.raises(InputError):
            Corner(*arguments)
