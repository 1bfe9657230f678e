"""Speed and memory of inference, 784-1024-1024-10: `pytest tests/bench/bench_network.py`.

Times are taken in turns with torch's, the least of several, so that other load on the machine disturbs both.
"""

from __future__ import annotations

import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosim.network import inference
from cosim.network.blocks import read_sums
from cosim.network.layers import Affine, DenseLayer, Network, Threshold
from cosim.network.packing import pack_signs
from cosim.network.program import MODES, Mode, prepare
from cosim.network.readout import Readout

SIZES = (784, 1024, 1024, 10)
IMAGES = 10_000
THREADS = inference.usable_cores()
TORCH_BATCHES = (250, 1000, 2500, 10_000)
LIMITS: dict[Mode, float] = {"ideal": 1.0, "nominal": 1.0, "iid": 2.0}
ROUNDS = 7


def random_network() -> Network:
    """Random weights, thresholds that leave half of the outputs +1."""
    rng = np.random.default_rng(0)
    layers: list[DenseLayer] = []
    for index, (inputs, columns) in enumerate(pairwise(SIZES)):
        weights = rng.choice(np.array([-1, 1], np.int8), (columns, inputs))
        output = Threshold(np.zeros(columns, np.int32), np.ones(columns, np.int8))
        if columns == SIZES[-1]:
            output = Affine(np.ones(columns, np.float32), np.zeros(columns, np.float32))
        kind = "binary" if index else "pixels"
        layers.append(DenseLayer(f"dense{index}", kind, inputs, pack_signs(weights), output))
    return Network("bench", tuple(layers), SIZES[-1])


def readouts(network: Network, codes: int = 8) -> dict[str, dict[int, Readout]]:
    """Three-bit codes with levels 5 counts apart and a Gaussian read of 1 count."""
    counts = np.arange(65)
    levels = 32 + 5.0 * (np.arange(codes) - (codes - 1) / 2)
    weights = np.exp(-0.5 * ((counts[:, None] - levels) / 3) ** 2)
    probability = weights / weights.sum(axis=1, keepdims=True)
    centroid = np.round((64 - 2 * levels) * 2**8).astype(np.int32)
    readout = Readout(probability, probability.argmax(axis=1), centroid, 8)
    return {layer.name: {64: readout} for layer in network.binary_layers}


def torch_network(network: Network) -> Any:
    """The same network in fp32: dense, batch norm (eval), sign. torch is imported here: memory is measured without."""
    import torch
    from torch import nn

    class Sign(nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return torch.sign(values)

    modules: list[nn.Module] = []
    for layer in network.layers:
        dense = nn.Linear(layer.in_features, layer.out_features, bias=False)
        dense.weight.data = torch.from_numpy(layer.weights.astype(np.float32))
        modules += [dense, nn.BatchNorm1d(layer.out_features), Sign()]
    return nn.Sequential(*modules[:-1]).eval()


@pytest.fixture(scope="module")
def network() -> Network:
    return random_network()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (IMAGES, 28, 28), dtype=np.uint8)


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def torch_work(model: Any, images: np.ndarray, batch: int, threads: int) -> Callable[[], object]:
    import torch

    torch.set_num_threads(threads)
    pixels = torch.from_numpy(images.reshape(len(images), -1)).float()

    def work() -> object:
        with torch.inference_mode():
            return [model(part).argmax(dim=1) for part in pixels.split(batch)]

    return work


@pytest.mark.parametrize("threads", sorted({1, THREADS}))
@pytest.mark.parametrize("mode", MODES)
def test_whole_evaluation_against_torch(benchmark: Any, network: Network, images: np.ndarray, mode: Mode, threads: int):
    tables, labels = readouts(network), np.zeros(IMAGES, np.int64)
    model = torch_network(network)
    tried = {batch: torch_work(model, images, batch, threads) for batch in TORCH_BATCHES}
    batch = min(tried, key=lambda size: min(seconds(tried[size]) for _ in range(2)))

    def ours() -> object:
        return inference.evaluate(network, images, labels, mode=mode, readouts=tables, threads=threads)

    ours()
    times = np.array([(seconds(ours), seconds(tried[batch])) for _ in range(ROUNDS)])
    best, best_torch = map(float, times.min(axis=0))
    benchmark.extra_info |= {
        "ours_s": round(best, 4),
        "torch_s": round(best_torch, 4),
        "torch_batch": batch,
        "ratio": round(best / best_torch, 3),
        "threads": threads,
    }
    benchmark.pedantic(ours, rounds=3)
    print(f"\n{mode}: {benchmark.extra_info}")
    assert best / best_torch <= LIMITS[mode]


@pytest.mark.parametrize("mode", MODES)
def test_one_partial_sum(benchmark, network: Network, mode: Mode):
    """The 1024-1024 layer alone, one thread; its sampling, look-up and digital sum included."""
    program = prepare(network, mode, readouts(network), seed=0)
    step = program.steps[1]
    rng = np.random.default_rng(2)
    inputs = rng.integers(0, 2**64, (256, 1, 16), dtype=np.uint64)
    keys = rng.integers(0, 2**64, 256, dtype=np.uint64)
    read_sums(step, inputs, keys)
    benchmark(read_sums, step, inputs, keys)
    benchmark.extra_info["ns_per_partial_sum"] = round(benchmark.stats.stats.min * 1e9 / (256 * 16 * 1024), 4)
    print(f"\n{mode}: {benchmark.extra_info}")


def test_histogram(benchmark, network: Network, images: np.ndarray):
    inference.partial_sum_histogram(network, images[:100])
    benchmark.pedantic(lambda: inference.partial_sum_histogram(network, images), rounds=3)


MEMORY = """
import sys
sys.path.insert(0, {folder!r})
import bench_network as bench
peak = bench.traced_peak({images}) / 2**20
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(peak, int(status["VmHWM"].split()[0]) / 1024)
"""


def traced_peak(images: int) -> int:
    """Bytes of arrays that an iid evaluation holds at most, its input images not counted."""
    network = random_network()
    pixels = np.full((images, 28, 28), 7, np.uint8)
    tables = readouts(network)
    inference.forward(network, pixels[:1], mode="iid", readouts=tables)
    tracemalloc.start()
    inference.forward(network, pixels, mode="iid", readouts=tables, threads=THREADS)
    return tracemalloc.get_traced_memory()[1]


def test_peak_memory(benchmark: Any):
    """Arrays of one evaluation, and the peak of its whole process (Python, compiler and images included)."""

    def peaks(images: int) -> list[float]:
        code = MEMORY.format(folder=str(Path(__file__).parent), images=images)
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return [round(float(word), 2) for word in run.stdout.split()]

    small, large = peaks(IMAGES), peaks(6 * IMAGES)
    benchmark.extra_info |= {"arrays_mib": [small[0], large[0]], "process_mib": [small[1], large[1]]}
    benchmark.pedantic(lambda: None, rounds=1)
    print(f"\n10,000 and 60,000 images: {benchmark.extra_info}")
    assert large[0] < small[0] + 4  # 50,000 more rows of logits take 1.9 MiB, 782 blocks in the queue 1.5 MiB.
