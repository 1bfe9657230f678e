"""Real weights, real streams, averages and shortcuts: packed networks equal their torch modules bit for bit."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_modules import norm, pixels_of, random_graph
from torch import Tensor, nn

from cosim.datasets import Images
from cosim.errors import InputError
from cosim.hdf5 import content_hash, read
from cosim.network.files import FILETYPE, load_network, save_network
from cosim.network.inference import evaluate, forward, trace
from cosim.network.layers import Network, Residual
from cosim.resources import find
from cosim.training import convert, export, list_convertible, load_recipe, to_torch, train
from cosim.training.binary import BinaryLinear, ClassAffine, Sign
from cosim.training.convolutional import BinaryConv2d
from cosim.training.described import binary_network
from cosim.training.graph import Graph, GraphLayer
from cosim.training.real import AffineNorm2d, GlobalAverage, RealConv2d, RealLinear, convolve, input_scales
from cosim.training.recipe import Block, Convolution, TrainingRecipe, check_recipe


def images_of(shape: tuple[int, ...], count: int = 5) -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    images[0], images[1] = 0, 255
    return images


def assert_same_bits(network: Network, module: nn.Module, images: np.ndarray) -> None:
    """Logits; the tolerance is zero."""
    with torch.no_grad():
        theirs = module(pixels_of(images, network.image_shape)).numpy()
    ours = forward(network, images, mode="ideal")
    np.testing.assert_array_equal(ours.view(np.uint32), theirs.view(np.uint32))


def assert_same_layers(network: Network, module: Graph, images: np.ndarray) -> None:
    """What every layer gives, real outputs to the bit, and the logits."""
    with torch.no_grad():
        theirs = module.outputs(pixels_of(images, network.image_shape))
    for got, wanted, layer in zip(trace(network, images, mode="ideal"), theirs, network.layers, strict=True):
        ours = got.signs if got.reals is None else got.reals
        if ours is not None:
            np.testing.assert_array_equal(ours, wanted.numpy(), err_msg=layer.name)
    assert_same_bits(network, module, images)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32))
def test_random_graphs_equal_torch_there_and_back(seed: int) -> None:
    module, shape = random_graph(seed)
    network = export(module, name="odd", image_shape=shape)
    images = images_of(shape)
    assert_same_layers(network, module, images)
    again = to_torch(network)
    assert_same_bits(network, again, images)
    assert_same_bits(export(again, name="odd", image_shape=shape), again, images)


def test_random_graphs_cover_every_option() -> None:
    layers = [layer for seed in range(60) for layer in random_graph(seed)[0].graph_layers]
    assert {layer.input for layer in layers} == {"binary", "on_off", "real"}
    for type_ in (nn.MaxPool2d, nn.AvgPool2d, GlobalAverage):
        assert {layer.pool_of for layer in layers if type(layer.pool) is type_} >= {"outputs"}
    assert {type(layer.weights) for layer in layers} == {BinaryConv2d, BinaryLinear, RealConv2d, RealLinear}
    for has in ("shortcut", "source", "hard_tanh", "scale_inputs"):
        assert any(getattr(layer, has) for layer in layers)
    for has in ("activation_bits", "output_bits"):
        assert {getattr(layer, has) for layer in layers} == {1, 2, 3, 4}


def test_files_keep_graphs(tmp_path: Path) -> None:
    for seed in range(6):
        module, shape = random_graph(seed)
        save_network(export(module, name="odd", image_shape=shape), tmp_path / "one.h5")
        stored = load_network(tmp_path / "one.h5")
        assert_same_layers(stored, module, images_of(shape))
        save_network(stored, tmp_path / "two.h5")
        hashes = {content_hash(read(tmp_path / f"{name}.h5", filetype=FILETYPE, major=1)) for name in ("one", "two")}
        assert len(hashes) == 1


def test_the_order_of_a_sum_is_the_stated_one() -> None:
    """1e16 + 1 - 1e16 is 0 in float64 in this order and 1 in another."""
    module = RealLinear(torch.tensor([[1e16, 1.0, -1e16], [1e16, -1e16, 1.0]])).eval()
    assert module(torch.ones(1, 3)).tolist() == [[0.0, 1.0]]
    conv = RealConv2d(torch.tensor([[[[1e16, -1e16]], [[1.0, 0.0]]]])).eval()  # (column, channel, row, place)
    assert conv(torch.ones(1, 2, 1, 2)).flatten().tolist() == [0.0]  # position by position: 1e16, 1, -1e16, 0
    last = RealLinear(torch.ones(1, 1)), ClassAffine(*torch.ones(2, 1))
    network = export(nn.Sequential(conv, AffineNorm2d(1), nn.Flatten(), *last), name="order", image_shape=(1, 2, 2))
    assert trace(network, np.ones((1, 1, 2, 2), np.uint8), mode="ideal")[0].sums.tolist() == [[[[0.0]]]]
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[[1e16, 1.0]], [[-1e16, 0.0]]]]))
    assert conv(torch.ones(1, 2, 1, 2)).flatten().tolist() == [1.0]
    again = export(nn.Sequential(conv, AffineNorm2d(1), nn.Flatten(), *last), name="order", image_shape=(1, 2, 2))
    assert trace(again, np.ones((1, 1, 2, 2), np.uint8), mode="ideal")[0].sums.tolist() == [[[[1.0]]]]


def test_real_modules_are_torchs_up_to_rounding() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, 9, 8, generator=generator)
    weight = torch.randn(7, 5, 3, 2, generator=generator)
    conv = RealConv2d(weight, stride=(2, 1), padding=(1, 1))
    plain = nn.functional.conv2d(x, weight, stride=(2, 1), padding=(1, 1))
    averaging = AffineNorm2d(7)
    averaging.load_state_dict(norm(generator, 7, 30, 2).state_dict())
    for training in (True, False):
        torch.testing.assert_close(conv.train(training)(x), plain)
        twin = nn.BatchNorm2d(7).train(training)
        twin.load_state_dict(averaging.state_dict())
        torch.testing.assert_close(averaging.train(training)(plain), twin(plain), rtol=1e-4, atol=1e-4)
    assert torch.equal(GlobalAverage()(x), nn.AvgPool2d((9, 8))(x))


def tiny_resnet() -> TrainingRecipe:
    recipe = load_recipe(find("models", "networks", "recipes", "cifar10_resnet18.toml"))
    return replace(recipe, width=4 / 64, epochs=1, batch=10, shift_pixels=1)


def test_a_tiny_resnet_trains_exports_and_evaluates(colours: Images, tmp_path: Path) -> None:
    images = Images("cifar10", "train", colours.images[:20, ::2, ::2], colours.labels[:20])
    *_, last = train(tiny_resnet(), out=tmp_path, images=images, test=images)
    network = load_network(last.network)
    assert [layer.out_features for layer in network.layers if layer.name.endswith("_1")] == [4, 4, 8, 8, 16, 16, 32, 32]
    assert sum(isinstance(layer.output, Residual) for layer in network.layers) == 1 + 16 + 3
    assert [layer.name for layer in network.layers if layer.real_weights is not None] == ["conv1", "dense1"]
    assert "the weights of conv1 and dense1 are real" in (tmp_path / "cifar10_resnet18.card.md").read_text()
    module = to_torch(network)
    with torch.no_grad():
        logits = module(pixels_of(images.images, network.image_shape)).numpy()
    found = evaluate(network, images.images, images.labels, mode="ideal")
    assert np.array_equal(found.predictions, logits.argmax(1))
    assert_same_layers(network, module, images.images[:5])


def test_the_shipped_resnet_is_resnet_18() -> None:
    recipe = replace(load_recipe(find("models", "networks", "recipes", "cifar10_resnet18.toml")), width=1.0)
    network = export(binary_network(recipe, (32, 32, 3), 10).eval(), name="resnet", image_shape=(32, 32, 3))
    assert sum(layer.packed.shape[0] * layer.in_features for layer in network.layers) == 11_164_352
    assert network.layers[-2].out_shape == (512, 1, 1)
    assert network.layers[-1].input == "real"


def recipe_of(**changes: object) -> TrainingRecipe:
    return TrainingRecipe(
        "tiny", "mnist", **({"hidden": (9,), "epochs": 1, "batch": 8} | changes), learning_rate=0.01, seed=0
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"first": "real"},
        {"last": "real"},
        {"convolution": (Convolution(5, pool=2, pool_kind="average"),)},
        {"convolution": (Convolution(5, pool=2, pool_kind="average", pool_of="outputs"), Convolution(4))},
        {"convolution": (Convolution(5), Convolution(6, stride=2)), "global_average": True, "last": "real"},
        {"convolution": (Convolution(5),), "block": (Block(5), Block(7, 2, 2, -1)), "hidden": ()},
        {"convolution": (Convolution(3, stride=2),), "first": "real", "global_average": True, "hidden": ()},
        {"convolution": (Convolution(5, pool=2), Convolution(6, pad_value=-1)), "scale_inputs": True},
        {"scale_inputs": True, "hidden": (7, 6), "weight_bits": 2},
        {"convolution": (Convolution(5),), "block": (Block(7, 2, 2),), "scale_inputs": True, "last": "real"},
        {"activations": "on_off", "hidden": (7, 6)},
        {"activations": "on_off", "convolution": (Convolution(5, pool=2), Convolution(6, pad_value=1))},
        {"activations": "on_off", "convolution": (Convolution(5),), "block": (Block(7, 2, 2),), "last": "real"},
        {"activations": "on_off", "convolution": (Convolution(5), Convolution(6, pad_value=1)), "activation_bits": 2},
    ],
)
def test_recipes_give_networks_that_pack_bit_for_bit(changes: dict) -> None:
    recipe = recipe_of(**changes)
    assert check_recipe(recipe) == recipe
    module = binary_network(recipe, (12, 12), 10)
    assert isinstance(module, Graph)
    pixels = pixels_of(images_of((12, 12), 9), (12, 12))
    pixels = pixels if recipe.convolution else pixels.flatten(1)
    module.train()(pixels).sum().backward()  # Running statistics that are no longer 0 and 1.
    assert all(p.grad is not None for p in module.parameters())
    module.eval()
    network = export(module, name="tiny", image_shape=(12, 12))
    taken = {layer.input for layer in network.binary_layers if layer.input != "real"}
    assert taken <= {"pixels", recipe.activations}
    with torch.no_grad():
        theirs = module(pixels).numpy()
    ours = forward(network, images_of((12, 12), 9), mode="ideal")
    np.testing.assert_array_equal(ours.view(np.uint32), theirs.view(np.uint32))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"block": (Block(4),)}, r"needs a \[\[convolution\]\] before it"),
        ({"global_average": True}, r"global_average needs a \[\[convolution\]\]"),
        ({"global_average": True, "convolution": (Convolution(4, pool=2),)}, "a layer has one pooling"),
        ({"hidden": ()}, "hidden needs at least 1 entries"),
        ({"scale_inputs": True, "activations": "on_off"}, 'scale_inputs is for activations = "binary"'),
        ({"activations": "on_off", "convolution": (Convolution(4), Convolution(4, pad_value=-1))}, "got pad_value -1"),
        ({"scale_inputs": True, "activation_bits": 2}, "scale_inputs is for activations of one bit"),
        (
            {"activation_bits": 2, "convolution": (Convolution(4, pool=2, pool_kind="average", pool_of="outputs"),)},
            "outputs of several bits have max pooling",
        ),
    ],
)
def test_parts_of_a_recipe_that_do_not_fit_are_refused(changes: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        recipe_of(**changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weight_bits": 2, "first": "real", "last": "real"}, "weight_bits has no layer to act on"),
        ({"activation_bits": 2}, "activation_bits has no layer to act on"),
        ({"scale_inputs": True}, "scale_inputs has no layer to act on"),
        ({"activations": "on_off"}, "activations has no layer to act on"),
    ],
)
def test_options_that_would_change_nothing_are_refused(changes: dict, said: str) -> None:
    """A convolution, its average and real logits: one layer takes the pixels, the other real numbers."""
    about = {"convolution": (Convolution(4),), "global_average": True, "hidden": (), "last": "real"} | changes
    with pytest.raises(InputError, match=said):
        binary_network(recipe_of(**about), (12, 12), 10)


def test_what_cannot_be_packed_is_refused_before_training(images: Images, tmp_path: Path) -> None:
    recipe = recipe_of(weight_bits=7, hidden=(5,), batch=16)
    with pytest.raises(InputError, match="module dense1: sums must stay within"):
        next(train(recipe, out=tmp_path, images=images))


class Averaging(nn.Module):
    """A user's network with a real first and last layer and averages as functions and modules."""

    def __init__(self, average: nn.Module, *, signs: bool) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.conv1, self.norm1 = nn.Conv2d(1, 6, 3, padding=1), norm(generator, 6, 9, 2, 20.0)
        self.conv2, self.norm2 = nn.Conv2d(6, 8, 3, bias=False), norm(generator, 8, 54, 2)
        self.average, self.fc = average, nn.Linear(8, 3)
        self.tanh, self.sign, self.signs = nn.Hardtanh(), Sign(), signs
        with torch.no_grad():
            self.conv2.weight.sign_()

    def forward(self, x: Tensor) -> Tensor:
        x = self.sign(self.norm1(nn.functional.avg_pool2d(self.conv1(x), 2)))
        x = self.tanh(self.norm2(self.conv2(x)))
        x = self.sign(x) if self.signs else x
        return self.fc(torch.flatten(self.average(x), 1))


