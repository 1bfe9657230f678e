"""What follows a layer's sums: pooling, threshold or batch norm and shortcut, sign, pooling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, Int64, Shaped, UInt8, UInt64

from cosim.network import level_kernels, map_kernels, real_kernels
from cosim.network.levels import Quantizer, level_steps
from cosim.network.outputs import Residual
from cosim.network.packing import pack_bits, unpack_signs, words_for
from cosim.network.program import Step

_NO_SHORTCUT = np.empty((0, 0), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """What one layer made of one block.

    Attributes:
        inputs: The maps that it took, one for each bit; None where it took pixels or real numbers.
        sums: Sums over sub-arrays in fixed point, after a pooling of the sums (an average as its total); real sums
            where the weights are real or the inputs are scaled; (image, place, column).
        reals: Real outputs after the shortcut and the pooling, where the layer has such.
        maps: Binary outputs after the pooling, one map for each bit; None for logits.
    """

    inputs: UInt64[np.ndarray, "plane image pixel word"] | None
    sums: Int32[np.ndarray, "image place column"] | Float32[np.ndarray, "image place column"]
    reals: Float32[np.ndarray, "image place column"] | None
    maps: UInt64[np.ndarray, "plane image place word"] | None


def finish(
    step: Step,
    inputs: UInt64[np.ndarray, "plane image pixel word"] | None,
    sums: Shaped[np.ndarray, "image position column"],
    shortcut: Float32[np.ndarray, "image place column"] | None,
) -> Output:
    """A layer's output from its sums."""
    pooled = _pooled(_pool_of_sums(step, sums), sums, step.pool_of_sums)
    averages = step.average and step.pool_of_outputs is not None
    if isinstance(step.layer.output, Residual):
        reals = _reals(step, step.layer.output, pooled, shortcut)
        pool = real_kernels.average_reals if averages else map_kernels.pool_reals
        reals = _pooled(pool, reals, step.pool_of_outputs)
        return Output(inputs, pooled, reals, _signs(reals))
    if step.bounds is None:
        return Output(inputs, pooled, None, None)
    if isinstance(step.layer.output, Quantizer):
        return Output(inputs, pooled, None, _levels(step, step.layer.output, pooled))
    maps = _empty_maps(pooled)
    map_kernels.binarize(_patches(pooled), step.bounds.low, step.bounds.high, _patches(maps))
    if averages:
        signs = unpack_signs(maps, step.layer.out_features).astype(np.float32)
        reals = _pooled(real_kernels.average_reals, signs, step.pool_of_outputs)
        return Output(inputs, pooled, reals, _signs(reals))
    return Output(inputs, pooled, None, _pooled(map_kernels.pool_bits, maps, step.pool_of_outputs)[None])


def taken(before: Output, bits: int) -> UInt64[np.ndarray, "plane image place word"]:
    """What a layer takes of the output before it: its bits, or the levels of a real output."""
    if before.reals is None or bits == 1:
        assert before.maps is not None  # Network has checked it.
        return before.maps
    levels = np.empty(before.reals.shape, np.uint8)
    level_kernels.quantize_reals(_patches(before.reals), level_steps(bits), _patches(levels))
    return _planes(levels, bits)


def macs(step: Step, sums: Shaped[np.ndarray, "image column"]) -> Float32[np.ndarray, "image column"]:
    """Sums in MAC units: of fixed point and of the totals of an average as numbers, real ones as they are."""
    if sums.dtype == np.float32:
        return sums
    return sums.astype(np.float32) / np.float32(2**step.fraction_bits) / np.float32(step.layer.sum_taps)


def _pool_of_sums(step: Step, sums: Shaped[np.ndarray, "image position column"]) -> Callable[..., None]:
    real = sums.dtype == np.float32
    if step.average:
        return real_kernels.average_reals if real else real_kernels.total_sums
    return map_kernels.pool_reals if real else map_kernels.pool_sums


def _reals(
    step: Step,
    output: Residual,
    sums: Shaped[np.ndarray, "image place column"],
    shortcut: Float32[np.ndarray, "image place column"] | None,
) -> Float32[np.ndarray, "image place column"]:
    reals = np.empty(sums.shape, np.float32)
    added = _NO_SHORTCUT if shortcut is None else _patches(shortcut)
    unit = np.float32(1 if sums.dtype == np.float32 else 2.0**-step.fraction_bits)
    scaled = _patches(sums)
    if step.layer.sum_taps > 1:
        scaled, unit = macs(step, scaled), np.float32(1)
    map_kernels.residual(scaled, unit, output.scale, output.offset, added, output.hard_tanh, _patches(reals))
    return reals


def _signs(reals: Float32[np.ndarray, "image place column"]) -> UInt64[np.ndarray, "plane image place word"]:
    maps = _empty_maps(reals)
    map_kernels.signs_of(_patches(reals), _patches(maps))
    return maps[None]


def _levels(
    step: Step, output: Quantizer, sums: Int32[np.ndarray, "image place column"]
) -> UInt64[np.ndarray, "plane image place word"]:
    assert step.bounds is not None
    levels = np.empty(sums.shape, np.uint8)
    level_kernels.quantize(_patches(sums), step.bounds.low, step.bounds.high, _patches(levels))
    return _planes(_pooled(level_kernels.pool_levels, levels, step.pool_of_outputs), output.bits)


def _planes(levels: UInt8[np.ndarray, "image place column"], bits: int) -> UInt64[np.ndarray, "plane image place word"]:
    return np.stack([pack_bits((levels >> bit & 1).astype(np.bool_)) for bit in range(bits)])


def _pooled(pool: Callable[..., None], values: np.ndarray, pixels: Int64[np.ndarray, "place tap"] | None) -> np.ndarray:
    """What the kernel makes of every window; the values themselves where there is no pooling."""
    if pixels is None:
        return values
    pooled = np.empty((len(values), len(pixels), values.shape[2]), values.dtype)
    pool(values, pixels, pooled)
    return pooled


def _empty_maps(values: Shaped[np.ndarray, "image place column"]) -> UInt64[np.ndarray, "image place word"]:
    return np.empty((*values.shape[:2], words_for(values.shape[2])), np.uint64)


def _patches(values: np.ndarray) -> np.ndarray:
    """The places of all images one after the other."""
    return values.reshape(-1, values.shape[2])
