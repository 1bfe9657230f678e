"""How many levels weights and activations of several bits need: accuracy by levels, and errors pair of bits by pair.

An MNIST MLP 784-256-256-10 on 20,000 images, 15 epochs; its first layer is digital. Read with the 8T cell.

Run: python tests/bench/bit_pair_figures.py 4 4        (bits of weights and activations; two minutes on an idle core)
     python tests/bench/bit_pair_figures.py 4 4 1.0    (latent weights that start uniform in +-1, not +-0.3)
Networks are kept in runs/bit-pairs and not trained again.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

import cosim
from cosim.errors import InputError
from cosim.network.inference import evaluate, partial_sum_histogram, trace
from cosim.network.layers import Network
from cosim.network.layout import map_network
from cosim.network.readout import Readout, Readouts
from cosim.network.sensing import calibrate_network, readouts_of
from cosim.stats import Estimate
from cosim.surrogate.calibration import LevelsPer
from cosim.surrogate.model import Sensing, Surrogate
from cosim.training import TrainingRecipe, train

OUT, TRAINING, CALIBRATION, TRACED = Path("runs/bit-pairs"), 20_000, 5_000, 1_000
LAYER = "dense2"
"""The first layer that is read: what it takes is the same in every mode."""


def trained(weight_bits: int, activation_bits: int, spread: float) -> Network:
    """The network, trained now or before."""
    name = f"mnist_w{weight_bits}a{activation_bits}_{round(10 * spread)}"
    bits = {"weight_bits": weight_bits, "activation_bits": activation_bits}
    recipe = TrainingRecipe(name, "mnist", (256, 256), 15, 128, 0.005, 1, initial_spread=spread, **bits)
    images = cosim.load_images("mnist", "train")
    images = replace(images, images=images.images[:TRAINING], labels=images.labels[:TRAINING])
    *_, last = train(recipe, out=OUT, images=images)
    return cosim.load_network(last.network)


def accuracies(network: Network, surrogate: Surrogate, sensing: Sensing, per: LevelsPer | None) -> None:
    """Accuracy on all test images by number of levels, in nominal and iid."""
    images = cosim.load_images("mnist", "train").images[:CALIBRATION]
    test = cosim.load_images("mnist", "test")
    for bits in (3, 4, 5):
        said = f"  {sensing:12s} levels per {per or 'layer':5s} {2**bits:2d} levels: "
        try:
            readouts = readouts_of(
                surrogate, calibrate_network(network, surrogate, images, sensing=sensing, bits=bits, levels_per=per)
            )
        except InputError as error:
            print(f"{said}{error}")
            continue
        found = [
            evaluate(network, test.images, test.labels, mode=mode, readouts=readouts) for mode in ("nominal", "iid")
        ]
        print(said + ", ".join(f"{each.mode} {text(each.accuracy)}" for each in found), flush=True)


def errors(network: Network, surrogate: Surrogate, sensing: Sensing, per: LevelsPer | None, bits: int) -> None:
    """Errors of one layer's sums, by the pair of bits that they come from, against the sums' own variance."""
    images = cosim.load_images("mnist", "train").images[:CALIBRATION]
    test = cosim.load_images("mnist", "test").images[:TRACED]
    calibration = calibrate_network(network, surrogate, images, sensing=sensing, bits=bits, levels_per=per)
    readouts = readouts_of(surrogate, calibration)
    exact, read, quantized = (sums_of(network, test, mode, readouts) for mode in ("ideal", "iid", "nominal"))
    signal = exact.var(axis=0).mean()
    parts = pair_errors(network, test, readouts)
    total = {mode: sum(part[mode] for part in parts.values()) for mode in ("nominal", "iid")}
    measured = {"nominal": (quantized - exact).var(axis=0).mean(), "iid": (read - exact).var(axis=0).mean()}
    print(f"  {LAYER}, {sensing}, levels per {per or 'layer'}, {2**bits} levels: variance of the sums {signal:.0f}")
    for mode, each in total.items():
        ratio = 10 * np.log10(signal / measured[mode])
        print(f"    {mode:8s} sum of the pairs' errors {each:.0f}, measured {measured[mode]:.0f}: {ratio:.1f} dB")
    for pair, part in sorted(parts.items(), key=lambda item: -item[1]["iid"]):
        if part["iid"] < 0.03 * total["iid"]:
            continue
        print(
            f"    weight bit {pair[0]}, activation bit {pair[1]}: sigma {part['sigma']:.2f}, rms error of a read "
            f"{part['rms_nominal']:.2f} (levels), {part['rms_iid']:.2f} (iid), {part['iid'] / total['iid']:.0%} of all"
        )


def pair_errors(network: Network, images: np.ndarray, readouts: Readouts) -> dict[tuple[int, int], dict[str, float]]:
    """Squared errors that each pair adds to a sum, and the rms of one read, from counts and code probabilities."""
    mapping, of_layer = map_network(network, 64)[LAYER], readouts[LAYER]
    layer = next(each for each in network.binary_layers if each.name == LAYER)
    histograms = partial_sum_histogram(network, images, levels_per="pair")[LAYER]
    found: dict[tuple[int, int], dict[str, float]] = {}
    for pair in layer.bit_pairs:
        total = {"reads": 0.0, "nominal": 0.0, "iid": 0.0, "sum": 0.0, "square": 0.0}
        for n in mapping.kinds:
            histogram = histograms[(n, *pair) if (n, *pair) in histograms else n]
            one = of_reads(of_layer[(n, *pair) if (n, *pair) in of_layer else n], histogram)
            total = {name: total[name] + one[name] for name in total}
        reads, worth = total["reads"], 4 ** sum(pair) * mapping.arrays
        mean = {name: value / reads for name, value in total.items()}
        found[pair] = {
            "nominal": worth * mean["nominal"],
            "iid": worth * mean["iid"],
            "rms_nominal": mean["nominal"] ** 0.5,
            "rms_iid": mean["iid"] ** 0.5,
            "sigma": (mean["square"] - mean["sum"] ** 2) ** 0.5,
        }
    return found


def of_reads(readout: Readout, histogram: np.ndarray) -> Mapping[str, float]:
    """Sums over reads: their number, their squared errors in both modes, the partial sum and its square."""
    mac = readout.n_active - 2.0 * np.arange(readout.n_active + 1)
    squares = (readout.centroid / 2**readout.fraction_bits - mac[:, None]) ** 2
    return {
        "reads": float(histogram.sum()),
        "nominal": float(histogram @ squares[np.arange(mac.size), readout.nominal]),
        "iid": float(histogram @ (readout.probability * squares).sum(axis=1)),
        "sum": float(histogram @ mac),
        "square": float(histogram @ mac**2),
    }


def sums_of(network: Network, images: np.ndarray, mode: str, readouts: Readouts) -> np.ndarray:
    """The layer's sums in MAC units, (image, column)."""
    position = [layer.name for layer in network.layers].index(LAYER)
    found = trace(network, images, mode=mode, readouts=readouts)[position]
    return found.sums / 2.0**found.fraction_bits


def text(accuracy: Estimate) -> str:
    """In per cent, with its interval and n."""
    return f"{100 * accuracy.value:.1f} % ({100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}, n = {accuracy.n})"


def main(weight_bits: int, activation_bits: int, spread: float) -> None:
    """All figures of one network."""
    network, surrogate = trained(weight_bits, activation_bits, spread), cosim.load_surrogate("xnor_8t")
    test = cosim.load_images("mnist", "test")
    ideal = evaluate(network, test.images, test.labels, mode="ideal").accuracy
    weights = next(each for each in network.binary_layers if each.name == LAYER).weights.astype(float)
    most = (4**weight_bits - 1) / 3
    print(f"{network.name}: ideal {text(ideal)}; mean square of a weight of {LAYER} {np.mean(weights**2):.1f}, "
          f"{most:.0f} were all levels as frequent")  # fmt: skip
    choices: tuple[LevelsPer | None, ...] = ("layer", "pair") if weight_bits * activation_bits > 1 else (None,)
    for sensing in ("differential", "single_ended"):
        for per in choices:
            accuracies(network, surrogate, sensing, per)
    for per in choices:
        errors(network, surrogate, "differential", per, 3)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0.3)
