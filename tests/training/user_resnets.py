"""Residual networks as users write them: modules whose forward adds shortcuts."""

from __future__ import annotations

from typing import Any

import torch
from random_modules import norm
from torch import Tensor, nn

from cosim.training.binary import signs
from cosim.training.levels import Levels


class UserSign(torch.autograd.Function):
    """sign with a straight-through gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Signs, 0 at 0."""
        return torch.sign(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        """The identity."""
        return grad_outputs[0]


class Binarize(nn.Module):
    """A sign module of a user's own."""

    def forward(self, x: Tensor) -> Tensor:
        """Signs, 0 at 0."""
        return UserSign.apply(x)


class BinaryConv(nn.Conv2d):
    """Binarizes inputs and weights in its forward, with a factor a column."""

    def forward(self, input: Tensor) -> Tensor:
        """Sums times a factor a column."""
        scale = self.weight.abs().mean((1, 2, 3), keepdim=True)
        return self._conv_forward(signs(input), signs(self.weight) * scale, self.bias)


class BasicBlock(nn.Module):
    """Sign before each convolution, batch norm, a shortcut around each (Bi-Real) or both (ResNet), hard tanh.

    Args:
        bits: Of an activation.
        both: One shortcut around both convolutions.
        down: "real" or "binary" weights of a shortcut that changes the map.
    """

    def __init__(self, generator: torch.Generator, channels: int, columns: int, stride: int, **about: Any) -> None:
        super().__init__()
        self.both, bits, down = about.get("both", False), about.get("bits", 1), about.get("down", "real")
        self.sign = Binarize() if bits == 1 else Levels(bits)
        conv = about.get("conv", nn.Conv2d)
        self.conv1 = conv(channels, columns, 3, stride, 1, bias=False)
        self.bn1 = norm(generator, columns, channels * 9 * 4**bits // 4, 2)
        self.conv2 = conv(columns, columns, 3, 1, 1, bias=False)
        self.bn2 = norm(generator, columns, columns * 9 * 4**bits // 4, 2)
        self.tanh = nn.Hardtanh(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or channels != columns:
            one, after = nn.Conv2d(channels, columns, 1, stride), norm(generator, columns, channels, 2)
            self.downsample = nn.Sequential(*([self.sign] if down == "binary" else []), one, after)

    def forward(self, x: Tensor) -> Tensor:
        """The stream after the block."""
        out = self.bn1(self.conv1(self.sign(x)))
        if not self.both:
            out += self.downsample(x)
        out = self.tanh(out)
        stream = self.downsample(x) if self.both else out
        out = self.bn2(self.conv2(self.sign(out)))
        return self.tanh(out + stream)


class ResNet(nn.Module):
    """A stem and a last layer of real weights, and blocks; for images of 8 x 8 pixels."""

    def __init__(self, seed: int = 0, channels: int = 1, **about: Any) -> None:
        super().__init__()
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        self.conv1 = nn.Conv2d(channels, 9, 3, padding=1, bias=False)
        self.bn1 = norm(generator, 9, 9, 2, 255.0)
        self.tanh = nn.Hardtanh()
        self.layer1 = nn.Sequential(BasicBlock(generator, 9, 9, 1, **about))
        self.layer2 = nn.Sequential(BasicBlock(generator, 9, 14, 2, **about), BasicBlock(generator, 14, 14, 1, **about))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(14, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.tanh(self.bn1(self.conv1(x)))
        x = self.pool(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(x, 1))


REAL = ("conv1", "fc", "layer2.0.downsample.0")
"""Layers of real weights."""


def user_resnet(seed: int = 0, **about: Any) -> ResNet:
    """A network in eval mode whose binary layers have weights of +-1, so that it is a binary network as it stands."""
    model = ResNet(seed, **about).eval()
    down = about.get("down", "real")
    with torch.no_grad():
        for name, module in model.named_modules():
            if type(module) is nn.Conv2d and (name not in REAL or (down == "binary" and "downsample" in name)):
                module.weight.copy_(signs(module.weight))
            if isinstance(module, nn.BatchNorm2d):
                module.bias.add_(0.1234)  # No norm gives exactly 0, of which the user's sign makes 0 and ours +1.
    return model
