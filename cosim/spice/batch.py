"""The batch engine: one `ngspice -b` process a deck, the independent check of the shared one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cosim.circuit.deck import Deck
from cosim.spice.engine import Failed, Result, no_result, read_out
from cosim.spice.library import find_program, program_version


class BatchEngine:
    """Runs each deck in a fresh `ngspice -b` with its standard input closed, in a folder that is removed."""

    name = "batch"

    def __init__(self) -> None:
        self._program = find_program()
        self._version = program_version(self._program)

    @property
    def version(self) -> str:
        """The version of the ngspice program, such as "39"."""
        return self._version

    def run(self, decks: Sequence[Deck], *, timeout_s: float) -> list[Result]:
        """The results in the order of the decks; each deck may take `timeout_s` seconds."""
        return [self._run_one(deck, timeout_s) for deck in decks]

    def close(self) -> None:
        """Nothing is kept between decks."""

    def _run_one(self, deck: Deck, timeout_s: float) -> Result:
        folder = Path(tempfile.mkdtemp(prefix="cosim-ngspice-"))
        try:
            (folder / "deck.cir").write_text(deck.text, encoding="utf-8")
            # Debian's build takes two threads, and a busy machine then runs several times slower. Our own start-up
            # file in the private folder is the only one that is read: the folder is the home and the working folder.
            (folder / ".spiceinit").write_text("set num_threads=1\n", encoding="utf-8")
            done = subprocess.run(
                [self._program, "-b", "-r", "deck.raw", "deck.cir"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
                env=_environment(folder),
                check=False,
            )
            return _result(folder / "deck.raw", deck, done)
        except subprocess.TimeoutExpired:
            return Failed("timeout", f"no result within {timeout_s:g} s")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def parse_raw(content: bytes) -> dict[str, np.ndarray]:
    """The vectors of a binary raw file by lower-case name; voltages as "v(node)".

    Raises:
        ValueError: It is no complete binary raw file of real values.
    """
    head, mark, body = content.partition(b"Binary:\n")
    lines = head.decode("utf-8", "replace").splitlines()
    if not mark or "Flags: real" not in lines:
        raise ValueError("not a binary raw file of real values")
    count = int(next(line for line in lines if line.startswith("No. Variables:")).split(":")[1])
    first = lines.index("Variables:") + 1
    names = [line.split()[1].lower() for line in lines[first : first + count]]
    # "No. Points" is written before the run ends, so the body's length decides.
    points = len(body) // (8 * count)
    table = np.frombuffer(body, dtype="<f8", count=points * count).reshape(points, count)
    return dict(zip(names, table.T, strict=True))


def _result(raw: Path, deck: Deck, done: subprocess.CompletedProcess[bytes]) -> Result:
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    if done.returncode < 0:
        return Failed("crash", f"ngspice ended with signal {-done.returncode}")
    if not raw.is_file():
        return no_result(said.splitlines())
    try:
        vectors = parse_raw(raw.read_bytes())
    except (ValueError, StopIteration):
        return no_result(said.splitlines())
    missing = [probe for probe in deck.probes if f"v({probe})" not in vectors]
    if missing:
        return Failed("bad_deck", f"no node {missing[0]}")
    if not vectors["time"].size:
        return no_result(said.splitlines())
    waves = np.array([vectors[f"v({probe})"] for probe in deck.probes])
    return read_out(vectors["time"], waves, deck.times_s)


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "SPICE_LIB_DIR") if name in os.environ}
    return kept | {"HOME": str(folder), "LC_ALL": "C", "OMP_NUM_THREADS": "1"}
