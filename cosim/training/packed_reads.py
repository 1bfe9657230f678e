"""Reads inside torch on a CPU by the packed network's kernels, which are many times faster than torch's own operations.

Inputs and weights become bits, a hash of a counter draws the codes (see `cosim.network.counter`), and each image has a
key of its own. Blocks of images run on as many threads as torch takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64, UInt64
from torch import Tensor

from cosim.network import kernels
from cosim.network.counter import later_keys
from cosim.network.layout import Layout
from cosim.network.mapping import Mapping, Order, Runs, map_window, moves_nothing, runs, to_arrays
from cosim.network.packing import aligned, pack_bits
from cosim.network.window import Window
from cosim.training.planes import Taken

_BLOCK = 16  # Images in work at once in a thread.
_AT_ONCE = 2**11  # Partial sums whose draws are in work at once: they stay in the cache.
_OFF = -1


@dataclass(frozen=True, slots=True, eq=False)
class KernelTables:
    """A layer's tables as the kernels take them.

    Attributes:
        start: First entry of each number of active rows, -1 for none, (n_active,).
        nominal: Centroid of the nominal code, (entry,).
        alias: Entries of `cosim.network.alias`, (entry, slot).
    """

    start: Int64[np.ndarray, " n_active"]
    nominal: Int32[np.ndarray, " entry"]
    alias: UInt64[np.ndarray, "entry slot"]


def kernel_tables(
    start: Int64[Tensor, " n_active"],
    nominal: Int32[Tensor, " entry"],
    share: Float32[Tensor, "entry slot"],
    pair: Int32[Tensor, "entry slot two"],
) -> KernelTables:
    """The tables of a layer's state (see `cosim.training.read_state`) for the kernels."""
    first = start.numpy().copy()
    first[0] = _OFF
    threshold = np.minimum(np.rint(share.numpy().astype(np.float64) * 2.0**32), 2.0**32 - 1).astype(np.uint64)
    other, own = (pair[..., side].numpy().astype(np.int16).view(np.uint16).astype(np.uint64) for side in (0, 1))
    return KernelTables(first, nominal.numpy(), threshold | own << np.uint64(32) | other << np.uint64(48))


def lay_out_planes(
    planes: Float32[Tensor, "bit_column input"], window: Window, rows: int, order: Order, *, on_off: bool
) -> Layout:
    """Weights of +1 and -1, inputs numbered as in the window, in their sub-arrays."""
    mapping, pixels, moves = _frame(window, rows, order, on_off)
    laid_out = to_arrays(pack_bits(planes.numpy() > 0), mapping).reshape(len(planes), -1)
    by_line = aligned(laid_out.T.shape, np.uint64)
    by_line[:] = laid_out.T
    return Layout(mapping, pixels, moves, mapping.active.reshape(len(mapping.active), -1), by_line)


def packed_sums(
    x: Float32[Tensor, "image channel height width"],
    taken: Taken,
    layout: Layout,
    weight_bits: int,
    tables: KernelTables,
    keys: UInt64[np.ndarray, " image"] | None,
) -> Int32[Tensor, "column image position"]:
    """Sums over all sub-arrays in fixed point, of every bit of the inputs with every bit of the weights.

    Args:
        x: Levels.
        keys: One for each image, from which its codes are drawn; None for the nominal codes.
    """
    mapping = layout.mapping
    positions, columns = mapping.window.positions, layout.weights.shape[1] // weight_bits
    total = np.zeros((columns, len(x), positions), np.int32)

    def work(part: slice) -> None:
        for bit, plane in enumerate(_planes(x[part], taken)):
            drawn = None if keys is None else later_keys(keys[part], bit * positions * mapping.arrays)
            read = _read(layout.lines(plane), layout, tables, drawn).reshape(-1, positions, weight_bits, columns)
            for weight_bit in range(weight_bits):
                # One set of levels a layer. Sets for each pair of bits would be chosen by these two.
                total[:, part] += (read[:, :, weight_bit] << np.int32(bit + weight_bit)).transpose(2, 0, 1)

    _over_blocks(work, len(x))
    return torch.from_numpy(total)


def packed_histogram(
    x: Float32[Tensor, "image channel height width"], taken: Taken, layout: Layout
) -> Int64[Tensor, " entry"]:
    """How often each count of product -1 occurs, at n_active * (rows + 1) + count."""
    rows, mapping = layout.mapping.rows, layout.mapping
    start = np.arange(rows + 1) * (rows + 1)
    start[0] = _OFF
    histogram = np.zeros((rows + 1) ** 2, np.int64)
    for first in range(0, len(x), _BLOCK):
        for plane in _planes(x[first : first + _BLOCK], taken):
            about = mapping.kind, layout.active, layout.weights, mapping.on_off, mapping.words, start
            kernels.count_histogram(layout.lines(plane), *about, histogram)
    return torch.from_numpy(histogram)


def image_keys(generator: torch.Generator, images: int) -> UInt64[np.ndarray, " image"]:
    """A key for each image, drawn one after the other."""
    drawn = torch.randint(-(2**63), 2**63 - 1, (images,), generator=generator)
    return drawn.numpy().view(np.uint64)


def _read(
    lines: UInt64[np.ndarray, "patch line"],
    layout: Layout,
    tables: KernelTables,
    keys: UInt64[np.ndarray, " image"] | None,
) -> Int32[np.ndarray, "patch bit_column"]:
    mapping, columns = layout.mapping, layout.weights.shape[1]
    sums = aligned((len(lines), columns), np.int32)
    about = lines, mapping.kind, layout.active, layout.weights, mapping.on_off, mapping.words, tables.start
    if keys is None:
        kernels.nominal_sums(*about, tables.nominal, sums)
        return sums
    at_once = max(1, _AT_ONCE // columns), columns
    work = [aligned(at_once, dtype) for dtype in (np.uint32, np.uint32, np.uint64)]
    kernels.iid_sums(*about, tables.alias, keys, sums, *work)
    return sums


def _planes(x: Float32[Tensor, "image channel height width"], taken: Taken) -> Iterable[UInt64[np.ndarray, "..."]]:
    """The bits of the inputs as packed maps, (image, pixel, word), the lowest first."""
    by_pixel = x.permute(0, 2, 3, 1).flatten(1, 2)
    if taken.bits == 1:
        yield pack_bits((by_pixel > 0).numpy())
        return
    level = (by_pixel if taken.on_off else (by_pixel + taken.top) / 2).to(torch.uint8).numpy()
    for bit in range(taken.bits):
        yield pack_bits((level >> bit & 1).astype(np.bool_))


def _over_blocks(work: Callable[[slice], None], images: int) -> None:
    """Do the work for blocks of images; the kernels let threads run at once."""
    parts = [slice(first, min(first + _BLOCK, images)) for first in range(0, images, _BLOCK)]
    threads = min(torch.get_num_threads(), len(parts))
    if threads <= 1:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, parts))


@lru_cache(maxsize=64)
def _frame(
    window: Window, rows: int, order: Order, on_off: bool
) -> tuple[Mapping, Int64[np.ndarray, "position tap"], Runs | None]:
    """What a layout needs beside the weights."""
    mapping = map_window(window, rows, order, on_off=on_off)
    return mapping, window.pixels(), None if moves_nothing(mapping) else runs(mapping)
