"""Folding of torch's batch norm and sign, or levels, into integer thresholds and a direction, ties included."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn

from cosim.errors import InputError
from cosim.network.layers import Quantizer, Threshold
from cosim.network.levels import level_steps

_CHUNK = 2048
_EXACT = 2**24


def fold(norm: nn.BatchNorm1d | nn.BatchNorm2d, reach: int, taps: int = 1) -> Threshold:
    """The integer rule that equals `norm(sum) >= 0` for every integer sum from -reach to reach.

    torch's own batch norm (eval mode) is run on all of these integers, and the sum where its sign changes is
    the threshold: its float32 rounding, ties, negative and zero gamma are all included. A column that never
    changes sign gets direction 0 (always +1), or direction +1 and the value reach + 1 (always -1).

    Args:
        norm: Batch norm over the columns, with running statistics; torch gives the same bits for columns and maps.
        reach: Largest magnitude of a sum, at least 1 and below 2^24, where float32 ends to hold each integer.
        taps: Where the batch norm is of an average, of how many sums; the rule is one of their total.

    Raises:
        InputError: A parameter is not finite, or the sign of a column changes more than once.
    """
    _check(norm, reach)
    first, changes, positive = _scan(_of_columns(norm), reach, taps)
    if bool((changes > 1).any()):
        raise InputError(f"batch norm is not monotone in column {int(changes.argmax())}")
    rising = ~first & (changes == 1)
    falling = first & (changes == 1)
    value = torch.zeros_like(positive)
    value[rising] = reach + 1 - positive[rising]
    value[falling] = positive[falling] - 1 - reach
    value[~first & (changes == 0)] = reach + 1
    direction = torch.where(falling, -1, torch.where(first, 0, 1))
    return Threshold(value.numpy().astype(np.int32), direction.numpy().astype(np.int8))


def fold_levels(norm: nn.BatchNorm1d | nn.BatchNorm2d, reach: int, taps: int, bits: int) -> Quantizer:
    """The integer rule that equals the levels of `norm(sum / taps)` for every integer sum from -reach to reach.

    torch's own batch norm (eval mode) is bisected at every level; it never falls with the sum, or never rises, as each
    of its float32 operations does.

    Raises:
        InputError: A sum that float32 does not hold, or a parameter that is not finite.
    """
    _check(norm, reach)
    columns, rows = _of_columns(norm), norm.num_features
    falling = _at(columns, torch.full((rows,), -reach), taps) > _at(columns, torch.full((rows,), reach), taps)
    direction = torch.where(falling, -1, 1)
    values: list[np.ndarray] = []
    for level in level_steps(bits):
        value = _first(columns, direction, reach, taps, float(level))
        values.append((direction * value).numpy().astype(np.int32))
    return Quantizer(np.stack(values, axis=1), direction.numpy().astype(np.int8))


def _of_columns(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.BatchNorm1d:
    """The same batch norm, on the CPU and in eval mode, over columns without a map."""
    columns = nn.BatchNorm1d(norm.num_features, eps=norm.eps)
    columns.load_state_dict(norm.state_dict())
    return columns.eval()


def _scan(
    norm: nn.BatchNorm1d, reach: int, taps: int
) -> tuple[Bool[Tensor, " column"], Int64[Tensor, " column"], Int64[Tensor, " column"]]:
    """Sign at -reach, number of sign changes and number of positive outputs over all integers, by column."""
    columns = norm.num_features
    changes = torch.zeros(columns, dtype=torch.int64)
    positive = torch.zeros(columns, dtype=torch.int64)
    first = last = torch.zeros(0)
    with torch.no_grad():
        for start in range(-reach, reach + 1, _CHUNK):
            sums = torch.arange(start, min(start + _CHUNK, reach + 1), dtype=torch.float32) / taps
            outputs = norm(sums.unsqueeze(1).expand(-1, columns).contiguous()) >= 0
            first = outputs[0] if start == -reach else first
            before = outputs[:1] if start == -reach else last.unsqueeze(0)
            changes += (outputs != torch.cat([before, outputs[:-1]])).sum(0)
            positive += outputs.sum(0)
            last = outputs[-1]
    return first, changes, positive


def _check(norm: nn.BatchNorm1d | nn.BatchNorm2d, reach: int) -> None:
    if not 1 <= reach < _EXACT:
        raise InputError(f"sums must stay within 1 to {_EXACT - 1}, got {reach}", hint="use fewer inputs")
    if norm.running_mean is None or norm.running_var is None or not norm.affine:
        raise InputError("batch norm needs running statistics and affine parameters")
    for name, values in norm.state_dict().items():
        if not bool(torch.isfinite(values).all()):
            raise InputError(f"batch norm's {name} has values that are not finite", hint="train again")
    if bool((norm.running_var < 0).any()):
        raise InputError("batch norm's running_var is negative")


def _first(
    norm: nn.BatchNorm1d, direction: Int[Tensor, " column"], reach: int, taps: int, level: float
) -> Int[Tensor, " column"]:
    """The smallest direction * sum at which the level is reached; `_EXACT` where it is never."""
    low, high = torch.full_like(direction, -reach), torch.full_like(direction, reach)
    reached: Bool[Tensor, " column"] = _at(norm, direction * high, taps) >= level
    while bool((low < high).any()):
        middle = torch.div(low + high, 2, rounding_mode="floor")
        on = _at(norm, direction * middle, taps) >= level
        low, high = torch.where(on, low, torch.minimum(middle + 1, high)), torch.where(on, middle, high)
    return torch.where(reached, low, _EXACT)


def _at(norm: nn.BatchNorm1d, sums: Int[Tensor, " column"], taps: int) -> Float[Tensor, " column"]:
    """What the batch norm gives for one sum a column; as in a batch of many, whose values a vector loop computes."""
    with torch.no_grad():
        values = sums.float() / taps
        return norm(values.expand(64, -1).contiguous())[0]
