"""What a read's distribution is described by, and how a column may be sensed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

Sensing = Literal["single_ended", "differential"]


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and standard deviation in volts and skewness of a sensed voltage; arrays of one shape."""

    mean_v: Float[np.ndarray, "..."]
    sigma_v: Float[np.ndarray, "..."]
    skew: Float[np.ndarray, "..."]
