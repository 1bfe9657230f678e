"""The command line as a user meets it: light help, exit codes, one line for an error, JSON on standard output."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import select
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from cosim.campaign.collect import collect
from cosim.campaign.recipe import load_campaign
from cosim.resources import data_folder

Cosim = Callable[..., subprocess.CompletedProcess[str]]

VERBS = (
    "demo",
    "plan",
    "characterize",
    "fit",
    "validate",
    "regenerate",
    "evaluate",
    "train",
    "report",
    "data",
    "doctor",
)
HEAVY = ("numpy", "scipy", "sklearn", "torch", "numba", "PySpice", "matplotlib", "h5py", "pydantic", "jinja2")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory, tiny_text: Callable[..., str]) -> Path:
    """A folder with a tiny recipe and its samples, to be copied."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.toml").write_text(tiny_text(comparator=True, tolerance_v="0.02"))
    for _ in collect(load_campaign(folder / "tiny.toml"), folder / "run"):
        pass
    return folder


@pytest.fixture
def here(run_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(run_folder, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def verb(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cosim:
    """Runs the command line in this process, which is faster; `main` adds only the exit."""
    from cosim.cli import run

    def call(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as changed:
            changed.chdir(here)
            for name, value in environment.items():
                changed.setenv(name, value)
            capsys.readouterr()
            code = run([str(argument) for argument in arguments])
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return call


def refused(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    """Exit code, and one line on standard error that says so, after notes of progress at most."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    *notes, line = done.stderr.splitlines()
    assert all(not note.startswith("cosim: ") for note in notes)
    assert line.startswith("cosim: ")
    for part in parts:
        assert part in line, line


# --- Help ---


def test_help_is_light() -> None:
    """What makes it fast: nothing heavy is imported. A fresh process takes some 0.25 s of computing."""
    code = (
        "import sys; from cosim.cli import run; code = run(['--help'])\n"
        f"print('HEAVY', [name for name in {HEAVY} if name in sys.modules], code)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.splitlines()[-1] == "HEAVY [] 0"
    assert all(verb in done.stdout for verb in VERBS)
    # 0.5 s is allowed; computing time, so that a busy machine does not matter.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_import_is_light() -> None:
    code = f"import sys, cosim; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_verb_has_help(verb: Cosim) -> None:
    for name in VERBS:
        done = verb(name, "--help")
        assert done.returncode == 0
        assert f"Usage: cosim {name}" in done.stdout
        assert "--json" in done.stdout


def test_version(cosim: Cosim) -> None:
    from importlib.metadata import version

    assert cosim("--version").stdout.strip() == version("cosim")


# --- Exit codes ---


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["charakterize"], ["Unknown command", "charakterize"]),
        (["fit"], ["--run requires an argument"]),
        (["plan", "tiny.toml", "--ot", "x"], ["Unknown option", "--out"]),
        (["characterize", "tiny.toml", "--workers", "two"], ["--workers", "two"]),
        (["characterize", "tiny.toml", "--workers", "0"], ["workers = 0, expected at least 1"]),
        (["characterize", "quik"], ["there is no 'quik.toml'", "did you mean 'quick.toml'?"]),
        (["characterize", "nowhere.toml"], ["nowhere.toml"]),
        (["fit", "nowhere"], ["nowhere", "cannot be read"]),
        (["fit", "tiny.toml"], ["tiny.toml: expected an HDF5 file"]),
        (["fit", "run", "--out", "nowhere/a.h5"], ["nowhere/a.h5", "cannot be written"]),
        (["fit", "run", "--max-failure-rate", "nan"], ["expected 0 to 1"]),
        (["validate", "run/samples.h5"], ["expected a file of type 'cosim-surrogate', got 'cosim-samples'"]),
        (["validate", "xnor_9t"], ["there is no 'xnor_9t.h5'"]),
        (["evaluate", "fashion_mnist_mlp", "--images", "0"], ["--images must be at least 1, got 0"]),
        (["evaluate", "fashion_mnist_mlp", "--mode", "perfect"], ["perfect", "nominal"]),
        (["evaluate", "fashion_mlp", "--mode", "ideal"], ["there is no 'fashion_mlp.h5'"]),
        (["evaluate", "tiny.toml", "--mode", "ideal"], ["tiny.toml"]),
        (["demo", "--network", "fashion_mlp"], ["there is no 'fashion_mlp.h5'"]),
        (["report", "nowhere"], ["nowhere"]),
        (["train", "nowhere"], ["there is no 'nowhere.toml'"]),
        (["data", "fetch", "cifar"], ["cifar", "fashion_mnist"]),
    ],
)
def test_wrong_input_is_2(verb: Cosim, arguments: list[str], parts: list[str]) -> None:
    done = verb(*arguments)
    assert done.stdout == ""
    refused(done, 2, *parts)


def test_operating_points_and_flips_are_told(
    tiny_text: Callable[..., str], cosim: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Two word lines, of which the second flips cells: the plan has a row for each, characterize a flip map."""
    (tmp_path / "two.toml").write_text(tiny_text() + "[[point]]\n[[point]]\nword_line_v = 1.0\npulse_s = 1e-9\n")
    planned = cosim("plan", "two.toml", "--workers", "1")
    assert "tt 1 V 27 C, word line 0.5 V, pulse 150 ps: 6 counts" in planned.stdout
    done = cosim("characterize", "two.toml", "--out", "run", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "tt 1 V 27 C, word line 1 V, pulse 1000 ps: all samples are there" in done.stderr
    (header,) = [line for line in done.stdout.splitlines() if line.startswith("cells flipped, share of samples at")]
    assert "1+7" in header
    again = json.loads(cosim("characterize", "two.toml", "--out", "run", "--json").stdout)
    assert {each["point"] for each in again["flips"]} == {"tt 1 V 27 C, word line 1 V, pulse 1000 ps"}
    assert sum(each["flipped"] for each in again["flips"]) == again["flipped"] > 0


def test_a_wrong_recipe_is_2_with_its_line(cosim: Cosim, tiny_recipe: Callable[..., Path], tmp_path: Path) -> None:
    recipe = tiny_recipe(samples="16\nsamplse = 3")
    done = cosim("characterize", recipe, "--out", "run")
    refused(done, 2, f"{recipe}:16:1", "unknown key 'column.samplse'", "did you mean 'samples'?")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_2_and_leaves_nothing_half_written(tmp_path: Path, tiny_recipe: Callable[..., Path]) -> None:
    """A limit on the size of files stands for the full disk: both are an error of an ordinary write."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\nfrom cosim.cli import main; main()"
    )
    recipe, run = tiny_recipe(), tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", code, "characterize", str(recipe), "--out", str(run)],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    refused(done, 2, "cannot be written")
    assert [path.name for path in run.rglob("*") if path.is_file()] == [".lock"]


def test_a_folder_that_cannot_be_written_is_2(cosim: Cosim, tiny_recipe: Callable[..., Path]) -> None:
    refused(cosim("characterize", tiny_recipe(), "--out", "/sys/cosim"), 2, "/sys/cosim: cannot write here")


def test_worse_than_asked_is_3(here: Path, verb: Cosim) -> None:
    assert verb("fit", "run").returncode == 0
    done = verb("validate", "run/surrogate.h5", "--max-mean-counts", "0")
    refused(done, 3, "run/surrogate.h5: bl mean_rms_counts is ", "asked for 0")
    assert "held-out samples" in done.stdout
    assert verb("validate", "run/surrogate.h5", "--max-mean-counts", "50", "--min-ks-p", "0").returncode == 0


def test_unsafe_is_4(here: Path, cosim: Cosim) -> None:
    cell = shutil.copytree(data_folder("netlists") / "bitcells" / "xnor_8t", here / "cells" / "mine")
    netlist = cell / "cell.cir"
    netlist.write_text(netlist.read_text() + ".control\nshell touch was_run\n.endc\n")
    recipe = here / "tiny.toml"
    recipe.write_text(recipe.read_text().replace('"xnor_8t"', '"cells/mine"'))
    refused(cosim("characterize", recipe, "--out", "new"), 4, "cell.cir:", ".control")
    with h5py.File(here / "linked.h5", "w") as file:
        file["passwords"] = h5py.ExternalLink("/etc/passwd", "/")
    refused(cosim("validate", "linked.h5"), 4, "linked.h5")
    assert not list(here.rglob("was_run"))
    assert not (here / "new").exists()


def test_a_missing_engine_is_5(here: Path, verb: Cosim) -> None:
    missing = {"NGSPICE_LIBRARY_PATH": "/nowhere/libngspice.so"}
    for arguments in (["characterize", "tiny.toml", "--out", "new"], ["plan", "tiny.toml"], ["doctor"]):
        refused(verb(*arguments, **missing), 5, "/nowhere/libngspice.so", "apt-get install ngspice libngspice0")
    recipe = here / "tiny.toml"
    recipe.write_text(recipe.read_text().replace("seed = 3", 'seed = 3\nengine = "batch"'))
    refused(verb("characterize", recipe, "--out", "new", PATH="/nowhere"), 5, "ngspice program is not on the PATH")
    assert not (here / "new").exists()


# --- Results ---


def test_json_is_one_object_on_standard_output(here: Path, verb: Cosim) -> None:
    expected = {
        ("plan", "tiny.toml", "--out", "run"): {"points"},
        ("characterize", "tiny.toml", "--out", "run"): {"samples", "simulated", "failed", "flipped", "folder"},
        ("fit", "run"): {"bl_mean_rms_mv", "difference_ks_p"},
        ("validate", "run/surrogate.h5"): {"bl_mean_rms_mv", "difference_ks_p"},
        ("doctor",): {"cosim", "ngspice library", "ngspice program"},
        ("data", "check", "fashion_mnist"): {"fashion_mnist"},
    }
    for arguments, keys in expected.items():
        done = verb(*arguments, "--json")
        assert done.returncode == 0, (arguments, done.stderr)
        content = json.loads(done.stdout)
        assert isinstance(content, dict)
        assert keys <= set(content), arguments
        assert "{" not in done.stderr
    first = json.loads(verb("plan", "tiny.toml", "--out", "run", "--json").stdout)["points"][0]
    assert first.pop("sample_s") > 0
    about = {"operating": 0, "level": "L0"}
    assert first == about | {"label": "column, 0 rows on BL and 8 on BLB", "samples": 16, "done": 16, "left_s": 0.0}


def test_the_last_line_names_the_next_command(here: Path, verb: Cosim) -> None:
    """Following it leads along the chain."""
    plan = verb("plan", "tiny.toml", "--out", "run").stdout.splitlines()[-1]
    assert plan == "Next: cosim characterize tiny.toml --out run"
    characterize = verb(*plan.split()[2:]).stdout.splitlines()[-1]
    assert characterize == "Next: cosim fit run"
    fit = verb(*characterize.split()[2:])
    assert fit.stdout.splitlines()[-1].startswith("Next: cosim evaluate fashion_mnist_mlp --surrogate run/surrogate.h5")
    assert "KS p" in fit.stdout
    assert (here / "run" / "surrogate.h5").exists()


def test_a_reader_that_leaves_is_no_error(here: Path) -> None:
    for arguments in (["plan", "tiny.toml"], ["plan", "tiny.toml", "--json"]):
        process = subprocess.Popen(
            [sys.executable, "-c", "from cosim.cli import main; main()", *arguments],
            cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read()
        process.stderr.close()
        assert (process.wait(60), said) == (0, ""), arguments


def on_a_terminal(arguments: list[str], cwd: Path, **environment: str) -> str:
    """What a terminal shows."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", "from cosim.cli import main; main()", *arguments],
        cwd=cwd, env=os.environ | {"TERM": "xterm-256color", **environment},
        stdin=follower, stdout=follower, stderr=follower,
    )  # fmt: skip
    os.close(follower)
    shown = b""
    while select.select([leader], [], [], 60)[0]:
        try:
            part = os.read(leader, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(leader)
    assert process.wait(60) == 0, shown
    return shown.decode()


COLOR = re.compile(r"\x1b\[[0-9;]*(?<![0-9])(3[0-7]|9[0-7]|38|4[0-7]|48)(?![0-9])[0-9;]*m")


def test_a_terminal_shows_a_bar_and_no_color_is_respected(here: Path) -> None:
    arguments = ["characterize", "tiny.toml", "--out", "run"]
    shard = next((here / "run" / "shards").iterdir())
    shard.unlink()
    colored = on_a_terminal(arguments, here)
    assert "/128" in colored
    assert COLOR.search(colored)
    shard.unlink()
    plain = on_a_terminal(arguments, here, NO_COLOR="1")
    assert "/128" in plain
    assert not COLOR.search(plain)
    assert not COLOR.search(on_a_terminal(["--help"], here, NO_COLOR="1"))


def test_python_m_is_the_same_command() -> None:
    command = [sys.executable, "-m", "cosim", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("cosim: ")
    assert done.stderr.count("\n") == 1
