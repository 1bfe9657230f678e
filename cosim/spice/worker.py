"""The worker process: reads decks from standard input, writes probe values back; run with `python -m`.

It works in the empty private folder that its parent made, with HOME there, and ends when its parent does.
A message is a line of JSON; a result's values follow as float64 bytes. ngspice's own prints go to the null
device, so that nothing of them can enter the reply.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import resource
import signal
import sys
from typing import IO

MEMORY_BYTES = 6 << 30
FILE_BYTES = 64 << 20


def main() -> None:
    """Answer one deck a line until standard input closes."""
    replies = os.fdopen(os.dup(1), "wb")
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    _die_with_parent()
    _limit()
    logging.disable(logging.CRITICAL)
    serve(sys.stdin.buffer, replies)


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Load ngspice, state its version, then answer each request in turn."""
    from cosim.circuit.deck import Deck
    from cosim.spice.engine import Failed

    try:
        from cosim.spice.session import Session

        session = Session()
        session.prepare()
    except Exception as error:
        _reply(replies, {"broken": f"{type(error).__name__}: {error}"})
        return
    _reply(replies, {"version": str(session.ngspice_version or "")})
    for line in requests:
        request = json.loads(line)
        deck = Deck(request["text"], tuple(request["probes"]), tuple(request["times_s"]))
        result = session.run_deck(deck)
        if isinstance(result, Failed):
            _reply(replies, {"reason": result.reason, "detail": result.detail})
        else:
            _reply(replies, {"shape": result.values.shape}, result.values.tobytes())


def _reply(replies: IO[bytes], header: dict[str, object], body: bytes = b"") -> None:
    replies.write(json.dumps(header).encode() + b"\n" + body)
    replies.flush()


def _die_with_parent() -> None:
    """Ask Linux for SIGKILL when the parent dies; elsewhere the closed pipe ends the worker after its deck."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    # A Ctrl-C belongs to the parent, which decides what is kept.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _limit() -> None:
    for kind, wanted in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (value, hard))


if __name__ == "__main__":
    main()
