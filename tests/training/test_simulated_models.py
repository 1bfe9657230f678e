"""Whole models that read through a surrogate: modes, states, training, what is said and what is refused."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from simulated_models import layer_of, random_signs, small_cnn, surrogate_of
from torch import nn

from cosim.errors import InputError
from cosim.network.fixed_point import fixed_point
from cosim.network.inference import forward
from cosim.network.levels import level_steps
from cosim.training import calibrate, convert, export, list_convertible, sample_die, seed_reads, set_mode
from cosim.training.binary import BinaryLinear, ClassAffine, Sign
from cosim.training.fold import fold, fold_levels
from cosim.training.levels import levels_of
from cosim.training.packed import norm_arrays
from cosim.training.planes import Taken
from cosim.training.simulated import SimulatedConv2d, SimulatedLinear
from cosim.training.sum_norm import SumNorm1d, SumNorm2d, sum_norm


def simulated_cnn(mode: str = "iid", *, calibration: bool = True, rows: int = 24) -> tuple[nn.Sequential, torch.Tensor]:
    """The small network, read through a surrogate, and images of it."""
    model, image_shape = small_cnn()
    simulated = convert(model, surrogate_of(rows))
    pixels = torch.randint(0, 256, (16, 1, *image_shape), generator=torch.Generator().manual_seed(0)).float()
    if calibration:
        calibrate(simulated, pixels, sensing="single_ended")
        sample_die(simulated, 4)
        set_mode(simulated, mode)
    return simulated, pixels


def outputs(model: nn.Module, x: torch.Tensor, seed: int = 1) -> torch.Tensor:
    seed_reads(model, seed)
    with torch.no_grad():
        return model(x)


@pytest.mark.parametrize("mode", ["ideal", "nominal", "iid", "frozen_offsets"])
def test_a_state_brings_levels_offsets_and_mode(mode: str) -> None:
    simulated, x = simulated_cnn(mode)
    file = io.BytesIO()
    torch.save(simulated.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    fresh, _ = simulated_cnn(calibration=False)
    with torch.no_grad():
        for each in fresh.parameters():
            each.zero_()
    fresh.load_state_dict(state)
    assert fresh.conv2.reader.mode == mode
    assert torch.equal(outputs(fresh, x), outputs(simulated, x))
    for key, value in fresh.state_dict().items():
        assert torch.equal(value, simulated.state_dict()[key])


def test_a_state_that_does_not_fit_is_refused_by_layer() -> None:
    simulated, _ = simulated_cnn()
    state = simulated.state_dict()
    other, _ = simulated_cnn(rows=32)
    with pytest.raises(InputError, match=r"state of conv2: the state is of sub-arrays of 24 rows, these have 32"):
        other.load_state_dict(state)
    for key, value, said in (
        ("start", torch.full_like(state["conv2.reader.start"], 10**6), "do not fit each other: start, table or line_v"),
        ("table", state["conv2.reader.table"] + 99, "do not fit each other"),
        ("pair", state["conv2.reader.pair"][:, :2], "do not fit each other: pair"),
        ("nominal", state["conv2.reader.nominal"].float(), "the state's nominal must be torch.int32 with 1 axes"),
        ("frozen", torch.zeros(1, 2, 3), "frozen offsets of shape"),
        ("frozen", torch.zeros(4, 11, 2), "one a column, or one for each of 7 references"),
        ("mode_number", torch.tensor(9, dtype=torch.uint8), "the state's mode must be one number from 0 to 3"),
    ):
        with pytest.raises(InputError, match=said):
            simulated.load_state_dict(state | {f"conv2.reader.{key}": value})
    uncalibrated, x = simulated_cnn(calibration=False)
    simulated.load_state_dict(uncalibrated.state_dict())
    with pytest.raises(InputError, match="this layer is not calibrated"):
        simulated(x)


def test_copies_go_on_from_the_same_noise() -> None:
    simulated, x = simulated_cnn()
    with torch.no_grad():
        simulated(x)
        twins = [copy.deepcopy(simulated), pickle.loads(pickle.dumps(simulated))]  # noqa: S301
        wanted = simulated(x)
        for twin in twins:
            assert torch.equal(twin(x), wanted)
            assert not torch.equal(twin(x), wanted)


def test_a_shorter_type_does_not_round_voltages() -> None:
    layer, x = layer_of(surrogate_of(24), 8, 24), random_signs(6, 24)
    calibrate(layer, x, sensing="single_ended")
    sample_die(layer, 0)
    before = {name: value.clone() for name, value in layer.reader.named_buffers()}
    layer.half().float()
    assert all(torch.equal(before[name], value) for name, value in layer.reader.named_buffers())


def test_a_network_trains_with_noise_in_its_forward() -> None:
    simulated, x = simulated_cnn("iid")
    labels = (x.flatten(1).mean(dim=1) > x.mean()).long()
    simulated.train()
    seed_reads(simulated, 0)
    optimizer = torch.optim.Adam(simulated.parameters(), lr=0.01)
    losses: list[float] = []
    for _ in range(40):
        loss = nn.functional.cross_entropy(simulated(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    network = export(simulated.eval(), name="trained", image_shape=(6, 6))
    set_mode(simulated, "ideal")
    logits = forward(network, x[:, 0].numpy().astype(np.uint8), mode="ideal")
    assert np.array_equal(logits, outputs(simulated, x).numpy())


def test_it_is_seen_that_noise_is_on() -> None:
    simulated, _ = simulated_cnn(calibration=False)
    assert "Reader(mode=iid, noise on (seed 0), rows=24, arrays=4, order=flat, not calibrated)" in repr(simulated)
    simulated, _ = simulated_cnn("frozen_offsets")
    seed_reads(simulated, 8)
    said = "mode=frozen_offsets, noise on (seed 8), rows=24, arrays=4, order=flat, levels=8, offsets sampled"
    assert said in repr(simulated)
    set_mode(simulated.conv2, "nominal")
    assert "mode=nominal, no noise" in repr(simulated.conv2)
    assert "mode=frozen_offsets" in repr(simulated.dense3)  # A part of the model has a mode of its own.


def test_only_layers_that_are_read_are_simulated() -> None:
    model, _ = small_cnn()
    simulated = convert(model, surrogate_of())
    kinds = {name: type(each) for name, each in simulated.named_children()}
    assert [name for name, kind in kinds.items() if kind in (SimulatedConv2d, SimulatedLinear)] == ["conv2", "dense3"]
    assert (kinds["norm1"], kinds["norm2"]) == (nn.BatchNorm2d, SumNorm2d)
    assert [line.module for line in list_convertible(model) if "read from the array" in line.says] == [
        "conv2",
        "dense3",
    ]
    kept = convert(model, surrogate_of(), exclude=("conv1", "norm1", "dense3", "affine"))
    assert type(kept.norm1) is nn.BatchNorm2d
    assert type(kept.conv2) is SimulatedConv2d
    again = convert(simulated)
    assert [type(each) for each in again] == [type(each) for each in convert(model)]
    assert convert(model).state_dict().keys() == again.state_dict().keys()


def test_calibration_leaves_the_model_as_it_was() -> None:
    simulated, x = simulated_cnn("nominal")
    simulated.train()
    simulated.norm1.eval()
    norms = [simulated.norm1.running_mean.clone(), simulated.norm2.running_mean.clone()]
    wanted = calibrate(simulated.eval(), x, sensing="single_ended")
    simulated.train()
    simulated.norm1.eval()
    found = calibrate(simulated, x, sensing="single_ended", batch=5)
    assert [each.training for each in (simulated, simulated.norm1, simulated.norm2)] == [True, False, True]
    assert all(
        torch.equal(a, b)
        for a, b in zip(norms, (simulated.norm1.running_mean, simulated.norm2.running_mean), strict=True)
    )
    assert simulated.conv2.reader.mode == "nominal"
    for group, levels in wanted.levels.items():
        assert np.array_equal(levels.histogram, found.levels[group].histogram)


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    model, _ = small_cnn()
    simulated, x = simulated_cnn()
    dropout = nn.Sequential(*list(simulated)[:6], nn.Dropout(0.5), *list(simulated)[6:]).train()
    dense = nn.Sequential(BinaryLinear(torch.ones(3, 4)), ClassAffine(torch.ones(3), torch.ones(3)))
    padded = layer_of(surrogate_of(), 3, 5, 3, padding=(1, 1))
    calibrate(padded, random_signs(2, 5, 8, 8), sensing="single_ended")
    cases = {
        "a mode or a row order is for layers that read": lambda: convert(model, mode="iid"),
        "^mode frozen_offsets needs a die's comparators": lambda: convert(model, surrogate_of(), mode="frozen_offsets"),
        "no layer of this model reads from an array": lambda: convert(dense, surrogate_of()),
        r"no simulated layer in this module \(convert\(model, surrogate\)": lambda: sample_die(dense, 0),
        "a simulated layer takes [+]1 and -1, got -?[02] .a dropout belongs before the sign": lambda: dropout(x),
        "levels are missing for 10 active rows .calibrate with images": lambda: padded(random_signs(1, 5, 1, 2)),
        "0 images in batches of 256": lambda: calibrate(simulated, x[:0]),
        "bits = 7, expected 1 to 6": lambda: calibrate(simulated, x, bits=7, sensing="single_ended"),
        "a column ADC reads a column of one line": lambda: calibrate(simulated, x, adc="column_adc"),
        "6 inputs are no map of 4 channels": lambda: SimulatedLinear(
            torch.ones(3, 6), surrogate_of(), taken=Taken(channels=4)
        ),
    }
    for said, call in cases.items():
        with pytest.raises(InputError, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_names_that_are_no_names_are_refused() -> None:
    """In a process of its own: here beartype would be first."""
    code = """
