"""`convert` takes a mean over the map for the global average that it is, and no other mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from user_resnets import REAL, ResNet, user_resnet

from cosim.errors import InputError
from cosim.training import convert, list_convertible

X = torch.randint(0, 256, (16, 1, 8, 8), generator=torch.Generator().manual_seed(0)).float()


def _by_place(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def _by_name(x: Tensor) -> Tensor:
    return torch.mean(x, dim=[3, 2])


def _flattened(x: Tensor) -> Tensor:
    return torch.flatten(x.mean((-2, -1), keepdim=True), 1)


@pytest.mark.parametrize("average", [_by_place, _by_name, _flattened])
def test_a_mean_over_the_map_is_a_global_average(average: Callable[[Tensor], Tensor]) -> None:
    """In a network with shortcuts and in a chain, as if the forward called torch's pooling."""

    class Averaged(ResNet):
        def forward(self, x: Tensor) -> Tensor:
            return self.fc(average(self.layer2(self.layer1(self.tanh(self.bn1(self.conv1(x)))))))

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.tanh, self.fc = model.conv1, model.bn1, nn.Hardtanh(), nn.Linear(9, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(average(self.tanh(self.norm(self.conv(x)))))

    model = user_resnet()
    theirs = convert(model, real=REAL)(X)
    model.__class__ = Averaged
    assert torch.equal(convert(model, real=REAL)(X), theirs)
    flattens = [line.module for line in list_convertible(model, real=REAL) if line.kind == "flatten"]
    assert flattens == (["flatten"] if average is _flattened else ["mean_as_columns"])  # With keepdim only its own.
    chain = Chain().eval()
    pooled = nn.Sequential(chain.conv, chain.norm, chain.tanh, nn.AdaptiveAvgPool2d(1), nn.Flatten(), chain.fc)
    assert torch.equal(convert(chain, real=["conv", "fc"])(X), convert(pooled, real=["0", "5"])(X))


@pytest.mark.parametrize("dim", [1, 2, (1, 2), (1, 2, 3), None])
def test_other_means_are_refused(dim: Any) -> None:
    class Averaged(ResNet):
        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.tanh(self.conv1(x)).mean(dim))

    with pytest.raises(InputError, match="the function mean in a forward has no simulation"):
        convert(Averaged().eval(), real=REAL)


@torch.fx.wrap
def mean(x: Tensor, dim: tuple[int, ...]) -> Tensor:
    """A user's own function of that name."""
    return x.amax(dim)


def test_a_users_own_mean_is_none() -> None:
    class Own(ResNet):
        def forward(self, x: Tensor) -> Tensor:
            return self.fc(mean(self.tanh(self.conv1(x)), (2, 3)))

    with pytest.raises(InputError, match="the function mean in a forward has no simulation"):
        convert(Own().eval(), real=REAL)
