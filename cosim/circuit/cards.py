r"""Which cards a cell, a process or a bench may hold; everything else is refused.

Why these are harmless: element lines of the allowed letters only connect built-in devices, whose parameters are
numbers and expressions; the functions of an expression (numparam and B sources) form a closed list of
mathematics, without one that reads a file or runs a command. Left out are XSPICE devices (`A`) and their model
types, since code models read files and some start programs, and everything of the command language. Text in
double quotes, backslashes and back-ticks have no place in an allowed card; a parameter that names a file neither.
"""

from __future__ import annotations

import re

from cosim.circuit.statements import Statement
from cosim.errors import InputError, UnsafeError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Resistors to transistors, sources with expressions (B, E, G), switches, lines and subcircuit instances.
ELEMENTS = frozenset("bcdefghijklmqrstvwxz")
CARDS = _words(".subckt .ends .model .param .global .ic .nodeset .func .if .elseif .else .endif .option .options")
BENCH_CARDS = _words(".op .tran .dc .ac .tf .save .temp .title .meas .measure")
# Harmless, but a deck has its own: a part that brings them would change what is simulated or kept.
OUT_OF_PLACE = BENCH_CARDS | _words(".noise .sens .pz .disto .four .print .plot .probe .width .step .backanno")
MODEL_TYPES = _words(
    "nmos pmos npn pnp lpnp njf pjf nmf pmf nhfet phfet d r res c cap l ind sw csw vswitch iswitch vdmos vdmosn"
    " vdmosp urc ltra"
)
# What a part may set: units and geometry. A bench also sets tolerances, the method and the temperature.
OPTIONS = _words("scale scalm tnom defl defw defad defas defpd defps defm wnflag")
BENCH_OPTIONS = OPTIONS | _words(
    "abstol reltol vntol chgtol pivtol pivrel trtol gmin gminsteps srcsteps itl1 itl2 itl3 itl4 itl5 itl6 method"
    " maxord bypass temp noopiter rshunt cshunt klu sparse noinit nomod nopage noacct seed num_threads xmu"
    " trytocompact minbreak keepopinfo noopac ramptime"
)

_FILE_PARAMETER = re.compile(r"[\w.]*file\w*\s*=|\bfile\b", re.IGNORECASE)
_DOT_TOKEN = re.compile(r"(?:^|\s)\.(?!\d)\S*")
_OPTION = re.compile(r"([a-z_]\w*)(?:\s*=\s*([a-z0-9.+-]+|\{[^{}]*\}|'[^']*'))?", re.IGNORECASE)


def check_card(card: Statement, *, bench: bool) -> None:
    """Refuse a card that is not allowed.

    Args:
        card: The statement, includes and library calls already resolved.
        bench: Whether analyses and simulator options may stand here.

    Raises:
        UnsafeError: The card is not on the list of allowed ones.
        InputError: The card is harmless but belongs to the bench, or is incomplete.
    """
    head = card.text.split(None, 1)[0].lower()
    if not head.startswith("."):
        _expect(head[0] in ELEMENTS, card, f"the element {head!r}", "XSPICE and digital devices are not allowed")
    elif head in (".control", ".endc"):
        _expect(False, card, f"{head} runs commands", "remove the control block")
    elif head not in (CARDS | BENCH_CARDS if bench else CARDS):
        if head in OUT_OF_PLACE:
            hint = "remove it: analyses and outputs are the bench's"
            raise InputError(f"{head} does not belong in a cell or process file", place=card.where, hint=hint)
        _expect(False, card, f"the card {head!r}", f"allowed: {' '.join(sorted(CARDS))}")
    _check_text(card)
    if head == ".model":
        _check_model(card)
    # A result sent to a file (`>`): this ngspice ignores it, another may not.
    _expect(head not in (".meas", ".measure") or ">" not in card.text, card, "'>' in a measurement")
    if head in (".option", ".options"):
        _check_options(card, BENCH_OPTIONS if bench else OPTIONS)


def _check_text(card: Statement) -> None:
    """What no card may hold, whatever it is."""
    text = card.text
    _expect('"' not in text, card, "text in double quotes", "use numbers, names and {expressions}")
    _expect(not _FILE_PARAMETER.search(text), card, "a parameter that names a file")
    found = _DOT_TOKEN.search(text, 1)
    _expect(not found, card, f"{found[0].strip() if found else ''!r} in the middle of a card")
    external = text[0].lower() in "vi" and re.search(r"\bexternal\b", text, re.IGNORECASE)
    _expect(not external, card, "a source that is driven from outside")
    if text.count("'") % 2 or text.count("{") != text.count("}"):
        raise InputError("an expression is not closed", place=card.where)


def _check_model(card: Statement) -> None:
    words = re.split(r"[\s(=]+", card.text)
    if len(words) < 3:
        raise InputError("expected .model NAME TYPE (...)", place=card.where)
    kind = words[2].lower()
    _expect(kind in MODEL_TYPES, card, f"the model type {kind!r}", f"allowed: {' '.join(sorted(MODEL_TYPES))}")


def _check_options(card: Statement, allowed: frozenset[str]) -> None:
    rest = card.text.partition(" ")[2]
    left = _OPTION.sub("", rest).strip(" \t,")
    names = [match[1].lower() for match in _OPTION.finditer(rest)]
    wrong = [left] if left else [name for name in names if name not in allowed]
    _expect(not wrong, card, f"the option {wrong[0] if wrong else ''!r}", f"allowed: {' '.join(sorted(allowed))}")


def _expect(good: bool | object, card: Statement, what: str, hint: str | None = None) -> None:
    if not good:
        raise UnsafeError(f"{what} is refused", place=card.where, hint=hint)
