"""Simulated models with digital parts: real layers and averages; and what a simulated model cannot have."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from random_modules import norm, pixels_of
from simulated_models import same_levels, surrogate_of
from torch import nn

from cosim.errors import InputError
from cosim.network.inference import forward
from cosim.network.sensing import calibrate_network, readouts_of
from cosim.training import calibrate, convert, export, list_convertible, seed_reads, set_mode, to_torch
from cosim.training.binary import BinaryLinear, Sign
from cosim.training.convolutional import BinaryConv2d
from cosim.training.graph import Graph
from cosim.training.pixel_sign import PixelSign
from cosim.training.real import RealLinear
from cosim.training.simulated import SimulatedConv2d, SimulatedLinear

_SHAPE = (6, 6)


def model_of(tail: str, seed: int = 0) -> nn.Sequential:
    """Two convolutions of torch's own, the second read from the array, what the tail says, and a last dense layer."""
    generator = torch.Generator().manual_seed(seed)
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    modules["conv1"] = nn.Conv2d(1, 9, 3, padding=1)
    modules["norm1"] = norm(generator, 9, 9, 2, 255.0)
    modules["sign1"] = Sign()
    modules["conv2"] = nn.Conv2d(9, 11, 3, padding=1)
    steps = tail.split()
    for number, step in enumerate(steps):
        modules[f"{step}_after{number}"] = {
            "norm": lambda: norm(generator, 11, 81, 2),
            "sign": Sign,
            "tanh": nn.Hardtanh,
            "average": lambda: nn.AvgPool2d(2),
            "whole": lambda: nn.AdaptiveAvgPool2d(1),
        }[step]()
    modules["flatten"] = nn.Flatten()
    modules["dense"] = nn.Linear(11 * (1 if "whole" in steps else 9 if "average" in steps else 36), 3)
    with torch.no_grad():
        for module in modules.values():
            if isinstance(module, nn.Conv2d | nn.Linear):
                assert module.bias is not None
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator))
                module.bias.copy_(torch.randn(module.bias.shape, generator=generator))
    return nn.Sequential(modules).eval()


@pytest.mark.parametrize(
    ("tail", "real"),
    [
        ("norm sign", ["dense"]),
        ("norm sign", ["conv1", "dense"]),
        ("norm sign average", ["dense"]),
        ("norm tanh whole", ["dense"]),
        ("norm average sign", []),
        ("norm average", ["conv1", "dense"]),
    ],
)
def test_digital_parts_of_a_simulated_model_are_those_of_the_packed_network(tail: str, real: list[str]) -> None:
    model, surrogate = model_of(tail), surrogate_of(24)
    images = np.random.default_rng(1).integers(0, 256, (24, *_SHAPE), dtype=np.uint8)
    pixels = pixels_of(images, _SHAPE)
    simulated = convert(model, surrogate, real=real)
    ours = calibrate(simulated, pixels, sensing="single_ended")
    network = export(simulated, name="digital", image_shape=_SHAPE)
    theirs = calibrate_network(network, surrogate, images, sensing="single_ended")
    same_levels(ours, theirs)
    reads = [name for name, each in simulated.named_children() if isinstance(each, SimulatedConv2d | SimulatedLinear)]
    assert reads == ["conv2"] + ([] if real else ["dense"])
    assert reads == [layer.name for layer in network.layers if layer.reads_circuit]
    readouts = readouts_of(surrogate, theirs)
    with torch.no_grad():
        for mode, read in (("ideal", None), ("nominal", readouts)):
            set_mode(simulated, mode)
            packed = forward(network, images, mode=mode, readouts=read, rows=24)
            assert np.array_equal(simulated(pixels).numpy(), packed)
        plain = convert(model, real=real)(pixels).numpy()
        set_mode(simulated, "ideal")
        assert np.array_equal(simulated(pixels).numpy(), plain)
        set_mode(simulated, "nominal")
        assert not np.array_equal(simulated(pixels).numpy(), plain)
        set_mode(simulated, "iid")
        seed_reads(simulated, 1)
        assert not np.array_equal(simulated(pixels).numpy(), packed)


def test_an_average_of_sums_is_refused_with_a_surrogate_alone() -> None:
    model = model_of("average norm sign")
    convert(model)
    said = r"module average_after0 \(AvgPool2d\): an average of sums that are read"
    with pytest.raises(InputError, match=said) as caught:
        convert(model, surrogate_of(24))
    assert "cosim.evaluate reads the packed network" in str(caught.value)
    refused = [line.module for line in list_convertible(model, surrogate_of(24)) if line.action == "refused"]
    assert refused[0] == "average_after0"


def test_weights_of_several_bits_stay_those_in_a_conversion() -> None:
    conv = BinaryConv2d(torch.rand(3, 1, 2, 2), bits=2)
    model = nn.Sequential(conv, nn.BatchNorm2d(3), Sign(), nn.Flatten(), BinaryLinear(torch.rand(2, 75), 3)).eval()
    network = export(convert(model), name="bits", image_shape=_SHAPE)
    assert [layer.weight_bits for layer in network.layers] == [2, 3]


def test_a_threshold_on_pixels_before_real_layers_goes_to_torch_and_back() -> None:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(
        PixelSign(100),
        nn.Flatten(),
        BinaryLinear(torch.randn(7, 36, generator=generator)),
        norm(generator, 7, 36, 1),
        Sign(),
        RealLinear(torch.randn(3, 7, generator=generator)),
    ).eval()
    images = np.random.default_rng(2).integers(0, 256, (20, *_SHAPE), dtype=np.uint8)
    network = export(convert(model), name="threshold", image_shape=_SHAPE)
    again = to_torch(network)
    assert isinstance(again, Graph)
    assert network.pixel_threshold == 100
    x = pixels_of(images, _SHAPE)
    with torch.no_grad():
        assert np.array_equal(again(x).numpy(), forward(network, images, mode="ideal"))
        assert np.array_equal(again(x).numpy(), convert(model)(x).numpy())
    back = export(again, name="threshold", image_shape=_SHAPE)
    assert back.pixel_threshold == 100
    assert np.array_equal(forward(back, images, mode="ideal"), forward(network, images, mode="ideal"))
    wanted = torch.rand(2, 36, requires_grad=True)
    assert not model[0](wanted).requires_grad
