"""Speed of convolutions, one core: `pytest tests/bench/bench_conv.py`. One is 3x3, 128 -> 128, 16x16, batch 16.

64-row sub-arrays and 3-bit codes, against torch's fp32 `conv2d`. Times are taken in turns, the least of several.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cosim.network.blocks import block_logits, read_sums
from cosim.network.inference import block_size, forward
from cosim.network.layers import Affine, ConvLayer, DenseLayer, Network, Pool, Residual, Threshold, Window
from cosim.network.layout import map_network
from cosim.network.packing import pack_signs
from cosim.network.program import MODES, Mode, prepare
from cosim.network.readout import Readout

CHANNELS, SIZE, BATCH, CODES = 128, 16, 16, 8
LIMITS: dict[Mode, float] = {"ideal": 0.15, "nominal": 0.5, "iid": 0.65}
ROUNDS = 40


def conv_layer(name: str, kind: Any, in_shape: tuple[int, int, int], columns: int, pad_value: Any) -> ConvLayer:
    """A 3x3 convolution of random weights that keeps the size, with a threshold at 0."""
    window = Window(in_shape, (3, 3), padding=(1, 1), pad_value=pad_value)
    weights = np.random.default_rng(columns).choice(np.array([-1, 1], np.int8), (columns, window.in_features))
    output = Threshold(np.zeros(columns, np.int32), np.ones(columns, np.int8))
    return ConvLayer(name, kind, window.in_features, pack_signs(weights), output, window=window)


def network(pad_value: int) -> Network:
    """Pixels to 128 channels, the convolution that is timed, logits."""
    first = conv_layer("first", "pixels", (1, SIZE, SIZE), CHANNELS, 0)
    timed = conv_layer("timed", "binary", (CHANNELS, SIZE, SIZE), CHANNELS, pad_value)
    inputs = CHANNELS * SIZE * SIZE
    packed = pack_signs(np.ones((2, inputs), np.int8))
    last = DenseLayer("last", "binary", inputs, packed, Affine(np.ones(2, np.float32), np.zeros(2, np.float32)))
    return Network("bench", (first, timed, last), 2, (SIZE, SIZE))


def readout(n_active: int) -> Readout:
    """Three-bit codes with levels 5 counts apart and a Gaussian read of 3 counts."""
    counts = np.arange(n_active + 1)
    levels = n_active / 2 + 5.0 * (np.arange(CODES) - (CODES - 1) / 2)
    weights = np.exp(-0.5 * ((counts[:, None] - levels) / 3) ** 2)
    probability = weights / weights.sum(axis=1, keepdims=True)
    centroid = np.round((n_active - 2 * levels) * 2**8).astype(np.int32)
    return Readout(probability, probability.argmax(axis=1), centroid, 8)


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


@pytest.mark.parametrize("pad_value", [0, 1])
@pytest.mark.parametrize("mode", MODES)
def test_one_convolution_against_torch(benchmark: Any, mode: Mode, pad_value: int):
    """Layout of the patches, reads and digital sums against torch's convolution of the same inputs."""
    import torch

    torch.set_num_threads(1)
    of = network(pad_value)
    step = prepare(of, mode, {name: {64: readout(64)} for name in ("timed", "last")}).steps[1]
    rng = np.random.default_rng(0)
    signs = rng.choice(np.array([-1, 1], np.int8), (BATCH, SIZE * SIZE, CHANNELS))
    maps, keys = pack_signs(signs), rng.integers(0, 2**64, BATCH, dtype=np.uint64)
    values = torch.from_numpy(signs.transpose(0, 2, 1).reshape(BATCH, CHANNELS, SIZE, SIZE).astype(np.float32))
    weights = torch.from_numpy(of.layers[1].weights.astype(np.float32)).reshape(CHANNELS, 3, 3, CHANNELS)
    weights = weights.permute(0, 3, 1, 2).contiguous()

    def ours() -> np.ndarray:
        return read_sums(step, maps, keys)

    def theirs() -> torch.Tensor:
        with torch.inference_mode():
            return torch.nn.functional.conv2d(values, weights, padding=1)

    if mode == "ideal" and pad_value == 0:
        expected = theirs().permute(0, 2, 3, 1).reshape(-1, CHANNELS).numpy()
        np.testing.assert_array_equal(ours(), expected)
    ours(), theirs()
    times = np.array([(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)])
    best, best_torch = map(float, times.min(axis=0))
    benchmark.extra_info |= {
        "ours_ms": round(best * 1e3, 3),
        "torch_ms": round(best_torch * 1e3, 3),
        "ratio": round(best / best_torch, 3),
    }
    benchmark.pedantic(ours, rounds=3)
    print(f"\n{mode}, padding {pad_value}: {benchmark.extra_info}")
    assert best / best_torch <= LIMITS[mode]


