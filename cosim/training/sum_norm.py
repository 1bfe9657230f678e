"""Batch norms of sums that were read: in eval mode what they are cut into is what the packed network's thresholds say.

Packed, a batch norm and a sign are one comparison. Its threshold is where the batch norm of whole sums changes its
sign as torch's float32 arithmetic computes it, and between two whole sums the exact zero of the batch norm (see
`cosim.network.fixed_point`). torch's own batch norm may round a fractional sum that is close to the zero to the other
side, in about one column of a thousand. Outputs of several bits have a threshold at each of their levels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from cosim.network.levels import level_steps


class SumNorm1d(nn.BatchNorm1d):
    """`nn.BatchNorm1d` whose sign, or levels, in eval mode are those of the packed thresholds, for fractional sums too.

    Sums may be of float64, the result is of float32. `bits` are those of what its values are cut into.
    """

    bits = 1

    def forward(self, input: Float[Tensor, "image column"]) -> Float[Tensor, "image column"]:
        """The batch norm; see the module."""
        if self.training:
            return super().forward(input.float())
        return _decided(self, super().forward, input, self.bits)


class SumNorm2d(nn.BatchNorm2d):
    """`SumNorm1d` for maps."""

    bits = 1

    def forward(self, input: Float[Tensor, "image column row place"]) -> Float[Tensor, "image column row place"]:
        """The batch norm; see the module."""
        if self.training:
            return super().forward(input.float())
        return _decided(self, super().forward, input, self.bits)


def sum_norm(norm: nn.BatchNorm1d | nn.BatchNorm2d, bits: int = 1) -> SumNorm1d | SumNorm2d:
    """The same batch norm for sums that are read, and then cut into levels of so many bits."""
    kind = SumNorm2d if isinstance(norm, nn.BatchNorm2d) else SumNorm1d
    twin = kind(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    twin.load_state_dict(norm.state_dict())
    twin.bits = bits
    return twin.train(norm.training)


def plain_norm(norm: nn.Module | None) -> nn.Module | None:
    """torch's own batch norm in the place of one of sums that are read; any other module as it is."""
    if not isinstance(norm, SumNorm1d | SumNorm2d):
        return norm
    kind = nn.BatchNorm2d if isinstance(norm, nn.BatchNorm2d) else nn.BatchNorm1d
    twin = kind(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    twin.load_state_dict(norm.state_dict())
    return twin.train(norm.training)


def _decided(
    norm: nn.BatchNorm1d | nn.BatchNorm2d, plain: Callable[[Tensor], Tensor], sums: Tensor, bits: int
) -> Float32[Tensor, "*sums"]:
    """The batch norm's values, those on the wrong side of a step moved to the nearest on the right one."""
    values = plain(sums.float())
    steps = torch.from_numpy(level_steps(bits)).to(values)
    with torch.no_grad():
        low, high = plain(sums.floor().float()), plain(sums.ceil().float())
        level = torch.zeros_like(values, dtype=torch.int64)
        for step in steps:
            below, above = low >= step, high >= step
            level += torch.where(below == above, below, _reaches(norm, sums, float(step)))
        edge = steps.new_full((1,), torch.inf)
        lowest, beyond = torch.cat([-edge, steps]), torch.cat([steps, edge])
        highest = torch.where(beyond == 0, -torch.finfo(steps.dtype).tiny, torch.nextafter(beyond, -edge))
        right = torch.minimum(torch.maximum(values, lowest[level]), highest[level])
    return values - values.detach() + right


def _reaches(norm: nn.BatchNorm1d | nn.BatchNorm2d, sums: Tensor, step: float) -> Bool[Tensor, "*sums"]:
    """Whether the batch norm is at least a step in exact arithmetic: on which side of it a sum lies, in float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    shape = (1, -1) + (1,) * (sums.ndim - 2)
    gamma, beta, mean, variance = (
        each.double().view(shape) for each in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    safe = torch.where(gamma == 0, 1.0, gamma)
    place = mean + (step - beta) * torch.sqrt(variance + norm.eps) / safe
    return (sums.double() - place) * gamma >= 0