import torch, cosim
from torch import nn
from cosim.training import calibrate, convert, set_mode
surrogate = cosim.load_surrogate("xnor_8t")
from cosim.training.binary import BinaryLinear, ClassAffine, Sign
parts = BinaryLinear(torch.ones(70, 8)), Sign(), BinaryLinear(torch.ones(3, 70)), ClassAffine(*torch.ones(2, 3))
model = nn.Sequential(*parts)
simulated, x = convert(model, surrogate), torch.ones(2, 8)
for call in (
    lambda: convert(model, "xnor_8t"),
    lambda: convert(model, surrogate, order="rows"),
    lambda: set_mode(simulated, "die"),
    lambda: calibrate(simulated, x, sensing="both"),
    lambda: calibrate(simulated, x, mlsa="slow"),
    lambda: calibrate(simulated, [1]),
):
    try:
        call()
    except cosim.errors.InputError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "a surrogate is expected, got str (cosim.load_surrogate(path), or fit(store))",
        "the row order must be one of flat, positions, got 'rows'",
        "layer 2: mode must be one of ideal, nominal, iid, frozen_offsets, got 'die'",
        "sensing must be one of single_ended, differential, got 'both'",
        "mlsa must be one of flash, sequential, got 'slow'",
        "training images must be a tensor as the model takes them, got list",
    ]


