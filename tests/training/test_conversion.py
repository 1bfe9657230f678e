"""A user's own models: what is converted, what is said about it, what is refused."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from random_modules import norm, pixels_of
from torch import Tensor, nn
from user_resnets import Binarize

from cosim.errors import InputError
from cosim.network.inference import forward
from cosim.training import convert, export, list_convertible
from cosim.training.binary import BinaryLinear, signs


class XnorConv(nn.Conv2d):
    """Signs of the weights times their mean magnitude, as in XNOR-Net."""

    def forward(self, input: Tensor) -> Tensor:
        """Sums times a factor a column."""
        scale = self.weight.abs().mean((1, 2, 3), keepdim=True)
        return self._conv_forward(input, torch.sign(self.weight) * scale, self.bias)


class InputBinarizing(nn.Linear):
    """Takes the signs of inputs and weights in its forward."""

    def forward(self, input: Tensor) -> Tensor:
        """Sums of signs."""
        return nn.functional.linear(signs(input), signs(self.weight), self.bias)


class UserNet(nn.Module):
    """Attributes, a nested Sequential, functions in the forward, a sign called twice."""

    def __init__(self) -> None:
        """The modules; `unused` is never called."""
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.conv1 = nn.Conv2d(1, 13, 3, padding="same")
        self.body = nn.Sequential(nn.MaxPool2d(2), norm(generator, 13, 9, 2, 255.0), nn.Hardtanh())
        self.sign = Binarize()
        self.conv2 = XnorConv(13, 19, 3, stride=2, padding=1)
        self.norm2 = norm(generator, 19, 13, 2)
        self.drop = nn.Dropout(0.5)
        self.fc1 = InputBinarizing(19 * 16, 33)
        self.norm3 = norm(generator, 33, 19 * 16, 1)
        self.fc2 = nn.Linear(33, 10)
        self.norm4 = norm(generator, 10, 33, 1)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities are left to the loss."""
        x = self.sign(self.body(self.conv1(x)))
        x = self.norm2(self.conv2(x))
        x = self.sign(x)
        x = x.view(x.size(0), -1)
        x = self.fc1(self.drop(x))
        x = torch.sign(torch.tanh(self.norm3(x)))
        return self.norm4(self.fc2(x))


def user_net() -> UserNet:
    """The network in eval mode, all real weights of plain layers made signs, so that it is a binary network."""
    torch.manual_seed(0)
    model = UserNet().eval()
    with torch.no_grad():
        for layer in (model.conv1, model.fc2):
            layer.weight.copy_(signs(layer.weight))
        for each in (model.body[1], model.norm2, model.norm3):
            each.bias.add_(0.1234)  # No norm gives exactly 0, of which the user's sign makes 0 and ours +1.
    return model


