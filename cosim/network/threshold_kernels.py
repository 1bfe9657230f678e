"""Compiled kernels that draw codes by comparing with cumulative probabilities; see `cosim.network.cumulative`.

For sub-arrays of one word, so of counts 0 to 64. The thresholds of 64 counts fit two vector registers, and where the
processor can permute 16-bit numbers of two registers (AVX-512 BW) 32 columns are read at once; count 64, which is
rare, is put right behind. The other kernel gives the same bits on any processor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from jaxtyping import Int32, Int64, UInt16, UInt64
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from cosim.compiling import compiled, inlined, popcount
from cosim.network.counter import COLUMN, FIRST_32, SECOND_32

LANES = 32
"""Columns that are read at once."""

_config = cast(Any, config)
_HALF = np.uint64(32)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_ALL = np.uint64(2**64 - 1)
_OFF = -1

_QUAD, _LONG, _SHORT = ir.IntType(64), ir.IntType(32), ir.IntType(16)
_QUADS, _LONGS, _SHORTS = ir.VectorType(_QUAD, 8), ir.VectorType(_LONG, 16), ir.VectorType(_SHORT, LANES)
_WIDE, _EIGHT = ir.VectorType(_LONG, LANES), ir.VectorType(_SHORT, 8)
_PERMUTE = "llvm.x86.avx512.vpermi2var.hi.512"
_THRESHOLDS = 7
_DRAW_MAX = 65534


def can_be_wide() -> bool:
    """Whether this processor has the instructions of `wide_sums`, and numba is not kept from using them."""
    return not (_config.CPU_NAME or _config.CPU_FEATURES) and bool(
        binding.get_host_cpu_features().get("avx512bw", False)
    )


def _splat(builder: Any, value: Any, vector: Any) -> Any:
    """A vector of one value."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, _number(_LONG, 0))
    zeros = _number(ir.VectorType(_LONG, vector.count), 0)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


def _load(builder: Any, pointer: Any, vector: Any, offset: Any) -> Any:
    """A vector from elements that lie one after the other, on any address."""
    place = builder.bitcast(builder.gep(pointer, [offset]), vector.as_pointer())
    return builder.load(place, align=2)


def _number(kind: Any, value: int) -> Any:
    """A constant of a scalar or vector type."""
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def _hash(builder: Any, word: Any, high: Any) -> Any:
    """`cosim.network.counter.column_words` from low + pair * COLUMN on, for a number or a vector."""

    def shifted(word: Any, bits: int) -> Any:
        return builder.lshr(word, _number(word.type, bits))

    word = builder.xor(word, shifted(word, 16))
    word = builder.mul(word, _number(word.type, FIRST_32))
    word = builder.xor(builder.xor(word, shifted(word, 15)), high)
    word = builder.mul(word, _number(word.type, SECOND_32))
    return builder.xor(word, shifted(word, 16))


def _draws(builder: Any, low: Any, high: Any, column: Any) -> Any:
    """The draws of 32 columns: a hash is shared by two."""
    steps = ir.Constant(_LONGS, [pair * COLUMN % 2**32 for pair in range(16)])
    pair = builder.trunc(builder.lshr(column, _number(_QUAD, 1)), _LONG)
    start = builder.add(low, builder.mul(pair, _number(_LONG, COLUMN)))
    words = _hash(builder, builder.add(_splat(builder, start, _LONGS), steps), _splat(builder, high, _LONGS))
    return _at_most(builder, builder.bitcast(words, _SHORTS), _DRAW_MAX)


def _at_most(builder: Any, value: Any, most: int) -> Any:
    limit = _number(value.type, most)
    return builder.select(builder.icmp_unsigned("<", value, limit), value, limit)