def test_a_norm_of_fractional_sums_has_the_sign_of_its_exact_zero() -> None:
    """Where torch's float32 rounds to the other side of the zero, in some columns of a thousand; whole sums stay."""
    generator = torch.Generator().manual_seed(0)
    plain = nn.BatchNorm1d(4000).eval()
    with torch.no_grad():
        plain.running_mean.copy_(torch.randint(-20, 20, (4000,), generator=generator) / 128)
        plain.running_var.copy_(torch.rand(4000, generator=generator) * 90)
        plain.weight.copy_(torch.randn(4000, generator=generator))
        ours = SumNorm1d(4000).eval()
        ours.load_state_dict(plain.state_dict())
        sums = plain.running_mean + torch.tensor([-1, 0, 1])[:, None] / 128
        fractional = sums[:, (sums != sums.round()).all(dim=0)]
        assert fractional.shape[1] > 1000
        right = (sums - plain.running_mean) * plain.weight >= 0
        mixed = (sums != sums.round()).all(dim=0)
        assert torch.equal((ours(sums) >= 0)[:, mixed], right[:, mixed])
        assert not torch.equal((plain(sums) >= 0)[:, mixed], right[:, mixed])
        whole = torch.arange(-30.0, 30.0)[:, None].expand(-1, 4000)
        assert torch.equal(ours(whole) >= 0, plain(whole) >= 0)
        assert torch.allclose(ours(sums), plain(sums), atol=1e-5)
    sums = sums.clone().requires_grad_()
    gradients = [torch.autograd.grad(each(sums).sum(), sums)[0] for each in (ours, plain)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_levels_of_fractional_sums_are_those_of_the_packed_steps(bits: int) -> None:
    """At sums where float32 reaches a step that exact arithmetic does not, or the other way round; and beside them."""
    generator = torch.Generator().manual_seed(0)
    norm = nn.BatchNorm1d(600, eps=0.0).eval()
    top = 2**bits - 1
    with torch.no_grad():
        norm.running_mean.copy_(torch.randint(-4000, 4000, (600,), generator=generator) / 128)
        norm.running_var.fill_((top / 2) ** 2)  # Steps are whole numbers away from the mean, up to rounding.
        norm.weight.copy_(torch.randint(0, 2, (600,), generator=generator) * 2.0 - 1)
        norm.bias.zero_()
        ours = sum_norm(norm, bits)
        sums = norm.running_mean + (torch.arange(-3 * 128, 3 * 128 + 1) / 128)[:, None]
        found = levels_of(ours(sums.double()), bits)
        naive = levels_of(norm(sums), bits)
    rule = None if bits == 1 else fold_levels(norm, 1000, 1, bits)
    steps = [fold(norm, 1000)] if rule is None else [rule.step(number) for number in range(top)]
    total, wanted = np.rint(sums.numpy().astype(np.float64) * 128).astype(np.int64), np.zeros(sums.shape, np.int64)
    for step, level in zip(steps, level_steps(bits), strict=True):
        value = fixed_point(step, norm_arrays(norm), 7, level=float(level))
        wanted += step.direction * total >= step.direction * value
    assert np.array_equal(found.numpy(), wanted)
    assert bits == 1 or not np.array_equal(naive.numpy(), wanted)


def test_a_sign_module_sees_the_decided_side() -> None:
    norm = SumNorm1d(1, eps=0.0).eval()
    with torch.no_grad():
        norm.running_mean.fill_(0.3)
    values = norm(torch.tensor([[0.25], [0.3], [0.5]]))
    assert Sign()(nn.functional.hardtanh(torch.tanh(values))).flatten().tolist() == [-1, 1, 1]