@pytest.mark.parametrize("signs", [True, False])
@pytest.mark.parametrize("average", [nn.AvgPool2d(4), nn.AdaptiveAvgPool2d(1)])
def test_a_users_averages_and_real_layers_convert(average: nn.Module, signs: bool) -> None:
    torch.manual_seed(0)
    model, images = Averaging(average, signs=signs).eval(), images_of((12, 12))
    converted = convert(model, real=("conv1", "fc"))
    with torch.no_grad():
        theirs = model(pixels_of(images, (12, 12)))
        torch.testing.assert_close(converted(pixels_of(images, (12, 12))), theirs, rtol=1e-4, atol=1e-4)
    network = export(converted, name="user", image_shape=(12, 12))
    assert network.layers[-1].input == "real"
    assert_same_bits(network, converted, images)
    assert_same_bits(network, to_torch(network), images)
    lines = {line.module: line.says for line in list_convertible(model, real=("conv1", "fc"))}
    assert lines["conv1"] == "RealConv2d, real weights, digital, on pixels 0..255"
    assert lines["fc"] == "RealLinear, real weights, digital, on real numbers"
    assert lines["average"] == ("average of the signs" if signs else "average of the layer's real outputs")


@pytest.mark.parametrize(
    ("model", "real", "said"),
    [
        (Averaging(nn.AvgPool2d(4), signs=True), ("fcc",), r"real: no module 'fcc' \(did you mean 'fc'"),
        (Averaging(nn.AvgPool2d(4), signs=True), ("norm1",), "must be an nn.Linear or nn.Conv2d, it is BatchNorm2d"),
        (Averaging(nn.AvgPool2d(4), signs=True), ("conv1",), r"module fc \(Linear\): its input is not \+1 and -1"),
        (Averaging(nn.AvgPool2d(4, ceil_mode=True), signs=True), (), "an average must count its padding"),
        (Averaging(nn.AvgPool2d(3, 1, 1, False, False), signs=True), (), "an average must count its padding"),
        (Averaging(nn.AdaptiveAvgPool2d(2), signs=True), (), "an adaptive average must be of the whole map"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 2)),
            ("4",),
            r"module 4 \(Linear\): 3 \(Tanh\) may only be followed by a sign",
        ),
    ],
)
def test_what_a_packed_network_cannot_do_is_refused(model: nn.Module, real: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        convert(model, real=real)


def test_graphs_and_modules_that_do_not_fit_are_refused() -> None:
    weights = BinaryLinear(torch.ones(2, 4))
    affine = ClassAffine(torch.ones(2), torch.zeros(2))
    with pytest.raises(InputError, match="layer a: a layer needs a batch norm, or a scale and offset"):
        GraphLayer("a", weights)
    with pytest.raises(InputError, match="layer a: a shortcut or a hard tanh needs a real output"):
        GraphLayer("a", weights, norm=nn.BatchNorm1d(2), shortcut="b")
    with pytest.raises(InputError, match="layer a: no layer 'b' before this one"):
        Graph([GraphLayer("a", weights, affine=affine, source="b")])
    with pytest.raises(InputError, match="names must be unique"):
        Graph([GraphLayer("a", weights, affine=affine)] * 2)
    real = RealLinear(torch.ones(2, 4))
    with pytest.raises(InputError, match="needs an AffineNorm in the place of a BatchNorm"):
        export(nn.Sequential(real, nn.BatchNorm1d(2), Sign(), weights, affine), name="a", image_shape=(2, 2))


@pytest.mark.parametrize("pad_value", [-1, 0, 1])
def test_scales_of_inputs_are_xnor_nets(pad_value: int) -> None:
    """A convolution of the mean magnitude with 1 / (w h), to float32's rounding; the fast sum of training agrees."""
    x = torch.randn(3, 33, 7, 6, generator=torch.Generator().manual_seed(0))
    about = ((3, 2), (2, 1), (1, 1), pad_value)
    mean = nn.functional.pad(x.double().abs().mean(1, keepdim=True), (1, 1, 1, 1), value=abs(pad_value))
    expected = nn.functional.conv2d(mean, torch.full((1, 1, 3, 2), 1 / 6, dtype=torch.float64), stride=(2, 1))
    for exact in (True, False):
        found = input_scales(x, *about, exact=exact)
        torch.testing.assert_close(found.double(), expected, rtol=40 * 2.0**-24, atol=0)
    whole = input_scales(x, *about, exact=True)
    assert torch.equal(torch.cat([input_scales(x[i : i + 1], *about, exact=True) for i in range(3)]), whole)


def test_layers_whose_inputs_cannot_be_scaled_are_refused() -> None:
    weights, affine = BinaryLinear(torch.ones(2, 4)), ClassAffine(torch.ones(2), torch.zeros(2))
    for wrong in ({"activation_bits": 2}, {"input": "on_off"}):
        with pytest.raises(InputError, match="layer a: scale_inputs is for binary weights on signs"):
            GraphLayer("a", weights, affine=affine, scale_inputs=True, **wrong)
    with pytest.raises(InputError, match="layer a: scale_inputs is for binary weights on signs"):
        GraphLayer("a", weights, norm=nn.BatchNorm1d(2), scale_inputs=True)
    scaled = GraphLayer("b", BinaryLinear(torch.ones(2, 2)), affine=affine, scale_inputs=True)
    with pytest.raises(InputError, match="layer b: scale_inputs needs a layer before it with a real output"):
        Graph([GraphLayer("a", weights, norm=nn.BatchNorm1d(2)), scaled])


def test_an_average_of_no_pooling_is_refused() -> None:
    with pytest.raises(InputError, match=r'pool_kind = "average" of a \[\[convolution\]\] without a pool'):
        Convolution(4, pool_kind="average")


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 2, 0), (1, 3, 1), (3, 2, 1)])
def test_strided_convolutions_are_torchs(kernel: int, stride: int, padding: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = (3, 4, 7, 8), (5, 4, kernel, kernel)
    whole = [torch.randint(-9, 10, shape, generator=generator).float() for shape in shapes]
    found = []
    for function in (convolve, torch.nn.functional.conv2d):
        x, weight = (each.clone().requires_grad_() for each in whole)
        sums = function(x, weight, stride=(stride, stride), padding=(padding, padding))
        (sums * torch.arange(sums.numel()).view(sums.shape)).sum().backward()
        found.append((sums.detach(), x.grad, weight.grad))
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)  # Whole numbers below 2^24, exact in any order.


def test_strided_shortcuts_train_on_several_threads() -> None:
    """torch's own gradient damages the heap for these sizes on processors with AVX-512, so in a process of its own."""
    script = """
import torch
from cosim.training.convolutional import BinaryConv2d
from cosim.training.real import RealConv2d
torch.set_num_threads(2)
for kind in (RealConv2d, BinaryConv2d) * 50:
    layer = kind(torch.rand(7, 5, 1, 1) * 2 - 1, stride=(2, 2))
    x = torch.randn(9, 5, 12, 12).to(memory_format=torch.channels_last).requires_grad_()
    layer.train()(x).sum().backward()
print("whole")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr
