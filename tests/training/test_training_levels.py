"""Weights and activations of several bits in torch: levels, gradients, folding, recipes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_modules import norm, pixels_of
from torch import nn

from cosim.datasets import Images
from cosim.errors import InputError
from cosim.network.files import load_network
from cosim.network.inference import evaluate, forward
from cosim.network.levels import level_steps
from cosim.training import convert, export, list_convertible, to_torch, train
from cosim.training.binary import BinaryLinear, ClassAffine, Sign
from cosim.training.convolutional import BinaryConv2d
from cosim.training.described import binary_network
from cosim.training.fold import fold, fold_levels
from cosim.training.levels import Levels, quantize_weights
from cosim.training.recipe import Convolution, TrainingRecipe


def test_two_bits_are_the_rule_of_date_2021() -> None:
    """Products of the bits p11, p10, p01, p00 with the weights 4, 2, 2, 1, over 9."""
    x = torch.tensor([-2.0, -0.7, -0.6, -0.1, 0.0, 0.6, 0.7, 2.0])
    assert Levels(2)(x).tolist() == [-3, -3, -1, -1, 1, 1, 3, 3]
    signs = [(a, b) for a in (-1, 1) for b in (-1, 1)]
    for a in signs:
        for w in signs:
            value = (4 * a[1] * w[1] + 2 * a[1] * w[0] + 2 * a[0] * w[1] + a[0] * w[0]) / 9
            assert (2 * a[1] + a[0]) / 3 * (2 * w[1] + w[0]) / 3 == pytest.approx(value, abs=1e-15)


@pytest.mark.parametrize("bits", [2, 3, 4, 7])
def test_a_level_is_the_nearest_and_a_step_belongs_to_the_higher(bits: int) -> None:
    top = 2**bits - 1
    levels = np.arange(-top, top + 1, 2)
    steps = torch.from_numpy(level_steps(bits))
    assert Levels(bits)(torch.tensor(levels / top, dtype=torch.float32)).tolist() == levels.tolist()
    assert Levels(bits)(steps).tolist() == levels[1:].tolist()
    below = torch.nextafter(steps, torch.full_like(steps, -9.0))
    assert Levels(bits)(below).tolist() == levels[:-1].tolist()
    x = torch.randn(500, generator=torch.Generator().manual_seed(0))
    nearest = levels[np.abs(x.clamp(-1, 1).numpy()[:, None] - levels / top).argmin(1)]
    assert Levels(bits)(x).tolist() == nearest.tolist()


def test_gradients_pass_straight_through() -> None:
    x = torch.tensor([-1.5, -0.5, 0.2, 3.0], requires_grad=True)
    Levels(2)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 3.0, 3.0, 0.0]
    weight = torch.tensor([-0.9, 0.1, 1.0], requires_grad=True)
    assert quantize_weights(weight, 2).tolist() == [-3.0, 1.0, 3.0]
    quantize_weights(weight, 2).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [3.0, 3.0, 3.0]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.sampled_from([2, 3, 4]), st.integers(1, 300), st.sampled_from([1, 4, 9]))
def test_folded_levels_are_those_of_the_batch_norm_at_every_sum(seed: int, bits: int, reach: int, taps: int) -> None:
    module = norm(torch.Generator().manual_seed(seed % 2**31), 24, reach, 1, 1 / taps).eval()
    quantizer = fold_levels(module, reach * taps, taps, bits)
    sums = torch.arange(-reach * taps, reach * taps + 1)
    with torch.no_grad():
        expected = Levels(bits)(module((sums[:, None].float() / taps).expand(-1, 24).contiguous()))
    value, direction = quantizer.value.astype(int), quantizer.direction.astype(int)
    on = direction[:, None] * sums.numpy()[:, None, None] >= direction[:, None] * value
    np.testing.assert_array_equal(2 * on.sum(axis=2) - (2**bits - 1), expected.numpy())
    middle = quantizer.step(2 ** (bits - 1) - 1)
    plain = fold(module, reach * taps, taps)
    signs = [
        each.direction * sums.numpy()[:, None] >= each.direction * each.value.astype(int) for each in (middle, plain)
    ]
    np.testing.assert_array_equal(*signs)


@pytest.mark.parametrize(("weight_bits", "activation_bits"), [(2, 2), (4, 4), (1, 2), (2, 1)])
def test_a_recipe_of_several_bits_trains_and_packs(
    colours: Images, tmp_path: Path, weight_bits: int, activation_bits: int
) -> None:
    recipe = TrainingRecipe(
        "tiny",
        "cifar10",
        (12,),
        1,
        10,
        0.01,
        0,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        convolution=(Convolution(6, stride=2, pool=2), Convolution(8, pad_value=-1, pool=2, pool_of="outputs")),
    )
    images = Images("cifar10", "train", colours.images[:20, ::2, ::2], colours.labels[:20])
    *_, last = train(recipe, out=tmp_path, images=images, test=images)
    network = load_network(last.network)
    assert [layer.weight_bits for layer in network.layers] == [weight_bits] * 4
    assert [layer.activation_bits for layer in network.layers] == [1] + [activation_bits] * 3
    assert f"odd integers of {max(weight_bits, activation_bits)} bits" in (tmp_path / "tiny.card.md").read_text()
    with torch.no_grad():
        theirs = to_torch(network)(pixels_of(images.images, network.image_shape)).numpy()
    ours = forward(network, images.images, mode="ideal")
    np.testing.assert_array_equal(ours.view(np.uint32), theirs.view(np.uint32))
    assert np.array_equal(evaluate(network, images.images, images.labels, mode="ideal").predictions, theirs.argmax(1))


def test_a_sequential_of_levels_packs_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    latent = [torch.rand(shape, generator=generator) * 2 - 1 for shape in ((5, 1, 3, 3), (6, 5, 3, 3), (3, 96))]
    convs = [BinaryConv2d(latent[0]), BinaryConv2d(latent[1], padding=(1, 1), pad_value=1, bits=2, input_bits=2)]
    modules = [convs[0], norm(generator, 5, 9, 2, 255.0), nn.Hardtanh(), Levels(2)]
    modules += [convs[1], norm(generator, 6, 45, 2, 3.0), nn.MaxPool2d(2), Levels(4), nn.Flatten()]
    modules += [BinaryLinear(latent[2], 3), ClassAffine(torch.ones(3), torch.zeros(3))]
    module = nn.Sequential(*modules).eval()
    images = np.random.default_rng(0).integers(0, 256, (7, 10, 10), dtype=np.uint8)
    network = export(module, name="levels", image_shape=(10, 10))
    with torch.no_grad():
        theirs = module(pixels_of(images, (10, 10))).numpy()
    np.testing.assert_array_equal(forward(network, images, mode="ideal"), theirs)
    again = export(convert(module), name="levels", image_shape=(10, 10))
    np.testing.assert_array_equal(forward(again, images, mode="ideal"), theirs)
    assert str(list_convertible(module)[3]) == "3 (Levels): simulated: 2 bits an activation"
    with pytest.raises(InputError, match=r"module 3 \(Levels\): 2 \(Tanh\) may only be followed by a sign"):
        convert(nn.Sequential(*modules[:2], nn.Tanh(), *modules[3:]))
    convs[1].input_bits = 1
    with pytest.raises(InputError, match=r"module 4: input_bits is 1, but 2 come"):
        export(module, name="levels", image_shape=(10, 10))
    convs[1].input_bits, module[2] = 2, nn.Tanh()
    with pytest.raises(InputError, match=r"before Levels there may be nn.Hardtanh\(\) alone, got Tanh"):
        export(module, name="levels", image_shape=(10, 10))


def test_wrong_bits_are_refused(recipe: TrainingRecipe) -> None:
    for bits in (1, 8):
        with pytest.raises(InputError, match=f"bits of a level must be 2 to 7, got {bits}"):
            Levels(bits)
    assert type(binary_network(recipe, (28, 28), 10)) is nn.Sequential
    several = replace(recipe, activation_bits=2)
    assert "activation_bits = 2" in several.text()
    assert "bits" not in recipe.text()
    assert not any(isinstance(module, Sign) for module in binary_network(several, (28, 28), 10).modules())