def random_images(count: int = 40, size: int = 16) -> np.ndarray:
    """Grey images."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size), dtype=np.uint8)


def test_a_users_model_keeps_what_it_computes_and_packs_bit_for_bit() -> None:
    model, images = user_net(), random_images()
    before = copy.deepcopy(model.state_dict())
    converted = convert(model)
    network = export(converted, name="user", image_shape=(16, 16))
    x = pixels_of(images, (16, 16))
    with torch.no_grad():
        theirs, ours = model(x), converted(x)
    assert np.array_equal(forward(network, images, mode="ideal").view(np.uint32), ours.numpy().view(np.uint32))
    # The last norm is one product and one sum here and two and two there: a few units in the last place of float32.
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert [layer.name for layer in network.layers] == ["conv1", "conv2", "fc1", "fc2"]


def test_every_module_has_its_line() -> None:
    lines = list_convertible(user_net())
    assert [(line.module, line.action) for line in lines] == [
        ("conv1", "simulated"),
        ("body.0", "simulated"),
        ("body.1", "simulated"),
        ("body.2", "simulated"),
        ("sign", "simulated"),
        ("conv2", "simulated"),
        ("norm2", "simulated"),
        ("sign", "simulated"),
        ("view", "kept"),
        ("drop", "kept"),
        ("fc1", "simulated"),
        ("norm3", "simulated"),
        ("tanh", "simulated"),
        ("sign_2", "simulated"),
        ("fc2", "simulated"),
        ("norm4", "simulated"),
        ("unused", "left out"),
    ]
    said = {line.module: str(line) for line in lines}
    assert "digital, on pixels 0..255" in said["conv1"]
    assert said["sign"].endswith("its 0 at 0 becomes +1")
    assert "its forward binarizes its weights" in said["conv2"]
    assert "takes up bias and factor of conv2" in said["norm2"]


def test_the_result_trains() -> None:
    converted = convert(user_net()).train()
    x, labels = pixels_of(random_images(), (16, 16)), torch.arange(40) % 10
    optimizer = torch.optim.Adam(converted.parameters(), lr=0.01)
    losses = []
    for _ in range(15):
        loss = nn.functional.cross_entropy(converted(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_a_layer_without_norm_keeps_its_bias_and_a_real_one_becomes_its_signs() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 9), Binarize(), nn.Linear(9, 3))
    with torch.no_grad():
        model[1].weight.copy_(signs(model[1].weight) * 0.5)
        model[3].weight.copy_(signs(model[3].weight) * torch.tensor([[0.5], [0.25], [2.0]]))
        model[1].bias.mul_(1000)
    converted, images = convert(model), random_images(50, 4)
    with torch.no_grad():
        assert torch.equal(converted(pixels_of(images, (4, 4))), model(pixels_of(images, (4, 4))))
        model[1].weight[0, 0] = 0.0
    assert "the signs of its real weights, 1 of them 0" in str(list_convertible(model)[1])


def test_a_model_of_scaled_pixels_keeps_what_it_computes() -> None:
    model, images = user_net(), random_images()
    x = pixels_of(images, (16, 16))
    with torch.no_grad():
        model.body[1].running_mean.div_(255)
        model.body[1].running_var.div_(255**2)
        theirs = model(x / 255)
        assert torch.allclose(convert(model, pixel_scale=1 / 255)(x), theirs, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(convert(model)(x), theirs, rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="pixel_scale must be positive"):
        convert(model, pixel_scale=0.0)
    with pytest.raises(InputError, match=r"module conv1 \(Conv2d\): a first layer in floating point"):
        convert(model, exclude=("conv1",), pixel_scale=1 / 255)


def test_excluded_modules_stay_and_are_not_packed() -> None:
    model = user_net()
    converted = convert(model, exclude=("conv1", "body", "fc2"))
    assert type(converted.conv1) is nn.Conv2d
    assert type(converted.fc2) is nn.Linear
    images = pixels_of(random_images(), (16, 16))
    with torch.no_grad():
        assert torch.allclose(converted(images), model(images), rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="module conv1: a layer must be"):
        export(converted, name="user", image_shape=(16, 16))
    with pytest.raises(InputError, match=r"no module 'fc22' \(did you mean 'fc2'\?\)"):
        convert(model, exclude=("fc22",))


def _with(**changes: nn.Module) -> UserNet:
    model = user_net()
    for name, module in changes.items():
        setattr(model, name, module)
    return model


class Shortcut(UserNet):
    """A shortcut around a module."""

    def forward(self, x: Tensor) -> Tensor:
        """A sum of two outputs."""
        x = self.conv1(x)
        return x + self.sign(x)


class Branching(UserNet):
    """A forward that torch.fx cannot follow."""

    def forward(self, x: Tensor) -> Tensor:
        """Looks at values."""
        return self.conv1(x) if x.sum() > 0 else x


def _nan() -> UserNet:
    model = user_net()
    with torch.no_grad():
        model.conv2.weight[0, 0, 0, 0] = torch.nan
    return model


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (_nan(), r"module conv2 \(XnorConv\): its weight has values that are not finite"),
        (_with(sign=nn.ReLU()), r"module sign \(ReLU\): it has no simulation"),
        (_with(conv2=XnorConv(12, 19, 3)), r"module conv2 \(XnorConv\): it takes 12 channels, 13 come"),
        (_with(norm2=nn.BatchNorm2d(18)), r"module norm2 \(BatchNorm2d\): it takes 18 columns, 19 come"),
        (_with(norm2=nn.BatchNorm1d(19)), r"module norm2 \(BatchNorm1d\): .*BatchNorm2d after a convolution"),
        (_with(norm2=nn.BatchNorm2d(19, track_running_stats=False)), r"module norm2 .*: it has no running statistics"),
        (_with(conv1=nn.Conv2d(1, 13, 3, dilation=2)), r"module conv1 \(Conv2d\): .*dilation 1"),
        (_with(conv1=nn.Conv2d(1, 13, 3, padding=3)), r"module conv1 \(Conv2d\): padding must be smaller"),
        (_with(fc1=nn.Linear(304, 33), sign=nn.Identity()), r"module conv2 \(XnorConv\): its input is not \+1 and -1"),
        (_with(drop=nn.AvgPool2d(2)), r"module drop \(AvgPool2d\): a pooling needs a map"),
        (_with(body=nn.Sequential(nn.Hardtanh(0, 6))), r"module body.0 \(Hardtanh\): .*changes signs"),
        (_with(norm4=nn.Sequential(nn.BatchNorm1d(10), Binarize())), "the last layer must give real numbers"),
        (_with(fc2=BinaryLinear(torch.ones(10, 32))), r"module fc2 \(BinaryLinear\): it takes 32 inputs, 33 come"),
        (Shortcut(), r"module add \(add\): an addition is of the result of a batch norm, which nothing else takes"),
        (Branching(), "model Branching: the forward cannot be traced"),
        (nn.Sequential(nn.LSTM(3, 4)), r"module 0 \(LSTM\): it has no simulation"),
    ],
)
def test_what_cannot_be_simulated_is_refused_by_name(model: nn.Module, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        convert(model)
    assert "\n" not in str(caught.value)
