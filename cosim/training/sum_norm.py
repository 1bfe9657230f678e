"""Batch norms of sums that were read: in eval mode their sign is that of the packed network's threshold.

Packed, a batch norm and a sign are one comparison. Its threshold is where the batch norm of whole sums changes its
sign as torch's float32 arithmetic computes it, and between two whole sums the exact zero of the batch norm (see
`cosim.network.fixed_point`). torch's own batch norm may round a fractional sum that is close to the zero to the other
side, in about one column of a thousand.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

_TINY = float(torch.finfo(torch.float32).tiny)


class SumNorm1d(nn.BatchNorm1d):
    """`nn.BatchNorm1d` whose sign in eval mode is that of the packed threshold, for fractional sums too."""

    def forward(self, input: Float[Tensor, "image column"]) -> Float[Tensor, "image column"]:
        """The batch norm; see the module."""
        return super().forward(input) if self.training else _decided(self, super().forward, input)


class SumNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose sign in eval mode is that of the packed threshold, for fractional sums too."""

    def forward(self, input: Float[Tensor, "image column row place"]) -> Float[Tensor, "image column row place"]:
        """The batch norm; see the module."""
        return super().forward(input) if self.training else _decided(self, super().forward, input)


def sum_norm(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> SumNorm1d | SumNorm2d:
    """The same batch norm for sums that are read."""
    kind = SumNorm2d if isinstance(norm, nn.BatchNorm2d) else SumNorm1d
    twin = kind(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    twin.load_state_dict(norm.state_dict())
    return twin.train(norm.training)


def _decided(norm: nn.BatchNorm1d | nn.BatchNorm2d, plain: Callable[[Tensor], Tensor], sums: Tensor) -> Tensor:
    """The batch norm's values, those on the wrong side of 0 moved to its nearest value on the right one."""
    values = plain(sums)
    with torch.no_grad():
        low, high = plain(sums.floor()) >= 0, plain(sums.ceil()) >= 0
        on = torch.where(low == high, low, _exactly_on(norm, sums))
        right = torch.where(on, values.clamp(min=0.0), values.clamp(max=-_TINY))
    return values - values.detach() + right


def _exactly_on(norm: nn.BatchNorm1d | nn.BatchNorm2d, sums: Tensor) -> Tensor:
    """Whether the batch norm is at least 0 in exact arithmetic: on which side of its zero a sum lies, in float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    shape = (1, -1) + (1,) * (sums.ndim - 2)
    gamma, beta, mean, variance = (
        each.double().view(shape) for each in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    safe = torch.where(gamma == 0, 1.0, gamma)
    zero = mean - beta * torch.sqrt(variance + norm.eps) / safe
    return (sums.double() - zero) * gamma >= 0
