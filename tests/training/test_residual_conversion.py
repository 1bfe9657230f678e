"""Networks with shortcuts, a user's own and ours, converted, read through a surrogate and packed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_modules import pixels_of, random_graph
from simulated_models import one_line_surrogate, packed_levels, same_distribution, same_levels, surrogate_of
from torch import Tensor, nn
from user_resnets import REAL, BasicBlock, BinaryConv, ResNet, user_resnet

from cosim.errors import InputError
from cosim.network.inference import forward, trace
from cosim.network.sensing import readouts_of
from cosim.training import calibrate, convert, export, list_convertible, sample_die, seed_reads, set_mode
from cosim.training.graph import Graph, GraphLayer
from cosim.training.kept import KeptLayer
from cosim.training.planes import Taken
from cosim.training.simulated import SimulatedConv2d, SimulatedLinear
from cosim.training.sum_norm import SumNorm2d

_SHAPE = (8, 8)
_PIXELS = np.random.default_rng(0).integers(0, 256, (16, *_SHAPE), dtype=np.uint8)
_X = pixels_of(_PIXELS, _SHAPE)


def real_of(about: Mapping[str, Any]) -> tuple[str, ...]:
    return REAL[:2] if about.get("down") == "binary" else REAL


def simulated_resnet(rows: int = 64, **about: Any) -> Graph:
    """A user's network, calibrated."""
    simulated = convert(user_resnet(**about), surrogate_of(rows), real=real_of(about))
    assert isinstance(simulated, Graph)
    calibrate(simulated, _X, sensing="single_ended")
    return simulated


@pytest.mark.parametrize(
    "about",
    [{}, {"both": True, "down": "binary"}, {"both": True, "bits": 2}, {"conv": BinaryConv}],
    ids=str,
)
def test_a_users_residual_network_is_packed_and_read_bit_for_bit(about: dict[str, Any]) -> None:
    model, rows = user_resnet(**about), 64
    before = copy.deepcopy(model.state_dict())
    simulated = convert(model, surrogate_of(rows), real=real_of(about))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    ours = calibrate(simulated, _X, sensing="single_ended")
    network = export(simulated, name="user", image_shape=_SHAPE)
    theirs = packed_levels(network, surrogate_of(rows), _PIXELS)
    same_levels(ours, theirs)
    assert ours.levels.keys() == theirs.levels.keys()  # By the names of the user's modules.
    readouts = readouts_of(surrogate_of(rows), theirs)
    found: list[np.ndarray] = []
    with torch.no_grad():
        for mode in ("ideal", "nominal"):
            set_mode(simulated, mode)
            found.append(simulated(_X).numpy())
            packed = forward(network, _PIXELS, mode=mode, readouts=readouts, rows=rows)
            assert np.array_equal(found[-1].view(np.uint32), packed.view(np.uint32))
        assert not np.array_equal(*found)
        # Float32 in another order: some units in the last place of what is added up.
        wanted = model(_X).numpy()
        assert np.abs(found[0] - wanted).max() < 1e-5 * np.abs(wanted).max()


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([64, 40, 17]))
def test_random_graphs_are_read_bit_for_bit(seed: int, rows: int) -> None:
    """Several bits of weights and inputs, inputs that are off, scaled inputs, shortcuts, poolings of all kinds."""
    graph, image_shape = random_graph(seed)
    lines = list_convertible(graph, surrogate_of(rows))
    if any(line.action == "refused" for line in lines):
        with pytest.raises(InputError, match=r"an average of sums that are read|no layer of this model reads"):
            convert(graph, surrogate_of(rows))
        return
    simulated = convert(graph, surrogate_of(rows))
    pixels = np.random.default_rng(seed).integers(0, 256, (10, *image_shape), dtype=np.uint8)
    ours = calibrate(simulated, pixels_of(pixels, image_shape), sensing="single_ended")
    network = export(simulated, name="random", image_shape=image_shape)
    theirs = packed_levels(network, surrogate_of(rows), pixels)
    same_levels(ours, theirs)
    readouts = readouts_of(surrogate_of(rows), theirs)
    for mode in ("ideal", "nominal"):
        set_mode(simulated, mode)
        with torch.no_grad():
            found = simulated(pixels_of(pixels, image_shape)).numpy()
        packed = forward(network, pixels, mode=mode, readouts=readouts, rows=rows)
        assert np.array_equal(found.view(np.uint32), packed.view(np.uint32))


