"""One ngspice session inside a worker process, through PySpice's shared-library interface."""

from __future__ import annotations

from typing import Any

import numpy as np
from PySpice.Spice.NgSpice.Shared import NgSpiceCircuitError, NgSpiceCommandError, NgSpiceShared, ffi

from cosim.circuit.deck import Deck
from cosim.spice.engine import Failed, Result, no_result, read_out


class Session(NgSpiceShared):
    """PySpice's shared ngspice, made to run one deck after another with flat memory.

    Two things differ from PySpice 1.5: what ngspice writes to its error stream counts as an error only if it says
    so (ngspice 42 writes notes there), and only the probes of a deck are copied out.
    """

    @staticmethod
    def _send_char(message_c: Any, ngspice_id: int, user_data: Any) -> int:
        self = ffi.from_handle(user_data)
        message: Any = ffi.string(message_c)
        stream, _, content = message.decode("utf-8", "replace").partition(" ")
        lines = self._stderr if stream == "stderr" else self._stdout
        lines.append(content)
        if "error" in content.lower() and not content.lstrip().lower().startswith(("note", "warning")):
            self._error_in_stdout = True
        return 0

    def prepare(self) -> None:
        """One thread: Debian's build takes two, and a busy machine then runs four to ten times slower."""
        self.exec_command("set num_threads=1")

    def run_deck(self, deck: Deck) -> Result:
        """Load, run and read out one deck, then free it (`remcirc`, `destroy all`: memory stays flat)."""
        try:
            self.load_circuit(deck.text)
        except (NgSpiceCircuitError, NgSpiceCommandError, NameError):
            return Failed("bad_deck", self._complaint().detail)
        try:
            self.run()
            return self._values(deck)
        except (NgSpiceCommandError, NameError):
            return self._complaint()
        finally:
            self.destroy("all")
            self.remove_circuit()

    def _values(self, deck: Deck) -> Result:
        waves = {name: self._vector(name) for name in ("time", *deck.probes)}
        missing = [name for name, wave in waves.items() if wave is None]
        if "time" in missing:
            return self._complaint()
        if missing:
            return Failed("bad_deck", f"no node {missing[0]}")
        found = {name: wave for name, wave in waves.items() if wave is not None}
        return read_out(found["time"], np.array([found[probe] for probe in deck.probes]), deck.times_s)

    def _vector(self, name: str) -> np.ndarray | None:
        library: Any = self._ngspice_shared
        info = library.ngGet_Vec_Info(name.encode())
        if info == ffi.NULL or info.v_realdata == ffi.NULL:
            return None
        data: Any = ffi.buffer(info.v_realdata, info.v_length * 8)
        return np.frombuffer(data, dtype=np.float64).copy()

    def _complaint(self) -> Failed:
        return no_result([*self._stdout, *self._stderr])