VGG = ((128, False), (128, True), (256, False), (256, True), (512, False), (512, True))
"""Columns of the 3x3 convolutions of the field's VGG for CIFAR-10, and whether a 2x2 max pooling follows."""


def vgg(width: float = 1.0) -> Network:
    """128-128-256-256-512-512 convolutions and 1024-1024-10 dense layers, random weights, thresholds at 0."""
    rng = np.random.default_rng(0)
    shape, layers = (3, 32, 32), list[DenseLayer]()
    for index, (columns, pooled) in enumerate(VGG):
        kind = "binary" if index else "pixels"
        layer = conv_layer(f"conv{index}", kind, shape, int(columns * width), 0)
        pool = Pool((2, 2), (2, 2)) if pooled else None
        layers.append(replace(layer, pool=pool))
        shape = layers[-1].out_shape
    inputs = int(np.prod(shape))
    for index, columns in enumerate((int(1024 * width), int(1024 * width), 10)):
        packed = pack_signs(rng.choice(np.array([-1, 1], np.int8), (columns, inputs)))
        output = Threshold(np.zeros(columns, np.int32), np.ones(columns, np.int8))
        if columns == 10:
            output = Affine(np.ones(columns, np.float32), np.zeros(columns, np.float32))
        layers.append(DenseLayer(f"dense{index}", "binary", inputs, packed, output))
        inputs = columns
    return Network("vgg", tuple(layers), 10, (32, 32, 3))


def torch_vgg(of: Network) -> Any:
    """The same network in fp32: convolution, pooling, sign."""
    import torch
    from torch import nn

    class Sign(nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return torch.sign(values)

    modules: list[nn.Module] = []
    for layer in of.layers:
        if isinstance(layer, ConvLayer):
            modules.append(nn.Conv2d(layer.window.channels, layer.out_features, 3, padding=1, bias=False))
            modules += [nn.MaxPool2d(2)] if layer.pool else []
        else:
            modules += [nn.Flatten(), nn.Linear(layer.in_features, layer.out_features, bias=False)]
        modules.append(Sign())
    return nn.Sequential(*modules[:-1]).eval()


@pytest.mark.parametrize("mode", MODES)
def test_full_width_vgg(benchmark: Any, mode: Mode):
    """Milliseconds an image on one core, laying out the network once not counted; torch takes batches of 32."""
    import torch

    torch.set_num_threads(1)
    of, images = vgg(), np.random.default_rng(1).integers(0, 256, (32, 32, 32, 3), dtype=np.uint8)
    model, values = torch_vgg(of), torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32))
    tables = {name: {n: readout(n) for n in mapping.kinds} for name, mapping in map_network(of, 64).items()}

    program = prepare(of, mode, tables)
    blocks = np.split(images.reshape(len(images), -1), range(block_size(program), len(images), block_size(program)))

    def ours() -> list[np.ndarray]:
        return [block_logits(program, block, 0) for block in blocks]

    def theirs() -> torch.Tensor:
        with torch.inference_mode():
            return model(values)

    ours(), theirs()
    times = np.array([(seconds(ours), seconds(theirs)) for _ in range(5)])
    best, best_torch = map(float, times.min(axis=0) * 1e3 / len(images))
    benchmark.extra_info |= {"ours_ms": round(best, 3), "torch_ms": round(best_torch, 3)}
    benchmark.pedantic(ours, rounds=1)
    print(f"\nVGG, {mode}: {benchmark.extra_info}")
    assert best <= best_torch