def test_random_graphs_cover_every_way_to_read() -> None:
    """In the seeds that Hypothesis draws from, every combination occurs; a hundred of them show it."""
    seen: set[str] = set()
    for seed in range(40):
        for layer in random_graph(seed)[0].graph_layers:
            assert isinstance(layer, GraphLayer)
            bits = getattr(layer.weights, "bits", 0)
            kind = "off" if layer.input == "on_off" else "signs"
            seen.add(f"{kind} {layer.activation_bits > 1} {bits > 1}" if bits else "real")
            seen |= {"scaled"} & {"scaled" * layer.scale_inputs} | {"shortcut"} & {"shortcut" * bool(layer.shortcut)}
    assert seen >= {f"{kind} {a} {w}" for kind in ("off", "signs") for a in (True, False) for w in (True, False)}
    assert seen >= {"real", "scaled", "shortcut"}


@pytest.mark.parametrize("bits", [1, 2])
def test_torch_and_packed_agree_in_distribution_in_iid(bits: int) -> None:
    """The sums of a layer after a shortcut, over repetitions of one image: a contingency test of both paths."""
    model, rows = user_resnet(bits=bits), 64
    simulated = convert(model, surrogate_of(rows), real=REAL)
    calibration = calibrate(simulated, _X, sensing="single_ended")
    network = export(simulated, name="user", image_shape=_SHAPE)
    repeated = np.repeat(_PIXELS[:1], 800, axis=0)
    readouts = readouts_of(surrogate_of(rows), calibration)
    names = [layer.name for layer in network.layers]
    packed = trace(network, repeated, mode="iid", readouts=readouts, rows=rows, seed=5)
    kept: dict[str, Tensor] = {}
    for layer in simulated.graph_layers:
        layer.weights.register_forward_hook(lambda _, __, output, name=layer.name: kept.update({name: output}))
    seed_reads(simulated, 1)
    with torch.no_grad():
        simulated(pixels_of(repeated, _SHAPE))
    for name, step in (("layer1.0.conv1", 13), ("layer2.0.conv2", 7)):
        theirs = packed[names.index(name)]
        ours = np.rint(kept[name].numpy() * 2.0**theirs.fraction_bits).astype(np.int64)
        same_distribution(ours, theirs.sums, step)


def test_a_residual_network_trains_with_noise_and_keeps_its_state() -> None:
    simulated = simulated_resnet()
    labels = (_X.flatten(1).mean(dim=1) > _X.mean()).long()
    optimizer = torch.optim.Adam(simulated.train().parameters(), lr=0.01)
    losses: list[float] = []
    for _ in range(8):
        loss = nn.functional.cross_entropy(simulated(_X), labels)
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        assert all(each.grad is not None for each in simulated.parameters())
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    sample_die(simulated.eval(), 3)
    fresh = convert(user_resnet(1), surrogate_of(64), real=REAL)
    fresh.load_state_dict(simulated.state_dict())
    outputs: list[Tensor] = []
    for each in (simulated, fresh, copy.deepcopy(simulated)):
        seed_reads(each, 8)
        with torch.no_grad():
            outputs.append(each(_X))
    assert all(torch.equal(outputs[0], each) for each in outputs[1:])
    network = export(simulated, name="trained", image_shape=_SHAPE)
    set_mode(simulated, "ideal")
    with torch.no_grad():
        assert np.array_equal(simulated(_X).numpy(), forward(network, _PIXELS, mode="ideal"))


