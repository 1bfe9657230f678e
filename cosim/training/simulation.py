"""A whole model of simulated layers: calibrated, switched between modes, given a die."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cosim.errors import InputError
from cosim.network.sensing import calibrate_histograms, readouts_of, sensing_of
from cosim.surrogate.calibration import Calibration, ReadKey, by_pair
from cosim.surrogate.codes import Mlsa, check_mlsa
from cosim.surrogate.model import Sensing, Surrogate
from cosim.training.graph import GraphLayer
from cosim.training.read_noise import ReadNoise
from cosim.training.read_state import read_state
from cosim.training.reader import Reader, ReadMode
from cosim.training.simulated import Simulated, SimulatedConv2d, SimulatedLinear


def calibrate(
    model: nn.Module,
    training_images: Float[Tensor, "image ..."],
    *,
    sensing: Sensing | None = None,
    bits: int | None = None,
    adc: str | Path | None = None,
    mlsa: Mlsa = "flash",
    batch: int = 256,
) -> Calibration:
    """Levels from the model's own partial sums over training images, in mode ideal; never give it test images.

    All simulated layers get their tables for the modes nominal, iid and frozen_offsets; which mode they are in stays as
    it is, but for frozen offsets: those of an earlier calibration go, and mode iid takes their place. The levels are
    those of `cosim.calibrate` for the exported network on the same images; a layer of several bits has one set for all
    its pairs of bits, as with `levels_per="layer"` there.

    Args:
        model: A model with simulated layers.
        training_images: As the model takes them.
        sensing, bits, adc: See `cosim.network.sensing.calibrate_network`.
        mlsa: `flash`, one comparator a level, or `sequential`, one comparator for all; not with an adc.
        batch: Images in work at once; sets the memory, not the result.

    Raises:
        InputError: No simulated layer, none that was reached, no image, or a wrong option.
    """
    layers = _layers(model)
    surrogate = _surrogate(layers)
    check_mlsa(mlsa)
    sensing = sensing_of(surrogate, sensing, adc)
    _check_images(training_images, batch)
    histograms = _histograms(model, layers, training_images.split(batch))
    about = {"images": len(training_images)}
    on_off = [name for name, layer in layers.items() if layer.reader.taken.on_off]
    calibration = calibrate_histograms(
        surrogate, histograms, sensing=sensing, bits=bits, adc=adc, on_off=on_off, provenance=about
    )
    readouts = readouts_of(surrogate, calibration, mlsa)
    for name, layer in layers.items():
        of_layer = by_pair(readouts[name])[None]  # One set for all pairs of bits.
        layer.reader.set_tables(read_state(surrogate, calibration, mlsa, name, of_layer))
    return calibration


def set_mode(module: nn.Module, mode: ReadMode) -> None:
    """Choose how all simulated layers of a model, or of a part of it, read their partial sums.

    Args:
        mode: `ideal` (exact sums), `nominal` (mean transfer and levels), `iid` (a fresh column and fresh comparators at
            every read) or `frozen_offsets` (the comparators of `sample_die`, a fresh column at every read).

    Raises:
        InputError: No simulated layer, no such mode, or frozen offsets before `sample_die`; then nothing is changed.
    """
    layers = _layers(module)
    for name, layer in layers.items():
        with _place(name):
            layer.reader.check_mode(mode)
    for layer in layers.values():
        layer.reader.set_mode(mode)


def seed_reads(module: nn.Module, seed: int) -> None:
    """Start the generators of the read noise anew; each layer draws numbers of its own.

    Without it the seed is 0. On a CPU in mode iid, an image's draws depend on how many images its layer has read
    before; else the draws of a read depend on how many have been drawn before in its layer, so on the batches before
    it. They depend on no other generator of torch's, nor on `sample_die`.

    Raises:
        InputError: No simulated layer, or no seed from 0 to 2**64 - 1.
    """
    for layer in _layers(module).values():
        layer.reader.noise = ReadNoise(seed, layer.reader.noise.layer)


def sample_die(module: nn.Module, seed: int) -> None:
    """Draw the comparators of a die and switch all simulated layers to mode frozen_offsets.

    Frozen, until the next `sample_die`: the offset of every comparator instance, one for each column of each sub-array
    and, with `mlsa` flash, each level; of a stated converter its one offset a column. It is the instance's quantile
    of the surrogate's distribution at the reference (and common mode) that it meets. A convolution's positions share
    their column's comparators. The draws depend on the seed, the layer's number and the instance alone, so they are
    the same in any process, on any device and for any batch.

    Fresh at every read: the voltage of the column, with its cells' mismatch. On a chip a cell's mismatch stands still
    too, but the surrogate knows the spread of whole columns and not which cell it comes from; frozen cells need models
    of single cells. So this mode tells what frozen comparators do, and is not yet a die.

    Raises:
        InputError: No simulated layer, not calibrated, or no seed from 0 to 2**64 - 1.
    """
    for name, layer in _layers(module).items():
        with _place(name):
            layer.reader.sample_offsets(seed)


def _surrogate(layers: Mapping[str, Simulated]) -> Surrogate:
    surrogate = next(iter(layers.values())).reader.surrogate
    if any(layer.reader.surrogate is not surrogate for layer in layers.values()):
        raise InputError("the layers of this model have several surrogates", hint="calibrate the parts one by one")
    return surrogate


def _check_images(images: object, batch: int) -> None:
    if not isinstance(images, Tensor):
        got = type(images).__name__
        raise InputError(f"training images must be a tensor as the model takes them, got {got}")
    if batch < 1 or not len(images):
        raise InputError(f"{len(images)} images in batches of {batch}, expected at least one of each")


def _layers(module: nn.Module) -> dict[str, Simulated]:
    """The simulated layers by their paths, in a `Graph` by the names of its layers.

    A layer's own class is its name where the module is one itself.
    """
    own = {id(each.weights): each.name for each in module.modules() if isinstance(each, GraphLayer)}
    found = {
        own.get(id(each), name) or type(each).__name__: each
        for name, each in module.named_modules()
        if isinstance(each, SimulatedLinear | SimulatedConv2d)
    }
    if not found:
        raise InputError("no simulated layer in this module", hint="convert(model, surrogate) makes them")
    return found


@contextmanager
def _recording(model: nn.Module, layers: Mapping[str, Simulated]) -> Generator[None]:
    """Eval mode without gradients, in which layers count their partial sums and give the exact ones."""
    training = [each for each in model.modules() if each.training]
    try:
        model.eval()
        for layer in layers.values():
            layer.reader.begin_recording()
        with torch.no_grad():
            yield
    finally:
        for layer in layers.values():
            layer.reader.histogram = None
        for each in training:
            each.training = True


def _histograms(
    model: nn.Module, layers: Mapping[str, Simulated], batches: Iterable[Tensor]
) -> dict[str, dict[ReadKey, np.ndarray]]:
    """How often each count occurred, by layer and number of active rows."""
    with _recording(model, layers):
        for part in batches:
            model(part)
        return {name: _histogram(name, layer.reader) for name, layer in layers.items()}


def _histogram(name: str, reader: Reader) -> dict[ReadKey, np.ndarray]:
    """How often each count occurred, by number of active rows."""
    assert reader.histogram is not None
    counts = reader.histogram.view(reader.rows + 1, reader.rows + 1).cpu().numpy()
    seen = [n for n in range(1, reader.rows + 1) if counts[n].any()]
    if seen and reader.taken.on_off:  # Other images turn on other numbers of rows.
        seen = list(range(1, reader.most + 1))
    found: dict[ReadKey, np.ndarray] = {n: counts[n, : n + 1].copy() for n in seen}
    if not found:
        raise InputError("the model's forward does not reach this layer", place=f"layer {name}")
    return found


@contextmanager
def _place(name: str) -> Generator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(error.message, place=error.place or f"layer {name}", hint=error.hint) from error
