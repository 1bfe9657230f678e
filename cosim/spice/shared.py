"""The shared engine: PySpice's shared library in a worker process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from cosim.circuit.deck import Deck
from cosim.errors import EngineMissingError
from cosim.spice.engine import Failed, Measured, Result
from cosim.spice.library import check_version, find_library

START_TIMEOUT_S = 60.0


class SharedEngine:
    """Runs decks in one worker process, which is replaced after a crash, a time-out or `recycle_after` decks.

    ngspice keeps one circuit a process and may crash or hang on a hostile or unlucky deck; in a process of its own
    that costs the deck and not the run. Use one engine a thread.
    """

    name = "shared"

    def __init__(self, *, recycle_after: int = 2000) -> None:
        self._library = find_library()
        self._recycle_after = recycle_after
        self._worker: _Worker | None = None
        self._version = ""

    @property
    def version(self) -> str:
        """The version of the ngspice library, such as "39"."""
        if not self._version:
            self._alive()
        return self._version

    def run(self, decks: Sequence[Deck], *, timeout_s: float) -> list[Result]:
        """The results in the order of the decks; each deck may take `timeout_s` seconds."""
        return [self._run_one(deck, timeout_s) for deck in decks]

    def close(self) -> None:
        """End the worker and remove its private folder."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _run_one(self, deck: Deck, timeout_s: float) -> Result:
        # A crash is tried once more: one that came from outside (memory, a signal) must not mark a good sample.
        result = self._try(deck, timeout_s)
        crashed = isinstance(result, Failed) and result.reason == "crash"
        return self._try(deck, timeout_s) if crashed else result

    def _try(self, deck: Deck, timeout_s: float) -> Result:
        worker = self._alive()
        try:
            return worker.ask(deck, timeout_s)
        except TimeoutError:
            self.close()
            return Failed("timeout", f"no result within {timeout_s:g} s")
        except (EOFError, OSError) as error:
            self.close()
            return Failed("crash", f"the ngspice worker ended: {error}")

    def _alive(self) -> _Worker:
        if self._worker is not None and self._worker.decks_run >= self._recycle_after:
            self.close()
        if self._worker is None:
            self._worker = _Worker(self._library)
            try:
                self._version = self._worker.start()
            except EngineMissingError:
                self.close()
                raise
            except (EOFError, OSError, TimeoutError) as error:
                self.close()
                raise EngineMissingError(
                    f"the ngspice library {self._library} does not start: {error}",
                    hint="is it built for this machine? NGSPICE_LIBRARY_PATH names another",
                ) from error
        return self._worker


class _Worker:
    """One worker process with its private folder."""

    def __init__(self, library: Path) -> None:
        self.decks_run = 0
        self._folder = tempfile.mkdtemp(prefix="cosim-ngspice-")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cosim.spice.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            env=_environment(self._folder, library),
        )
        # Also when nobody calls close(): at garbage collection and at exit.
        self._finish = weakref.finalize(self, _end, self._process, self._folder)

    def start(self) -> str:
        """Wait for the worker to load ngspice; its version."""
        header = self._header(time.monotonic() + START_TIMEOUT_S)
        if "broken" in header:
            raise OSError(header["broken"])
        version = str(header["version"])
        check_version(version)
        return version

    def ask(self, deck: Deck, timeout_s: float) -> Result:
        """Run one deck."""
        self.decks_run += 1
        request = {"text": deck.text, "probes": deck.probes, "times_s": deck.times_s}
        deadline = time.monotonic() + timeout_s
        self._pipe(self._process.stdin).write(json.dumps(request).encode() + b"\n")
        self._pipe(self._process.stdin).flush()
        header = self._header(deadline)
        if "reason" in header:
            return Failed(header["reason"], header["detail"])
        probes, times = header["shape"]
        body = self._read(8 * probes * times, deadline)
        return Measured(np.frombuffer(body, dtype=np.float64).reshape(probes, times).copy())

    def close(self) -> None:
        """Kill the process and remove the folder."""
        self._finish()

    def _header(self, deadline: float) -> dict[str, Any]:
        line = b""
        while not line.endswith(b"\n"):
            line += self._read(1, deadline)
        return json.loads(line)

    def _read(self, size: int, deadline: float) -> bytes:
        descriptor = self._pipe(self._process.stdout).fileno()
        parts = b""
        while len(parts) < size:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError("the worker does not answer")
            part = os.read(descriptor, size - len(parts))
            if not part:
                raise EOFError(f"exit status {self._process.wait()}")
            parts += part
        return parts

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe


def _environment(folder: str, library: Path) -> dict[str, str]:
    """What the worker may see: no home but its folder (ngspice runs a `.spiceinit` that it finds there)."""
    kept = {
        name: os.environ[name]
        for name in ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SPICE_LIB_DIR")
        if name in os.environ
    }
    return kept | {
        "HOME": folder,
        "TMPDIR": folder,
        "LC_ALL": "C",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "NGSPICE_LIBRARY_PATH": str(library),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }


def _end(process: subprocess.Popen[bytes], folder: str) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)