def _build_draw(typing_context: Any, low: Any, high: Any, column: Any) -> Any:
    """The draw of one column, as `_draws`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        low, high, column = arguments
        column = builder.trunc(column, _LONG)
        start = builder.add(low, builder.mul(builder.lshr(column, _number(_LONG, 1)), _number(_LONG, COLUMN)))
        word = _hash(builder, start, high)
        upper = builder.shl(builder.and_(column, _number(_LONG, 1)), _number(_LONG, 4))
        return _at_most(builder, builder.and_(builder.lshr(word, upper), _number(_LONG, 0xFFFF)), _DRAW_MAX)

    return types.uint32(types.uint32, types.uint32, types.int64), generate


def _counts(builder: Any, weights: Any, block: Any, inputs: Any, on: Any) -> Any:
    """Rows of product -1 of 32 columns, as 16-bit numbers; the weights lie as `in_blocks` says."""
    total = None
    for quarter in range(4):
        offset = builder.add(block, _number(_QUAD, 8 * quarter))
        minus = builder.and_(builder.xor(_load(builder, weights, _QUADS, offset), inputs), on)
        count = builder.shl(_called(builder, "llvm.ctpop.v8i64", minus), _number(_QUADS, 16 * quarter))
        total = count if total is None else builder.or_(total, count)
    return builder.bitcast(total, _SHORTS)


def _called(builder: Any, name: str, *arguments: Any) -> Any:
    """An operation of the compiler's whose operands and result are of one type."""
    kind = ir.FunctionType(arguments[0].type, [each.type for each in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _build_read_columns(
    typing_context: Any, weights: Any, start: Any, blocks: Any, inputs: Any, on: Any, key: Any, table: Any, at: Any,
    total: Any,
) -> Any:  # fmt: skip
    """Add to `total` the centroids of one sub-array's columns, 32 at a time."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        pointers = {i: context.make_array(kinds[i])(context, builder, value=arguments[i]).data for i in (0, 6, 8)}
        start, blocks, inputs, on, key, at = (arguments[i] for i in (1, 2, 3, 4, 5, 7))
        low, high = builder.trunc(key, _LONG), builder.trunc(builder.lshr(key, _number(_QUAD, 32)), _LONG)
        inputs, on = _splat(builder, inputs, _QUADS), _splat(builder, on, _QUADS)
        first = builder.gep(pointers[6], [at])
        tables = [_load(builder, first, _SHORTS, _number(_QUAD, LANES * i)) for i in range(2 * _THRESHOLDS)]

        def splat(place: int) -> Any:
            value = builder.load(builder.gep(first, [_number(_QUAD, 64 * _THRESHOLDS + place)]))
            return _splat(builder, value, _SHORTS)

        last = [splat(i) for i in range(_THRESHOLDS)]
        base, *rises = [splat(_THRESHOLDS + i) for i in range(_THRESHOLDS + 1)]
        with cgutils.for_range(builder, blocks) as loop:
            column = builder.mul(loop.index, _number(_QUAD, LANES))
            counts = _counts(builder, pointers[0], builder.add(start, column), inputs, on)
            draws = _draws(builder, low, high, column)

            def read(thresholds: Callable[[int], Any]) -> Any:
                value = base
                for i, rise in enumerate(rises):
                    reached = builder.icmp_unsigned(">=", draws, thresholds(i))
                    value = builder.add(value, builder.select(reached, rise, _number(_SHORTS, 0)))
                return value

            usual = read(lambda i: _called(builder, _PERMUTE, tables[2 * i], counts, tables[2 * i + 1]))
            all_rows = builder.icmp_unsigned("==", counts, _number(_SHORTS, 64))
            before = builder.block
            found = builder.bitcast(all_rows, _LONG)
            with builder.if_then(builder.icmp_unsigned("!=", found, _number(_LONG, 0)), likely=False):
                other = builder.select(all_rows, read(lambda i: last[i]), usual)
                rare = builder.block
            value = builder.phi(_SHORTS)
            value.add_incoming(usual, before)
            value.add_incoming(other, rare)
            place = builder.bitcast(builder.gep(pointers[8], [column]), _WIDE.as_pointer())
            sums = builder.add(builder.load(place, align=4), builder.sext(value, _WIDE))
            builder.store(sums, place, align=4)
        return context.get_dummy_value()

    return types.void(weights, types.int64, types.int64, types.uint64, types.uint64, types.uint64, table,
                      types.int64, total), generate  # fmt: skip


def _build_code(typing_context: Any, rows: Any, first: Any, draw: Any) -> Any:
    """How many of the eight thresholds from `first` on a draw reaches."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, first, draw = arguments
        pointer = context.make_array(signature.args[0])(context, builder, value=rows).data
        thresholds = _load(builder, pointer, _EIGHT, first)
        reached = builder.icmp_unsigned(">=", _splat(builder, builder.trunc(draw, _SHORT), _EIGHT), thresholds)
        found = builder.ctpop(builder.bitcast(reached, ir.IntType(8)))
        return builder.zext(found, _QUAD)

    return types.uint64(rows, types.uint64, types.uint32), generate


_code = cast(Callable[..., Any], intrinsic(_build_code))
_read_columns = cast(Callable[..., None], intrinsic(_build_read_columns))
_draw = cast(Callable[..., Any], intrinsic(_build_draw))


@inlined
def _mix(word: Any) -> Any:
    """The finalizer of splitmix64, as in `cosim.network.counter.mix`."""
    word = (word ^ (word >> np.uint64(30))) * _FIRST
    word = (word ^ (word >> np.uint64(27))) * _SECOND
    return word ^ (word >> np.uint64(31))


@compiled
def wide_sums(
    lines: UInt64[np.ndarray, "patch line"],
    kind: Int64[np.ndarray, " position"],
    active: UInt64[np.ndarray, "kind line"],
    weights: UInt64[np.ndarray, "line padded"],
    on_off: bool,
    table: Int64[np.ndarray, " n_active"],
    entries: UInt16[np.ndarray, "table entry"],
    keys: UInt64[np.ndarray, " image"],
    sums: Int32[np.ndarray, "patch column"],
    total: Int32[np.ndarray, " padded"],
) -> None:
    """Fill `sums` with the fixed-point sums of the centroids of codes drawn afresh for every partial sum.

    Weights and entries are laid out as `cosim.network.cumulative` says; `total` is working memory.
    """
    columns, positions, arrays = sums.shape[1], kind.shape[0], lines.shape[1]
    flat, flat_entries = weights.ravel(), entries.ravel()
    padded, size = weights.shape[1], entries.shape[1]
    for patch in range(lines.shape[0]):
        position = patch % positions
        total[:] = 0
        for array in range(arrays):
            inputs, on = lines[patch, array], active[kind[position], array]
            if on_off:
                inputs, on = _ALL, inputs & on
            t = table[popcount(on)]
            if t == _OFF:
                continue
            key = _mix(keys[patch // positions] + np.uint64(position * arrays + array + 1) * _GOLDEN)
            _read_columns(flat, array * padded, padded // 32, inputs, on, key, flat_entries, t * size, total)
        for column in range(columns):
            sums[patch, column] = total[column]


@compiled
def narrow_sums(
    lines: UInt64[np.ndarray, "patch line"],
    kind: Int64[np.ndarray, " position"],
    active: UInt64[np.ndarray, "kind line"],
    weights: UInt64[np.ndarray, "line column"],
    on_off: bool,
    table: Int64[np.ndarray, " n_active"],
    thresholds: UInt16[np.ndarray, "table count eight"],
    centroid: Int32[np.ndarray, "table eight"],
    keys: UInt64[np.ndarray, " image"],
    sums: Int32[np.ndarray, "patch column"],
) -> None:
    """As `wide_sums`, column by column; thresholds lie count by count, the eighth is never reached."""
    columns, positions, arrays = sums.shape[1], kind.shape[0], lines.shape[1]
    places, draws = np.empty(columns, np.uint64), np.empty(columns, np.uint32)
    total = np.empty(columns, np.int32)
    flat, flat_centroid, counts = thresholds.ravel(), centroid.ravel(), thresholds.shape[1]
    for patch in range(lines.shape[0]):
        position = patch % positions
        total[:] = 0
        for array in range(arrays):
            inputs, on = lines[patch, array], active[kind[position], array]
            if on_off:
                inputs, on = _ALL, inputs & on
            t = table[popcount(on)]
            if t == _OFF:
                continue
            key = _mix(keys[patch // positions] + np.uint64(position * arrays + array + 1) * _GOLDEN)
            low, high, first = np.uint32(key), np.uint32(key >> _HALF), np.uint64(t * counts)
            for column in range(columns):
                count = popcount((inputs ^ weights[array, column]) & on)
                places[column] = (first + count) << np.uint64(3)
            for column in range(columns):
                draws[column] = _draw(low, high, column)
            code = np.uint64(8 * t)
            for column in range(columns):
                total[column] += flat_centroid[code + _code(flat, places[column], draws[column])]
        for column in range(columns):
            sums[patch, column] = total[column]