def test_only_what_reads_is_simulated_and_a_graph_goes_there_and_back() -> None:
    simulated = simulated_resnet(down="binary", both=True)
    kinds = {layer.name: type(layer.weights) for layer in simulated.graph_layers}
    digital = {name for name, kind in kinds.items() if kind not in (SimulatedConv2d, SimulatedLinear)}
    assert digital == set(REAL[:2])
    norms = {layer.name: type(layer.norm) for layer in simulated.graph_layers}
    assert norms["layer1.0.conv1"] is SumNorm2d  # Its signs alone are taken.
    back = convert(simulated)
    assert list_convertible(simulated)[1].says == "BinaryConv2d, read from the array; as it is"
    plain = convert(user_resnet(down="binary", both=True), real=REAL[:2])
    assert back.state_dict().keys() == plain.state_dict().keys()
    assert [type(each) for each in back.modules()] == [type(each) for each in plain.modules()]
    with torch.no_grad():
        assert torch.equal(back(_X), plain(_X))
    assert "layer2.0.conv2, input=binary, source=layer2.0.conv1, shortcut=layer2.0.downsample.1" in repr(simulated)


@pytest.mark.parametrize("exclude", [("conv1", "bn1", "fc"), ("layer1",), ("layer2.0.downsample",), ("layer1.0.tanh",)])
def test_excluded_parts_stay_in_floating_point(exclude: tuple[str, ...]) -> None:
    model = user_resnet()
    left = [name for name in REAL if not any(name == each or name.startswith(f"{each}.") for each in exclude)]
    simulated = convert(model, surrogate_of(24), exclude, real=left)
    kept = [layer.name for layer in simulated.graph_layers if isinstance(layer, KeptLayer)]
    assert set(exclude) <= set(kept)
    assert [
        line.module for line in list_convertible(model, surrogate_of(24), exclude, real=left) if line.action == "kept"
    ]
    calibrate(simulated, _X, sensing="single_ended")
    set_mode(simulated, "ideal")
    with torch.no_grad():
        found, wanted = simulated(_X), model(_X)
        assert float((found - wanted).abs().max()) < 1e-4 * float(wanted.abs().max())
        set_mode(simulated, "iid")
        assert not torch.equal(simulated(_X), found)
    with pytest.raises(InputError, match=rf"module {kept[0]}: it is kept in floating point, which is not packed"):
        export(simulated, name="kept", image_shape=_SHAPE)


class Stem(ResNet):
    """Pixels that are taken twice."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.fc(torch.flatten(self.pool(self.bn1(self.conv1(x)) + self.conv1(x)), 1))


class TwoLosses(ResNet):
    """Two outputs."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Logits, twice."""
        x = self.layer1(self.tanh(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.pool(self.layer2(x)), 1)), x


class Overwrites(BasicBlock):
    """Clips a stream in place that is added afterwards."""

    def forward(self, x: Tensor) -> Tensor:
        """The stream."""
        out = self.bn1(self.conv1(self.sign(x)))
        clipped = self.tanh(out)
        return self.bn2(self.conv2(self.sign(clipped))) + out


class Before(BasicBlock):
    """A batch norm before the sign, as in pre-activation networks."""

    def forward(self, x: Tensor) -> Tensor:
        """The stream."""
        return self.conv1(self.sign(self.bn1(x))) + x


class Scaled(BasicBlock):
    """A shortcut times a number."""

    def forward(self, x: Tensor) -> Tensor:
        """The stream."""
        return self.bn1(self.conv1(self.sign(x))) + 0.5 * x


class Taken2(BasicBlock):
    """What is pooled is taken as it was, too."""

    def forward(self, x: Tensor) -> Tensor:
        """The stream."""
        down = nn.functional.avg_pool2d(x, 2)
        return self.bn1(self.conv1(self.sign(x))) + x + down


class Third(BasicBlock):
    """Two shortcuts of one layer."""

    def forward(self, x: Tensor) -> Tensor:
        """The stream."""
        out = self.tanh(self.bn1(self.conv1(self.sign(x))) + x)
        return self.bn2(self.conv2(self.sign(out))) + out + x


