"""How kernels are compiled, and the few operations that numba has no name for.

numba widens arithmetic on 32-bit words to 64 bits, which halves what a vector instruction does; so the hash of
`cosim.network.counter` is written in the compiler's own operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from cosim.network.counter import COLUMN, FIRST_32, SECOND_32

P = ParamSpec("P")
R = TypeVar("R")

_WORD = ir.IntType(32)


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """The function compiled at its first call, cached on disk where any folder can be written."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return cast(Callable[P, R], numba.njit(cache=True, **options)(function))
    except RuntimeError:  # No folder for the cache: a read-only system without a home.
        return cast(Callable[P, R], numba.njit(**options)(function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """A part of kernels, compiled as if it were written in them: a call would hand over arrays at a cost."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "inline": "always"}
    return cast(Callable[P, R], numba.njit(**options)(function))


def _constant(value: int) -> Any:
    return ir.Constant(_WORD, value)


def _popcount(typing_context: Any, word: Any) -> Any:
    """The number of set bits of a 64-bit word, as the compiler's own operation."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


popcount = cast(Callable[[Any], Any], intrinsic(_popcount))


def _hash32(typing_context: Any, low: Any, high: Any, column: Any) -> Any:
    """`cosim.network.counter.column_words` in 32-bit operations, which numba would widen to 64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        low, high, column = arguments
        word = builder.add(low, builder.mul(builder.trunc(column, _WORD), _constant(COLUMN)))
        word = builder.xor(word, builder.lshr(word, _constant(16)))
        word = builder.mul(word, _constant(FIRST_32))
        word = builder.xor(builder.xor(word, builder.lshr(word, _constant(15))), high)
        word = builder.mul(word, _constant(SECOND_32))
        return builder.xor(word, builder.lshr(word, _constant(16)))

    return types.uint32(types.uint32, types.uint32, types.int64), generate


def _slot(typing_context: Any, count: Any, bits: Any, word: Any) -> Any:
    """count * 2**bits plus the top bits of a word: the place of an alias entry."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count, bits, word = arguments
        return builder.or_(builder.shl(count, bits), builder.lshr(word, builder.sub(_constant(32), bits)))

    return types.uint32(types.uint32, types.uint32, types.uint32), generate


def _shifted(typing_context: Any, word: Any, bits: Any) -> Any:
    """A 32-bit word without its top bits, moved up."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.shl(*arguments)

    return types.uint32(types.uint32, types.uint32), generate


def _chosen(typing_context: Any, total: Any, entry: Any, draw: Any) -> Any:
    """total plus the centroid that an alias entry gives for a draw, in 32 bits; see `cosim.network.alias`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, entry, draw = arguments
        threshold = builder.trunc(entry, _WORD)
        halves = builder.trunc(builder.lshr(entry, ir.Constant(entry.type, 32)), _WORD)
        own = builder.icmp_unsigned("<", draw, threshold)
        value = builder.select(own, builder.shl(halves, _constant(16)), halves)
        return builder.add(total, builder.ashr(value, _constant(16)))

    return types.int32(types.int32, types.uint64, types.uint32), generate


hash32 = cast(Callable[..., Any], intrinsic(_hash32))
slot = cast(Callable[..., Any], intrinsic(_slot))
shifted = cast(Callable[..., Any], intrinsic(_shifted))
chosen = cast(Callable[..., Any], intrinsic(_chosen))
