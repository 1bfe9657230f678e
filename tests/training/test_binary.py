"""Binary modules: exact sums, signs and straight-through gradients."""

from __future__ import annotations

import numpy as np
import torch

from cosim.training.binary import BinaryLinear, Sign, binarize_weights, binary_mlp


def test_first_layer_sums_of_pixels_are_exact() -> None:
    # |sum| <= 255 * 784 = 199,920 < 2^24, so float32 holds every partial sum: the tolerance is zero.
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (50, 784))
    pixels[0], pixels[1] = 255, 0
    weight = rng.uniform(-1.0, 1.0, (64, 784)).astype(np.float32)
    weight[0] = 1.0
    layer = BinaryLinear(torch.from_numpy(weight))
    with torch.no_grad():
        sums = layer(torch.from_numpy(pixels).float()).numpy()
    exact = pixels @ np.where(weight >= 0, 1, -1).T
    assert np.array_equal(sums.astype(np.int64), exact)
    assert sums[0, 0] == 255 * 784


def test_sign_of_zero_is_plus_one() -> None:
    zeros = torch.tensor([0.0, -0.0, -1e-30])
    assert Sign()(zeros).tolist() == [1.0, 1.0, -1.0]
    assert binarize_weights(zeros).tolist() == [1.0, 1.0, -1.0]


def test_gradients_pass_straight_through() -> None:
    x = torch.tensor([-1.5, -0.5, 0.5, 1.5], requires_grad=True)
    Sign()(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 0.0]
    w = torch.tensor([-1.5, 0.5], requires_grad=True)
    (binarize_weights(w) * torch.tensor([2.0, 3.0])).sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [2.0, 3.0]


def test_same_seed_same_network() -> None:
    one, two, other = (binary_mlp((9, 5, 2), seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["dense1.weight"], other["dense1.weight"])