def test_ten_thousand_images_of_vgg(benchmark: Any):
    """Full width, iid, two threads each: at most a minute, and at most torch's own time; torch takes batches of 100."""
    import torch

    torch.set_num_threads(2)
    of, images = vgg(), np.random.default_rng(2).integers(0, 256, (10_000, 32, 32, 3), dtype=np.uint8)
    tables = {name: {n: readout(n) for n in mapping.kinds} for name, mapping in map_network(of, 64).items()}
    model = torch_vgg(of)

    def ours() -> None:
        forward(of, images, mode="iid", readouts=tables, threads=2)

    def theirs() -> None:
        with torch.inference_mode():
            for start in range(0, len(images), 100):
                model(torch.from_numpy(images[start : start + 100].transpose(0, 3, 1, 2).astype(np.float32)))

    forward(of, images[:64], mode="iid", readouts=tables, threads=2)
    benchmark.pedantic(ours, rounds=1)
    spent_s, torch_s = benchmark.stats.stats.min, seconds(theirs)
    benchmark.extra_info |= {"ours_s": round(spent_s, 1), "torch_s": round(torch_s, 1)}
    print(f"\nVGG, 10,000 images, iid, two threads: {benchmark.extra_info}")
    assert spent_s <= min(60, torch_s)


def resnet(width: int = 64) -> Network:
    """ResNet-18 for CIFAR-10: a stream of real numbers that two binary convolutions a block are added to."""
    first = conv_layer("stem", "pixels", (3, 32, 32), width, 0)
    layers: list[DenseLayer] = [replace(first, output=stream(width))]
    before, shape = "stem", (width, 32, 32)
    for block in range(8):
        stride = 2 if block in (2, 4, 6) else 1
        columns = shape[0] * stride
        inner = strided(conv_layer(f"inner{block}", "binary", shape, columns, 0), stride)
        shortcut = before
        if stride == 2:
            window = Window(shape, (1, 1), (2, 2))
            packed = pack_signs(np.ones((columns, shape[0]), np.int8))
            shortcut = f"shortcut{block}"
            about = (shortcut, "binary", shape[0], packed, stream(columns), None, before)
            layers.append(ConvLayer(*about, window=window))
        shape = inner.out_shape
        outer = conv_layer(f"outer{block}", "binary", shape, columns, 0)
        layers += [replace(inner, source=before), replace(outer, output=stream(columns, shortcut))]
        before = outer.name
    inputs = int(np.prod(shape))
    packed = pack_signs(np.ones((10, inputs), np.int8))
    affine = Affine(np.ones(10, np.float32), np.zeros(10, np.float32))
    layers.append(DenseLayer("last", "binary", inputs, packed, affine))
    return Network("resnet", tuple(layers), 10, (32, 32, 3))


def stream(columns: int, shortcut: str = "") -> Residual:
    return Residual(np.full(columns, 0.01, np.float32), np.zeros(columns, np.float32), shortcut, hard_tanh=True)


def strided(layer: ConvLayer, stride: int) -> ConvLayer:
    return replace(layer, window=replace(layer.window, stride=(stride, stride)))


def test_memory_of_a_full_width_resnet(benchmark: Any):
    """Bytes of arrays that an iid evaluation on two threads holds at most, its input images not counted."""
    of, images = resnet(), np.random.default_rng(1).integers(0, 256, (32, 32, 32, 3), dtype=np.uint8)
    tables = {name: {n: readout(n) for n in mapping.kinds} for name, mapping in map_network(of, 64).items()}
    tracemalloc.start()
    forward(of, images, mode="iid", readouts=tables, threads=2)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    begin = time.perf_counter()
    forward(of, images, mode="iid", readouts=tables, threads=1)
    benchmark.extra_info |= {
        "peak_mib": round(peak, 1),
        "ms_an_image": round((time.perf_counter() - begin) * 1e3 / 32, 2),
    }
    benchmark.pedantic(lambda: None, rounds=1)
    print(f"\nResNet-18: {benchmark.extra_info}")
    assert peak < 1536
