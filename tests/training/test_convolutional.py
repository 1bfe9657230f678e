"""Binary convolutions: exact sums, and packed networks that equal torch bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from random_modules import norm, pixels_of, random_cnn
from torch import nn

from cosim.errors import InputError
from cosim.hdf5 import content_hash, read
from cosim.network.files import FILETYPE, load_network, save_network
from cosim.network.inference import forward, trace
from cosim.network.layers import Network, Support
from cosim.training.binary import BinaryLinear, ClassAffine, Sign
from cosim.training.convolutional import BinaryConv2d
from cosim.training.described import binary_network
from cosim.training.packed import export, groups
from cosim.training.recipe import Convolution, TrainingRecipe
from cosim.training.unpacked import to_torch


def assert_equals_torch(network: Network, module: nn.Sequential, images: np.ndarray) -> None:
    """Every layer's binary outputs and the logits; the tolerance is zero."""
    ours = trace(network, images, mode="ideal")
    ends = [max(position for position, _ in part) for part in _parts(module)]
    values, seen = pixels_of(images, network.image_shape), []
    with torch.no_grad():
        for position, child in enumerate(module.children()):
            values = child(values)
            if position in ends:
                seen.append(values.numpy())
    assert len(seen) == len(ours)
    for theirs, layer in zip(seen[:-1], ours[:-1], strict=True):
        assert layer.signs is not None
        assert np.array_equal(layer.signs, theirs)
    logits = forward(network, images, mode="ideal")
    assert np.array_equal(logits.view(np.uint32), seen[-1].view(np.uint32))


def _parts(module: nn.Sequential) -> list[list[tuple[int, nn.Module]]]:
    """The children of each layer with their positions."""
    parts: list[list[tuple[int, nn.Module]]] = []
    for position, child in enumerate(module.children()):
        if isinstance(child, BinaryConv2d | BinaryLinear):
            parts.append([])
        if not isinstance(child, nn.Flatten):
            parts[-1].append((position, child))
    return parts


