"""The command line: `cosim VERB`; results on standard output, progress on standard error."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from cosim.cli import cells, chain, circuits, networks, setup
from cosim.cli.console import plain

app = App(
    name="cosim",
    help="From an SRAM cell's netlist to a network's accuracy: ngspice Monte Carlo, surrogate, evaluation.",
    help_epilogue="Exit codes: 0 done, 1 our bug, 2 wrong input, 3 measured worse than asked, 4 refused as unsafe, "
    "5 engine missing, 130 stopped and resumable.",
    suppress_keyboard_interrupt=False,  # Else cyclopts leaves by itself, without a word.
)
for command in (
    chain.demo,
    cells.new,
    cells.check,
    circuits.plan,
    circuits.characterize,
    circuits.fit,
    circuits.validate,
    circuits.regenerate,
    networks.evaluate,
    networks.train,
    chain.report,
    setup.data,
    setup.doctor,
):
    app.command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line and leave with its exit code; a SIGTERM, which batch systems send, stops it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """The exit code of a command line; errors are one line on standard error."""
    from cosim.errors import CosimError

    try:
        app(list(arguments), exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CosimError as error:
        return _say(str(error), error.exit_code)
    except CycloptsError as error:
        return _say(" ".join(str(error).split()), 2)
    except KeyboardInterrupt:
        return _say("stopped; run the same command again to go on", 130)
    except BrokenPipeError:
        # The reader of our output (head, less) has left; nothing more can be said.
        sys.stderr.close()
        return 0
    return 0


def _say(message: str, code: int) -> int:
    print(f"cosim: {plain(message)}", file=sys.stderr)
    return code
