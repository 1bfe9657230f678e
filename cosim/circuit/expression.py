"""Values of a netlist's parameter expressions, without a simulator: `'0.7*a*1u/sqrt(w*l)'`."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from cosim.errors import InputError

MAX_DEPTH = 40
"""Parameters that may stand on one another."""

_SUFFIX = {"t": 1e12, "g": 1e9, "meg": 1e6, "k": 1e3, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15}
_NUMBER = re.compile(r"(?<![\w.])(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)(meg|[tgkmunpf])?[a-z]*(?![\w.])")
_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sqrt": math.sqrt, "abs": abs, "min": min, "max": max, "pow": math.pow, "exp": math.exp, "log": math.log,
    "ln": math.log, "log10": math.log10,
}  # fmt: skip


def evaluate(text: str, parameters: Mapping[str, str | float], *, place: str = "") -> float:
    """The value of an expression.

    Args:
        text: The expression, in quotes or braces or bare, lower case; numbers may have SPICE suffixes.
        parameters: The expression or value of each parameter that it may name, by lower-case name.
        place: For error messages.

    Raises:
        InputError: A name, function or sign that is not known; a loop; no finite number.

    >>> evaluate("'a*1e-6/sqrt(w*l)'", {"a": "3m", "w": 1e-6, "l": "w"})
    0.003
    """
    try:
        value = _text(text, parameters, 0)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, TypeError, KeyError) as error:
        raise InputError(f"the expression {text[:80]!r} has no value: {error}", place=place or None) from error
    if not math.isfinite(value):
        raise InputError(f"the expression {text[:80]!r} is not finite", place=place or None)
    return value


def _text(text: str, parameters: Mapping[str, str | float], depth: int) -> float:
    if depth > MAX_DEPTH:
        raise ValueError("its parameters form a loop")
    plain = text.strip().strip("'{}").replace("^", "**")
    written = _NUMBER.sub(lambda found: repr(float(found[1]) * _SUFFIX.get(found[2] or "", 1.0)), plain)
    return _node(ast.parse(written, mode="eval").body, parameters, depth)


def _node(node: ast.expr, parameters: Mapping[str, str | float], depth: int) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.Name):
        if node.id not in parameters:
            raise ValueError(f"no parameter {node.id!r}")
        value = parameters[node.id]
        return _text(value, parameters, depth + 1) if isinstance(value, str) else float(value)
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _BINARY[type(node.op)](_node(node.left, parameters, depth), _node(node.right, parameters, depth))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _node(node.operand, parameters, depth)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
        return float(_FUNCTIONS[node.func.id](*(_node(each, parameters, depth) for each in node.args)))
    raise ValueError("only numbers, parameters, + - * / ** and functions such as sqrt are known")
