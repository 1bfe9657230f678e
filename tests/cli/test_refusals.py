"""What the command line refuses leaves nothing behind, and what it shows steers no terminal."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cosim.cli import run
from cosim.cli.console import Meter, note, show, table
from cosim.datasets import candidates
from cosim.surrogate.files import save_surrogate
from cosim.surrogate.model import Surrogate

NETWORK = "fashion_mnist_mlp"
Verb = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def verb(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Verb:
    """Runs the command line in this process, in the test's folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        code = run(list(arguments))
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return call


def refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    for part in ("cosim: ", *parts):
        assert part in line


@pytest.mark.parametrize("out", ["/proc/cosim", "file", "file/below"])
@pytest.mark.parametrize("mode", ["ideal", "nominal"])
def test_a_folder_that_cannot_be_made_is_one_line(out: str, mode: str, verb: Verb, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    refused(verb("evaluate", NETWORK, "--mode", mode, "--images", "2", "--out", out), out)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("mode", ["ideal", "nominal", "all"])
@pytest.mark.parametrize("surrogate", ["nosuch/x.h5", "xnor_9t"])
def test_a_surrogate_that_is_not_there_is_refused_in_every_mode(
    mode: str, surrogate: str, verb: Verb, tmp_path: Path
) -> None:
    refused(verb("evaluate", NETWORK, "--mode", mode, "--surrogate", surrogate), surrogate)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value", "part"),
    [
        ("--images", "1.5", "1.5"),
        ("--images", "20000", "20000 test images asked for, fashion_mnist has 10000"),
        ("--images", "-1", "at least 1"),
        ("--seed", "0.6", "0.6"),
        ("--bits", "2.6", "2.6"),
    ],
)
def test_numbers_are_taken_as_they_are_or_refused(
    option: str, value: str, part: str, verb: Verb, tmp_path: Path
) -> None:
    refused(verb("evaluate", NETWORK, "--mode", "ideal", option, value), option.strip("-"), part)
    assert list(tmp_path.iterdir()) == []


def test_few_images_that_are_all_right_can_be_asked_for_again(
    verb: Verb, tmp_path: Path, columns_of_64: Surrogate
) -> None:
    save_surrogate(columns_of_64, tmp_path / "surrogate.h5")
    for _ in range(2):
        done = verb("evaluate", NETWORK, "--mode", "ideal", "--surrogate", "surrogate.h5", "--images", "10")
        assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Next: cosim report ."


def test_the_next_command_names_a_shipped_surrogate(verb: Verb) -> None:
    done = verb("evaluate", NETWORK, "--mode", "ideal", "--images", "10")
    assert done.stdout.splitlines()[-1] == "Next: cosim report runs/xnor_8t --surrogate xnor_8t"
    following = done.stdout.splitlines()[-1].split()[2:]
    assert verb(*following).returncode == 0
    validated = verb("validate", "xnor_8t").stdout.splitlines()[-1]
    assert validated == f"Next: cosim evaluate {NETWORK} --surrogate xnor_8t"


def test_a_folder_without_samples_names_what_makes_them(verb: Verb, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(verb("fit", "empty"), "empty: samples cannot be read", "cosim characterize RECIPE --out empty")
    assert list((tmp_path / "empty").iterdir()) == []


def test_regenerate_says_where_the_card_is(verb: Verb, tiny_recipe: Callable[..., Path], tmp_path: Path) -> None:
    recipe = tiny_recipe(comparator=True)
    done = verb("regenerate", str(recipe), "--out", "run", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"run/surrogate\.h5 and its card run/surrogate\.card\.md: \d+ s in all", done.stdout.splitlines()[-2]
    )
    assert done.stdout.splitlines()[-1] == "Next: cosim validate run/surrogate.h5"
    assert (tmp_path / "run" / "surrogate.card.md").is_file()
    content = json.loads(verb("regenerate", str(recipe), "--out", "run", "--workers", "1", "--json").stdout)
    assert content["card"] == "run/surrogate.card.md"
    assert content["seconds"] > 0


# --- Data sets ---


@pytest.fixture
def one_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all of Fashion-MNIST but for one damaged file, and no MNIST."""
    from cosim.datasets import FILES

    folder = tmp_path / "data" / "fashion-mnist"
    folder.mkdir(parents=True)
    for pair in FILES["fashion_mnist"].values():
        for file in pair:
            found = next(path for path in candidates("fashion_mnist", file) if path.is_file())
            shutil.copy(found, folder / found.name)
    monkeypatch.setenv("COSIM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    damaged = next(folder.glob("t10k-labels*"))
    damaged.write_bytes(gzip.compress(b"nothing"))
    return damaged


@pytest.mark.parametrize("name", ["all", "mnist", "fashion_mnist"])
def test_a_missing_or_damaged_set_is_2_and_said_once(name: str, verb: Verb, one_damaged: Path) -> None:
    done = verb("data", "check", name)
    assert done.returncode == 2
    assert "mnist: mnist:" not in done.stdout + done.stderr
    lines = done.stdout.splitlines()
    names = ["mnist", "fashion_mnist", "cifar10"] if name == "all" else [name]
    assert [line.partition(":")[0] for line in lines] == names
    if name != "mnist":
        assert str(one_damaged) in lines[names.index("fashion_mnist")]


# --- Terminals ---

EVIL = "a\x1b[2J\x9b31m\r\u202eb"


def test_nothing_from_a_file_steers_the_terminal(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    note(EVIL)
    show([EVIL], {}, as_json=False, following=EVIL)
    Meter("label", last_s=-100.0).update(1, 2, EVIL)
    shown = "".join(capsys.readouterr()) + "".join(table([[EVIL]], [EVIL])) + verb("fit", EVIL).stderr
    assert shown.count("a?[2J?31m") == 6 + shown.count("--out 'a?[2J?31m")
    assert all(c.isprintable() or c == "\n" for c in shown)


def test_the_time_left_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    Meter("samples", last_s=-100.0).update(3, 9, "2.0/s  column", 3.0)
    assert capsys.readouterr().err == "samples: 3 of 9  3 s left  2.0/s  column\n"