def with_block(kind: type[BasicBlock]) -> ResNet:
    model = user_resnet()
    model.layer1 = kind(torch.Generator(), 9, 9, 1).eval()
    return model


def with_bent() -> ResNet:
    model = user_resnet()
    model.tanh = nn.Tanh()
    return model


@pytest.mark.parametrize(
    ("model", "about", "said"),
    [
        (
            user_resnet(),
            {"real": REAL[:2]},
            r"module layer2.0.downsample.0 \(Conv2d\): .*or its weights stay real: real=",
        ),
        (
            user_resnet(),
            {"exclude": ["layer2.0.bn2"]},
            r"module add_3 \(add\): an addition is of the result of a batch",
        ),
        (user_resnet(), {"real": (REAL[0], REAL[2])}, r"module fc \(Linear\): its input is not \+1 and -1"),
        (with_bent(), {}, r"module add \(add\): tanh \(Tanh\) may only be followed by a sign"),
        (with_block(Overwrites), {}, r"module layer1.tanh \(Hardtanh\): it writes over its input, which is used again"),
        (with_block(Before), {}, r"module layer1.bn1 \(BatchNorm2d\): a batch norm must follow a convolution"),
        (with_block(Scaled), {}, r"module mul \(mul\): the function mul in a forward has no simulation"),
        (with_block(Taken2), {}, r"module avg_pool2d .*: what it takes is taken elsewhere too"),
        (with_block(Third), {}, r"module add_2 \(add\): an addition is of the result of a batch norm"),
        (Stem().eval(), {}, r"module conv1 \(Conv2d\): it is called twice"),
        (TwoLosses().eval(), {}, r"module output \(output\): the forward must take one input and return"),
        (
            nn.Sequential(convert(user_resnet(), real=REAL)),
            {"real": ()},
            r"module 0 \(Graph\): a Graph is a whole network",
        ),
        (convert(user_resnet(), real=REAL), {"real": (), "pixel_scale": 0.5}, "neither exclude nor pixel_scale"),
    ],
)
def test_what_cannot_be_converted_is_refused_as_it_is_listed(
    model: nn.Module, about: dict[str, Any], said: str
) -> None:
    about = {"real": REAL} | about
    for surrogate in (None, surrogate_of(24)):
        with pytest.raises(InputError, match=said) as caught:
            convert(model, surrogate, **about)
        assert "\n" not in str(caught.value)
        refused = [line for line in list_convertible(model, surrogate, **about) if line.action == "refused"]
        assert refused[0].says in str(caught.value)


def test_rows_that_a_surrogate_does_not_know_are_refused_before_anything_is_run() -> None:
    """A column measured with 40 to 64 rows on; convolutions of 9 channels have 81 inputs, 17 in a second sub-array."""
    surrogate = one_line_surrogate(64)
    object.__setattr__(surrogate.two_count, "fewest_active", 40)
    said = "a column has 81 inputs, so that sub-arrays have 17 rows on, of which the surrogate does not tell: 17 active"
    lines = list_convertible(user_resnet(), surrogate, real=REAL)
    assert said in next(line for line in lines if line.module == "layer1.0.conv1").says
    assert next(line for line in lines if line.module == "layer2.1.conv1").action == "simulated"  # 126 are 64 and 62.
    with pytest.raises(InputError, match=said):
        convert(user_resnet(), surrogate, real=REAL)
    convert(user_resnet(), real=REAL)


def test_listing_says_what_the_surrogate_changes() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert all(line.action != "refused" for line in list_convertible(model))
    (line,) = [line for line in list_convertible(model, surrogate_of(24)) if line.action == "refused"]
    assert str(line).startswith("model (Sequential): refused: no layer of this model reads from an array")
    for call in (convert, list_convertible):
        with pytest.raises(InputError, match=r"mode must be one of|a mode or a row order is for layers"):
            call(model, mode="iid")
    assert Taken(2, True).top == 3
