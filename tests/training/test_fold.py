"""Batch norm and sign as an integer rule: equal to torch for every sum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cosim.errors import InputError
from cosim.training.fold import fold

REACH = 1500


def random_norm(columns: int, seed: int) -> nn.BatchNorm1d:
    """Batch norm with random statistics, a third of its gammas negative and some zero."""
    generator = torch.Generator().manual_seed(seed)
    norm = nn.BatchNorm1d(columns)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(columns, generator=generator))
        norm.weight[:8] = torch.tensor([0.0, 0.0, 0.0, -0.0, 1e-30, -1e-30, 1.0, -1.0])
        norm.bias.copy_(torch.randn(columns, generator=generator))
        norm.bias[:8] = torch.tensor([1.0, -1.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0])
        norm.running_mean.copy_(torch.randn(columns, generator=generator) * 100)
        norm.running_var.copy_(torch.rand(columns, generator=generator) * 1000)
        # Ties: the mean is an integer and beta is 0, so the output at the mean is exactly 0.
        norm.running_mean[6:8] = 17.0
    return norm.eval()


@pytest.mark.parametrize("columns", [37, 128])
@pytest.mark.parametrize("images", [1, 7, 3001])
def test_equals_torch_for_every_integer_in_any_batch(columns: int, images: int) -> None:
    norm = random_norm(columns, seed=columns)
    rule = fold(norm, REACH)
    sums = np.arange(-REACH, REACH + 1)
    ours = rule.direction[None].astype(int) * sums[:, None] >= rule.direction.astype(int) * rule.value
    with torch.no_grad():
        column = torch.arange(-REACH, REACH + 1, dtype=torch.float32).unsqueeze(1).repeat(1, columns)
        theirs = torch.cat([norm(part) for part in column.split(images)]) >= 0
    assert np.array_equal(ours, theirs.numpy())
    assert {-1, 0, 1} == set(rule.direction.tolist())


def test_constant_columns() -> None:
    rule = fold(random_norm(37, seed=1), REACH)
    assert rule.direction[0] == 0, "gamma 0, beta 1 is always +1"
    assert (rule.direction[1], rule.value[1]) == (1, REACH + 1), "gamma 0, beta -1 is always -1"
    assert rule.direction[2] == 0, "gamma 0, beta 0 is always +1, because sign(0) is +1"
    assert (rule.value[6], rule.value[7]) == (17, 17), "ties at the mean belong to +1 on both sides"


def test_pixel_range_and_training_mode_is_kept() -> None:
    norm = random_norm(20, seed=5).train()
    with torch.no_grad():
        norm.running_mean.mul_(500)
    reach = 255 * 784
    rule = fold(norm, reach)
    assert norm.training
    sums = torch.arange(-reach, reach + 1, 7, dtype=torch.float32)
    with torch.no_grad():
        theirs = norm.eval()(sums.unsqueeze(1).repeat(1, 20)) >= 0
    ours = rule.direction[None].astype(int) * sums.numpy()[:, None] >= rule.direction.astype(int) * rule.value
    assert np.array_equal(ours, theirs.numpy())


def test_wrong_norms_are_refused() -> None:
    norm = random_norm(37, seed=1)
    with pytest.raises(InputError, match="sums must stay within"):
        fold(norm, 2**24)
    with pytest.raises(InputError, match="running statistics"):
        fold(nn.BatchNorm1d(4, track_running_stats=False), 10)
    with torch.no_grad():
        norm.bias[3] = float("nan")
    with pytest.raises(InputError, match="bias has values that are not finite"):
        fold(norm, REACH)
