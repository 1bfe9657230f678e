"""A surrogate as vectors that can be interpolated between operating points, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from cosim.errors import InputError
from cosim.surrogate.comparator import MOMENTS
from cosim.surrogate.model import ComparatorModel, LineModel, Sensing, Surrogate
from cosim.surrogate.polynomial import Polynomial
from cosim.surrogate.two_count import TwoCountModel

_LEAST_V = 1e-7
"""Stands for no spread where a logarithm is taken."""
_POLYNOMIALS = ("mean", "variance", "skew")

Blocks = dict[str, Float[np.ndarray, "_"]]


def blocks_of(surrogate: Surrogate) -> Blocks:
    """Means in volts, logarithms of sigmas, skews: each as one vector, for the line and every comparator."""
    line = surrogate.line
    blocks: Blocks = {
        "mean": line.mean_v,
        "sigma": np.log(np.maximum(line.sigma_v, _LEAST_V)),
        "skew": line.skew,
        "mean_error": line.mean_error_v,
        "sigma_error": line.sigma_error_v,
        "skew_error": line.skew_error,
    }
    if surrogate.two_count is not None:
        for name in _POLYNOMIALS:
            polynomial: Polynomial = getattr(surrogate.two_count, name)
            blocks[f"two_count_{name}"] = polynomial.coefficient
    for sensing, model in surrogate.comparators.items():
        for name in MOMENTS:
            values = getattr(model, name)
            blocks[f"{sensing}_{name}"] = (np.log(values) if "sigma" in name else values).ravel()
    return blocks


def surrogate_from(blocks: Mapping[str, np.ndarray], like: Surrogate) -> Surrogate:
    """A surrogate of such vectors, in everything else as `like`; the mean falls or rises as that of `like` does.

    A model in both counts keeps its curve with all rows on, which its polynomials give.
    """
    line = LineModel(
        mean_v=like.direction * np.minimum.accumulate(like.direction * blocks["mean"]),
        sigma_v=np.where(blocks["sigma"] <= np.log(_LEAST_V) + 1e-9, 0.0, np.exp(blocks["sigma"])),
        skew=blocks["skew"],
        **{f"{name}_error{unit}": np.maximum(blocks[f"{name}_error"], 0.0) for name, unit in _ERRORS.items()},
    )
    two_count = None
    if like.two_count is not None:
        two_count = _two_count(blocks, like.two_count)
        n_minus = np.arange(like.rows + 1.0)
        moments = two_count.at(n_minus, like.rows - n_minus)
        line = replace(line, mean_v=moments.mean_v, sigma_v=moments.sigma_v, skew=moments.skew)
    comparators: dict[Sensing, ComparatorModel] = {
        sensing: _comparator(blocks, sensing, model) for sensing, model in like.comparators.items()
    }
    return Surrogate(line, comparators, {}, {}, two_count)


def check_alike(first: Surrogate, other: Surrogate) -> None:
    """Refuse surrogates between which nothing can be interpolated: other rows, levels or terms.

    Raises:
        InputError: Naming the difference.
    """
    what = next((name for name, there, here in _structure(first, other) if there != here), None)
    if what is not None:
        raise InputError(f"operating points with different {what}", hint="fit them from one recipe")


_ERRORS = {"mean": "_v", "sigma": "_v", "skew": ""}


def _structure(first: Surrogate, other: Surrogate) -> list[tuple[str, object, object]]:
    def about(each: Surrogate) -> list[tuple[str, object]]:
        levels = {s: (m.level_v.tolist(), m.common_mode_v.tolist()) for s, m in each.comparators.items()}
        both = each.two_count
        terms = None if both is None else [getattr(both, name).powers.tolist() for name in _POLYNOMIALS]
        ways = None if both is None else (both.fewest_active, both.direction, both.lines)
        return [("rows", each.rows), ("comparator levels", levels), ("terms", terms), ("numbers of active rows", ways)]

    return [(name, there, here) for (name, there), (_, here) in zip(about(first), about(other), strict=True)]


def _two_count(blocks: Mapping[str, np.ndarray], like: TwoCountModel) -> TwoCountModel:
    found = {
        name: Polynomial(getattr(like, name).powers, np.array(blocks[f"two_count_{name}"])) for name in _POLYNOMIALS
    }
    return replace(like, **found)


def _comparator(blocks: Mapping[str, np.ndarray], sensing: Sensing, like: ComparatorModel) -> ComparatorModel:
    fields: dict[str, np.ndarray] = {}
    for name in MOMENTS:
        values = blocks[f"{sensing}_{name}"].reshape(like.offset_mean_v.shape)
        fields[name] = np.exp(values) if "sigma" in name else values
    return replace(like, **fields)