def random_images(seed: int, shape: tuple[int, ...], count: int = 9) -> np.ndarray:
    """Images of all brightnesses, the first black and the second white."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    images[0], images[1] = 0, 255
    return images


@pytest.mark.parametrize("pad_value", [-1, 0, 1])
@pytest.mark.parametrize("seed", range(8))
def test_random_networks_equal_torch_there_and_back(seed: int, pad_value: int) -> None:
    module, shape = random_cnn(seed, pad_value=pad_value)
    network = export(module, name="odd", image_shape=shape)
    images = random_images(seed, shape)
    assert_equals_torch(network, module, images)
    assert_equals_torch(network, to_torch(network), images)


def test_random_networks_cover_every_option() -> None:
    found = [groups(random_cnn(seed)[0]) for seed in range(24)]
    convs = [g.weights for each in found for g in each if isinstance(g.weights, BinaryConv2d)]
    assert {conv.pad_value for conv in convs if any(conv.padding)} == {-1, 0, 1}
    assert {conv.stride for conv in convs} == {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert {g.pool_of for each in found for g in each if g.pool} == {"sums", "outputs"}
    assert any(conv.weight.shape[1] % 2 and conv.weight.shape[1] > 3 for conv in convs)


def test_torch_and_back_is_the_same_file(tmp_path: Path) -> None:
    module, shape = random_cnn(5)
    save_network(export(module, name="odd", image_shape=shape), tmp_path / "one.h5")
    stored = load_network(tmp_path / "one.h5")
    save_network(export(to_torch(stored), name="odd", image_shape=shape), tmp_path / "two.h5")
    hashes = {content_hash(read(path, filetype=FILETYPE, major=1)) for path in tmp_path.iterdir()}
    assert len(hashes) == 1


def test_options_that_torch_cannot_have_are_refused() -> None:
    module, shape = random_cnn(5)
    network = export(module, name="odd", image_shape=shape)
    layers = network.layers
    inputs = layers[-1].in_features
    support = Support(inputs, np.ones((1, 3), np.int32), 0)
    supported = replace(network, layers=(*layers[:-1], replace(layers[-1], support=support)))
    with pytest.raises(InputError, match=r"odd: layer 'dense2' has options without a torch module: support"):
        to_torch(supported)
    without = replace(network, layers=(replace(layers[0], batch_norm=None), *layers[1:]))
    with pytest.raises(InputError, match="'conv1' has no batch norm to rebuild"):
        to_torch(without)


def test_a_threshold_on_pixels_goes_to_torch_and_back() -> None:
    module, shape = random_cnn(5)
    with torch.no_grad():
        next(each for each in module if isinstance(each, nn.BatchNorm2d)).running_mean.div_(
            100
        )  # In the reach of sums of signs, not of pixels.
    network = export(module, name="odd", image_shape=shape)
    first = replace(network.layers[0], input="binary")
    binary = replace(network, layers=(first, *network.layers[1:]), pixel_threshold=128)
    images = random_images(5, shape)
    with torch.no_grad():
        theirs = to_torch(binary)(pixels_of(images, shape)).numpy()
    assert np.array_equal(forward(binary, images, mode="ideal"), theirs)
    again = export(to_torch(binary), name="odd", image_shape=shape)
    assert (again.pixel_threshold, again.layers[0].input) == (128, "binary")
    assert np.array_equal(again.layers[0].packed, first.packed)


@pytest.mark.parametrize("pad_value", [-1, 0, 1])
def test_sums_are_exact_with_every_padding(pad_value: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(37, 65, 3, 3, generator=generator) * 2 - 1
    x = torch.where(torch.rand(20, 65, 7, 6, generator=generator) < 0.5, -1.0, 1.0)
    conv = BinaryConv2d(weight, padding=(1, 2), pad_value=pad_value)
    signs = torch.where(weight >= 0, 1, -1).to(torch.float64)
    padded = nn.functional.pad(x.double(), (2, 2, 1, 1), value=float(pad_value))
    exact = nn.functional.conv2d(padded, signs)
    for training in (False, True):
        with torch.no_grad():
            assert torch.equal(conv.train(training)(x).double(), exact)


def test_gradients_pass_straight_through_in_both_modes() -> None:
    weight = torch.tensor([[[[0.5, -0.5]]]])
    for training in (False, True):
        conv = BinaryConv2d(weight.clone()).train(training)
        x = torch.tensor([[[[2.0, 3.0]]]], requires_grad=True)
        conv(x).sum().backward()
        assert conv.weight.grad is not None
        assert x.grad is not None
        assert conv.weight.grad.tolist() == [[[[2.0, 3.0]]]]
        assert x.grad.tolist() == [[[[1.0, -1.0]]]]


def test_a_recipe_gives_the_network_it_describes() -> None:
    convolution = (
        Convolution(16, pool=2),
        Convolution(24, kernel=5, stride=2, padding=2, pad_value=-1, pool=2, pool_of="outputs"),
    )
    recipe = TrainingRecipe("tiny", "cifar10", (40,), 1, 8, 0.01, 0, width=0.5, convolution=convolution)
    module = binary_network(recipe, (32, 32, 3), 10).eval()
    kinds = [type(child).__name__ for child in module.children()]
    norm_sign = ["BatchNorm2d", "Sign"]
    assert kinds[:8] == ["BinaryConv2d", "MaxPool2d", *norm_sign, "BinaryConv2d", *norm_sign, "MaxPool2d"]
    network = export(module, name="tiny", image_shape=(32, 32, 3))
    assert [layer.name for layer in network.layers] == ["conv1", "conv2", "dense1", "dense2"]
    assert [layer.out_shape for layer in network.layers] == [(8, 16, 16), (12, 4, 4), (20, 1, 1), (10, 1, 1)]
    assert_equals_torch(network, module, random_images(0, (32, 32, 3), 3))
    again = binary_network(recipe, (32, 32, 3), 10).state_dict()
    assert all(torch.equal(again[key], value) for key, value in module.state_dict().items())


def test_a_pooling_larger_than_the_map_names_its_convolution() -> None:
    recipe = TrainingRecipe(
        "tiny", "mnist", (40,), 1, 8, 0.01, 0, convolution=(Convolution(4, pool=7), Convolution(4, pool=5))
    )
    with pytest.raises(InputError, match=r"convolution 2: a kernel of \(5, 5\) is larger than the map"):
        binary_network(recipe, (28, 28), 10)


CONV = BinaryConv2d(torch.ones(4, 1, 3, 3))
HEAD = [nn.Flatten(), BinaryLinear(torch.ones(3, 4 * 16)), ClassAffine(torch.ones(3), torch.ones(3))]
NORM = norm(torch.Generator().manual_seed(0), 4, 9, 2)


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ([CONV, nn.ReLU(), Sign()], "module 0: a layer must be.*got"),
        ([CONV, NORM, nn.AvgPool2d(2), Sign()], "module 0: a layer must be"),
        ([CONV, nn.MaxPool2d(1), NORM, Sign(), nn.MaxPool2d(1)], "module 0: a layer must be"),
        ([CONV, nn.MaxPool2d(2, ceil_mode=True), NORM, Sign()], "module 0: MaxPool2d must have dilation 1"),
        ([CONV, nn.BatchNorm2d(5), Sign()], "module 0: batch norm is of 5 columns, the weights have 4"),
        ([BinaryConv2d(torch.ones(4, 2, 3, 3)), NORM, Sign()], "module 0: the convolution takes 2 channels.*has 1"),
        ([BinaryConv2d(torch.ones(4, 1, 7, 3)), NORM, Sign()], "module 0: a kernel of .* is larger than the map"),
        (
            [BinaryConv2d(torch.ones(4, 1, 3, 3), padding=(1, 1), pad_value=1), NORM, Sign()],
            "layer conv1: pixels are padded with 0",
        ),
        ([BinaryConv2d(torch.full((4, 1, 3, 3), torch.nan)), NORM, Sign()], "module 0: weight has values.*not finite"),
    ],
)
def test_what_cannot_be_packed_names_the_module(modules: list[nn.Module], said: str) -> None:
    with pytest.raises(InputError, match=said):
        export(nn.Sequential(*modules, *HEAD), name="wrong", image_shape=(6, 6))
