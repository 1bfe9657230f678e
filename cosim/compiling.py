"""How kernels are compiled.

numba keeps compiled kernels on disk until their own file changes: what a kernel computes belongs in its file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
from numba import types
from numba.extending import intrinsic

P = ParamSpec("P")
R = TypeVar("R")


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


def _popcount(typing_context: Any, word: Any) -> Any:
    """The number of set bits of a 64-bit word, as the compiler's own operation."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


popcount = cast(Callable[[Any], Any], intrinsic(_popcount))
