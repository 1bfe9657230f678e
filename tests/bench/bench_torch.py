"""Speed of layers that read inside torch, one core: `pytest tests/bench/bench_torch.py`.

One 3x3 convolution, 128 -> 128, 16x16, batch 16, 64-row sub-arrays and 3-bit codes, against torch's fp32 `conv2d` of
the same inputs. Times are processor times taken in turns, the least of several.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

import cosim
from cosim.resources import find
from cosim.training import calibrate, set_mode
from cosim.training.convolutional import BinaryConv2d
from cosim.training.reader import ReadMode
from cosim.training.simulated import SimulatedConv2d

CHANNELS, SIZE, BATCH = 128, 16, 16
LIMITS: dict[ReadMode, float] = {"ideal": 2.0, "nominal": 2.0, "iid": 2.5}
ROUNDS = 20


def seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


@pytest.mark.parametrize("mode", LIMITS)
def test_a_layer_that_reads_against_torchs_convolution(benchmark: Any, mode: ReadMode) -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(CHANNELS, CHANNELS, 3, 3, generator=generator)
    surrogate = cosim.load_surrogate(find("models", "surrogates", "xnor_8t.h5"))
    layer = SimulatedConv2d(BinaryConv2d(weight, padding=(1, 1)), surrogate).eval()
    x = torch.randint(0, 2, (BATCH, CHANNELS, SIZE, SIZE), generator=generator).mul(2).sub(1).float()
    calibrate(layer, x[:2], sensing="single_ended", bits=3)
    set_mode(layer, mode)

    def theirs() -> torch.Tensor:
        return torch.nn.functional.conv2d(x, weight, padding=1)

    with torch.no_grad():
        both = [(seconds(lambda: layer(x)), seconds(theirs)) for _ in range(ROUNDS)]
        benchmark(lambda: layer(x))
    ours, reference = (min(each) for each in zip(*both, strict=True))
    benchmark.extra_info.update(conv2d_s=reference, ratio=ours / reference)
    print(f"{mode}: {ours / reference:.2f} of conv2d ({1e3 * ours:.1f} ms against {1e3 * reference:.1f} ms)")
    assert ours < LIMITS[mode] * reference
