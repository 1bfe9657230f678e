"""Where the accuracy goes: to the levels, to the column's variation, to the comparators'; each alone and together.

On training images, so that a circuit may be chosen by it: the test images are for what was chosen.

Run: python tests/bench/variation_figures.py cifar10_vgg_hbnn hbnn_6t tt 1 27 2000      (images; minutes)
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import get_args

import numpy as np

import cosim
from cosim.chain import dataset_of
from cosim.network.inference import Evaluation, Mode, evaluate
from cosim.network.layers import Network
from cosim.network.sensing import calibrate_network, readouts_of
from cosim.resources import find
from cosim.surrogate.family_files import load_at
from cosim.surrogate.model import Sensing, Surrogate
from cosim.surrogate.operating import Request

CALIBRATION = 1000
NEXT_TO_NOTHING = 1e-3
"""What is left of a standard deviation that is switched off; the models take no 0."""


def fixed_column(surrogate: Surrogate) -> Surrogate:
    """Every read at its mean voltage."""
    line = replace(surrogate.line, sigma_v=NEXT_TO_NOTHING * surrogate.line.sigma_v)
    model = surrogate.two_count
    if model is not None:
        coefficient = NEXT_TO_NOTHING**2 * model.variance.coefficient
        model = replace(model, variance=replace(model.variance, coefficient=coefficient))
    return replace(surrogate, line=line, two_count=model)


def fixed_comparators(surrogate: Surrogate) -> Surrogate:
    """Every comparator at its mean offset."""
    comparators = {
        sensing: replace(each, offset_sigma_v=NEXT_TO_NOTHING * each.offset_sigma_v)
        for sensing, each in surrogate.comparators.items()
    }
    return replace(surrogate, comparators=comparators)


def show(network: Network, surrogate: Surrogate, images: int) -> None:
    """One line a sensing and variation."""
    training = cosim.load_images(dataset_of(network), "train")
    order = np.random.default_rng(0).permutation(len(training.labels))
    chosen = order[CALIBRATION : CALIBRATION + images]

    def found(mode: Mode, at: Surrogate, sensing: Sensing) -> Evaluation:
        # The levels are those of the whole surrogate, in every line.
        readouts = readouts_of(at, levels[sensing]) if mode != "ideal" else None
        return evaluate(network, training.images[chosen], training.labels[chosen], mode=mode, readouts=readouts, seed=1)

    sensings = [each for each in get_args(Sensing) if each in surrogate.comparators]
    levels = {
        each: calibrate_network(network, surrogate, training.images[order[:CALIBRATION]], sensing=each)
        for each in sensings
    }
    for sensing in sensings:
        lines: tuple[tuple[str, Mode, Surrogate], ...] = (
            ("exact sums", "ideal", surrogate),
            ("levels alone", "nominal", surrogate),
            ("levels and column", "iid", fixed_comparators(surrogate)),
            ("levels and comparators", "iid", fixed_column(surrogate)),
            ("all", "iid", surrogate),
        )
        for what, mode, at in lines:
            accuracy = found(mode, at, sensing).accuracy
            interval = f"({100 * accuracy.low:.1f} to {100 * accuracy.high:.1f})"
            print(f"{sensing:12s} {what:22s} {100 * accuracy.value:.1f} % {interval}", flush=True)


if __name__ == "__main__":
    name, family, corner, vdd_v, temp_c, count = sys.argv[1:7]
    show(
        cosim.load_network(find("models", "networks", f"{name}.h5")),
        load_at(family, Request(corner, float(vdd_v), float(temp_c))),
        int(count),
    )
