"""Reads by comparators whose offsets stand still while the column's voltage is drawn afresh.

Every comparator has a standard normal number z of its own, which is the quantile of its offset: at each reference
(and common mode) that it meets, its offset is that quantile of the surrogate's distribution there. The voltage of a
read is drawn likewise. Over many such comparators and reads the codes have the probabilities of mode iid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, Shaped
from scipy.stats import norm, pearson3
from torch import Tensor

Z_MAX = 7.0
STEPS = 16
"""Points of a quantile function to one standard deviation; between them it is a straight line."""


@dataclass(frozen=True, slots=True, eq=False)
class Quantiles:
    """Quantile functions at z from -Z_MAX to Z_MAX, on the tensors' device.

    Attributes:
        line_v: Of the sensed voltage, (entry, z).
        offset_v: Of the comparator's offset, (table or entry, reference, z).
        by_entry: Whether offsets depend on the entry, as they do where several common modes were measured.
    """

    line_v: Float32[Tensor, "entry z"]
    offset_v: Float32[Tensor, "line reference z"]
    by_entry: bool


def quantiles_of(
    line_v: Float32[Tensor, "entry three"], offset_v: Float32[Tensor, "line reference three"]
) -> Quantiles:
    """The quantile functions of the moments in a layer's state."""
    both = [_quantiles(each).to(each.device) for each in (line_v, offset_v)]
    return Quantiles(both[0], both[1], by_entry=len(line_v) == len(offset_v))


def thresholds_v(
    quantiles: Quantiles, reference_v: Float32[Tensor, "table reference"], table: Int64[Tensor, " entry"], z: Tensor
) -> Float32[Tensor, "reference line column"]:
    """What the voltage is compared with in one sub-array: references plus offsets, by table or by entry.

    Args:
        reference_v: Of each table.
        table: Of each entry.
        z: Quantiles of the comparators' offsets, (column, reference), or (column, 1) for one that does all.
    """
    reference_v = reference_v[table] if quantiles.by_entry else reference_v
    found: list[Tensor] = []
    for number in range(reference_v.shape[1]):
        low, share = _place(z[:, min(number, z.shape[1] - 1)])
        curve = quantiles.offset_v[:, number]
        offset_v = torch.lerp(curve[:, low], curve[:, low + 1], share)
        found.append(reference_v[:, number, None] + offset_v)
    return torch.stack(found) if found else reference_v.new_zeros(0, len(reference_v), len(z))


def voltages_v(
    quantiles: Quantiles, entry: Int64[Tensor, "*read"], z: Float32[Tensor, "*read"]
) -> Float32[Tensor, "*read"]:
    """The sensed voltage of every read, from standard normal numbers."""
    low, share = _place(z)
    at = low.add_(entry, alpha=quantiles.line_v.shape[1]).flatten()
    curve = quantiles.line_v.flatten()
    return torch.lerp(curve.index_select(0, at), curve.index_select(0, at + 1), share.flatten()).view(z.shape)


def codes_of(
    voltage_v: Float32[Tensor, "column image position"],
    thresholds: Float32[Tensor, "reference line column"],
    line: Int64[Tensor, " position"] | Int64[Tensor, "column image position"],
    direction: int,
) -> Int64[Tensor, "column image position"]:
    """How many comparators are on the side of a larger partial sum.

    Args:
        thresholds: What each compares with.
        line: Which of their lines a read meets: the table of its position, or its entry.
        direction: +1 where the voltage rises with the partial sum, else -1.
    """
    codes = torch.zeros(voltage_v.shape, dtype=torch.int16, device=voltage_v.device)  # Short ones add faster.
    columns = torch.arange(len(voltage_v), device=voltage_v.device)[:, None, None]
    for each in thresholds:
        limit_v = each[line].T[:, None] if line.ndim == 1 else each[line, columns]
        codes += voltage_v > limit_v if direction > 0 else voltage_v < limit_v
    return codes.long()


def _place(z: Shaped[Tensor, "*any"]) -> tuple[Int64[Tensor, "*any"], Float32[Tensor, "*any"]]:
    """The point of the quantile functions below z, and how far z is on the way to the next."""
    place = (z.clamp(-Z_MAX, Z_MAX) + Z_MAX) * STEPS
    low = place.long().clamp_(max=int(2 * Z_MAX * STEPS) - 1)
    return low, place - low


def _quantiles(moments: Float32[Tensor, "*any three"]) -> Float32[Tensor, "*any z"]:
    """Quantile functions of Pearson type III distributions; upper tails from the survival function."""
    mean, sigma, skew = (each.cpu().double().numpy()[..., None] for each in moments.unbind(-1))
    z = np.linspace(-Z_MAX, Z_MAX, int(2 * Z_MAX * STEPS) + 1)
    lower: Float[np.ndarray, "*any z"] = pearson3.ppf(norm.cdf(z[z < 0]), skew)
    upper: Float[np.ndarray, "*any z"] = pearson3.isf(norm.sf(z[z >= 0]), skew)
    standard = np.concatenate([lower, upper], axis=-1)
    return torch.from_numpy((mean + sigma * standard).astype(np.float32))
