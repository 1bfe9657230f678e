"""Point sets for Monte Carlo: batches of normal numbers, each randomised anew, drawn anywhere and in any order."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri

from cosim.errors import InputError

Method = Literal["random", "sobol", "latin"]

Identity = tuple[str | int | float, ...]
"""What a point is, hashed into the seeds of its draws."""

BATCH = 16
"""Samples of one point set; a power of two, as Sobol's sequence wants it."""

MOST_DIMENSIONS = 21201
"""Of Sobol's sequence, as far as Joe and Kuo's direction numbers go."""

_BITS = 30


def batch_of(samples: int, most: int) -> int:
    """The largest power of two up to `most` that divides the samples into four batches or more; 1 where none does.

    The fit holds out every fourth batch, and fewer tell nothing of their spread.

    >>> [batch_of(samples, 256) for samples in (64, 512, 1024, 4096)]
    [16, 128, 256, 256]
    >>> batch_of(32, 16)
    8
    """
    while most > 1 and (samples % most or samples // most < 4):
        most //= 2
    return most


def generator_of(seed: int, identity: Identity, *index: int) -> np.random.Generator:
    """The generator of one sample: `SeedSequence(seed, spawn_key=(point, sample))`, point = hash of identity.

    Three numbers, `(point, batch, 1)`, make that of a batch, which is none of a sample.
    """
    point = int.from_bytes(hashlib.sha256(repr(identity).encode()).digest()[:4], "little")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(point, *index))))


def standard_shifts(
    method: Method, seed: int, identity: Identity, sample: int, batch: int, dimensions: int
) -> Float[np.ndarray, " dimension"]:
    """The standard normal numbers of one sample, from the point set of its batch.

    A pure function of its arguments. Each number alone is standard normal and the numbers of a sample are
    independent; those of the samples of a batch are not, so a mean's error shows between batches alone.

    Args:
        batch: Samples of a point set, a power of two.

    Raises:
        InputError: More dimensions than Sobol's sequence has.
    """
    return _batch(method, seed, identity, sample // batch, batch, dimensions)[sample % batch]


def point_set(
    method: Method, size: int, dimensions: int, generator: np.random.Generator
) -> Float[np.ndarray, "sample dimension"]:
    """One randomised set of `size` points, as standard normal numbers.

    - latin: each dimension has one point in each of `size` equally likely strata (McKay, Beckman and Conover,
      Technometrics 21(2), 1979).
    - sobol: the first points of Sobol's sequence, with a random linear scramble and a digital shift (Matousek,
      J. Complexity 14(4), 1998): the same strata, and their products as even as so few points allow.
    - random: independent numbers.

    Raises:
        InputError: More dimensions than Sobol's sequence has.
    """
    if method == "random":
        return generator.standard_normal((size, dimensions))
    if method == "latin":
        strata = generator.permuted(np.tile(np.arange(size)[:, None], (1, dimensions)), axis=0)
        return ndtri((strata + _open_uniform(generator, (size, dimensions))) / size)
    if dimensions > MOST_DIMENSIONS:
        raise InputError(
            f"{dimensions} devices of a column with mismatch, expected at most {MOST_DIMENSIONS} for Sobol's sequence",
            hint='take method = "latin"',
        )
    from scipy.stats import qmc  # Slow to import, and needed here alone.

    net = qmc.Sobol(dimensions, scramble=True, bits=_BITS, rng=generator)
    # The points are multiples of 2^-30, 0 among them: their cells' middles have finite normal quantiles.
    return ndtri(net.random_base2(size.bit_length() - 1) + 2.0 ** -(_BITS + 1))


def canonical_order(products: Int[np.ndarray, " row"], weights: Int[np.ndarray, " row"]) -> Int[np.ndarray, " row"]:
    """Rows sorted by product, then by weight: rows that do the same stand at the same places in every sample.

    A point set is even in each of its dimensions, which helps only as far as a dimension does the same in all
    samples; with the rows in random order half of the gain is lost.
    """
    return np.lexsort((weights, products))


@lru_cache(maxsize=8)
def _batch(
    method: Method, seed: int, identity: Identity, index: int, size: int, dimensions: int
) -> Float[np.ndarray, "sample dimension"]:
    points = point_set(method, size, dimensions, generator_of(seed, identity, index, 1))
    points.flags.writeable = False
    return points


def _open_uniform(generator: np.random.Generator, shape: tuple[int, int]) -> Float[np.ndarray, "sample dimension"]:
    """Uniform between 0 and 1, neither of which comes: their normal quantiles are infinite."""
    return (generator.integers(0, 2**_BITS, shape) + 0.5) / 2**_BITS
