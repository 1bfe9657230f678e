"""Packing a trained network and rebuilding it: `ideal` equals torch bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from cosim.datasets import FILES, Images, candidates, load_images
from cosim.errors import InputError
from cosim.hdf5 import content_hash, read
from cosim.network.files import FILETYPE, load_network, save_network
from cosim.network.inference import evaluate, forward, trace
from cosim.network.layers import Network
from cosim.training.binary import BinaryLinear, ClassAffine, Sign, binary_mlp
from cosim.training.packed import export
from cosim.training.unpacked import to_torch

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = (784, 70, 37, 10)


def random_mlp(seed: int) -> nn.Sequential:
    """An odd-sized network whose batch norms have gammas of both signs and some zero, and integer means."""
    module = binary_mlp(WIDTHS, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for norm, reach in ((module.norm1, 3000.0), (module.norm2, 8.0)):
            columns = norm.weight.shape[0]
            norm.weight.copy_(torch.randn(columns, generator=generator))
            norm.weight[:3] = 0.0
            norm.bias.copy_(torch.randn(columns, generator=generator))
            norm.bias[:5] = torch.tensor([1.0, -1.0, 0.0, 0.0, 0.0])
            norm.running_mean.copy_((torch.randn(columns, generator=generator) * reach).round())
            norm.running_var.copy_(torch.rand(columns, generator=generator) * reach**2 + 1e-3)
        module.affine.scale.copy_(torch.randn(10, generator=generator))
        module.affine.offset.copy_(torch.randn(10, generator=generator))
    return module.eval()


def assert_equals_torch(network: Network, module: nn.Sequential, images: np.ndarray) -> None:
    """Compare integer sums, activations, logits and predictions, part by part; the tolerance is zero."""
    for start in range(0, len(images), 2000):
        part = images[start : start + 2000]
        ours = trace(network, part, mode="ideal")
        values = torch.from_numpy(part.reshape(len(part), -1).astype(np.float32))
        layer = -1
        with torch.no_grad():
            for child in module.children():
                values = child(values)
                if isinstance(child, BinaryLinear):
                    layer += 1
                    assert ours[layer].fraction_bits == 0
                    assert np.array_equal(ours[layer].sums, values.numpy())
                elif isinstance(child, Sign):
                    assert np.array_equal(ours[layer].signs, values.numpy())
        logits = forward(network, part, mode="ideal")
        assert logits.dtype == np.float32
        assert np.array_equal(logits.view(np.uint32), values.numpy().view(np.uint32))
        labels = values.argmax(1).numpy()
        assert np.array_equal(evaluate(network, part, labels, mode="ideal").predictions, labels)
    assert layer == len(network.layers) - 1


SHIPPED: list[tuple[Literal["fashion_mnist", "mnist"], str, float]] = [
    ("fashion_mnist", "mlp", 0.88),
    ("mnist", "mlp", 0.984),
    ("mnist", "cnn", 0.99),
    ("fashion_mnist", "cnn", 0.90),
]


@pytest.mark.parametrize(("name", "kind", "least"), SHIPPED)
def test_shipped_network_is_as_good_as_its_card(
    name: Literal["fashion_mnist", "mnist"], kind: str, least: float
) -> None:
    if name == "mnist" and not images_are_here(name):
        pytest.skip("MNIST is not on this machine (no package brings it): COSIM_DATA, or cosim data fetch mnist")
    test = load_images(name, "test")
    found = evaluate(load_network(f"{name}_{kind}"), test.images, test.labels, mode="ideal").accuracy
    card = (ROOT / "models" / "networks" / f"{name}_{kind}.card.md").read_text()
    assert f"{100 * found.value:.2f} %" in card
    assert found.value >= least
    assert found.n == 10_000


def images_are_here(name: Literal["fashion_mnist", "mnist"]) -> bool:
    """Whether there is any file of the set: a damaged one is then an error, and no reason to skip."""
    return any(next(candidates(name, file), None) for pair in FILES[name].values() for file in pair)


@pytest.mark.parametrize("name", ["fashion_mnist_mlp", "mnist_mlp"])
def test_shipped_network_equals_torch_on_all_test_images(name: str) -> None:
    network = load_network(name)
    assert [layer.out_features for layer in network.layers] == [1024, 1024, 10]
    images = load_images("fashion_mnist", "test").images
    assert len(images) == 10_000
    assert_equals_torch(network, to_torch(network), images)


@pytest.mark.parametrize("name", [f"{name}_{kind}" for name, kind, _ in SHIPPED if kind == "cnn"])
def test_shipped_convolutional_network_equals_torch_on_all_test_images(name: str) -> None:
    network = load_network(name)
    images = load_images("fashion_mnist", "test").images
    module = to_torch(network)
    with torch.no_grad():
        theirs = torch.cat([module(torch.tensor(part).float().unsqueeze(1)) for part in np.split(images, 20)])
    ours = forward(network, images, mode="ideal")
    assert np.array_equal(ours.view(np.uint32), theirs.numpy().view(np.uint32))


@pytest.mark.parametrize("seed", range(3))
def test_odd_sizes_and_negative_gammas_equal_torch(seed: int) -> None:
    module = random_mlp(seed)
    network = export(module, name="odd")
    assert {-1, 0, 1} == set(network.layers[0].output.direction.tolist())
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (500, 28, 28), dtype=np.uint8)
    images[0], images[1] = 0, 255
    images[2:200] //= rng.integers(1, 256, (198, 1, 1), dtype=np.uint8)
    assert_equals_torch(network, module, images)
    assert_equals_torch(network, to_torch(network), images)


def test_a_trained_odd_network_equals_torch(images: Images) -> None:
    module = binary_mlp(WIDTHS, seed=0)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    pixels, labels = torch.from_numpy(images.images).flatten(1).float(), torch.from_numpy(images.labels).long()
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(pixels), labels).backward()
        optimizer.step()
    module.eval()
    assert_equals_torch(export(module, name="odd"), module, images.images)


def test_torch_and_back_is_the_same_file(tmp_path: Path) -> None:
    network = export(random_mlp(0), name="odd", provenance={"seed": "0"})
    save_network(network, tmp_path / "odd.h5")
    stored = load_network(tmp_path / "odd.h5")
    save_network(export(to_torch(stored), name="odd", provenance=stored.provenance), tmp_path / "again.h5")
    one, two = (read(tmp_path / name, filetype=FILETYPE, major=1) for name in ("odd.h5", "again.h5"))
    assert content_hash(one) == content_hash(two)


def test_batch_size_does_not_change_torch(images: Images) -> None:
    module = random_mlp(1)
    pixels = torch.from_numpy(images.images).flatten(1).float()
    with torch.no_grad():
        whole = module(pixels)
        parts = torch.cat([module(part) for part in pixels.split(7)])
    assert torch.equal(whole, parts)


def test_a_trained_weight_of_zero_is_plus_one() -> None:
    module = random_mlp(0)
    with torch.no_grad():
        module.dense2.weight[0, :2] = torch.tensor([0.0, -0.0])
    assert export(module, name="odd").layers[1].weights[0, :2].tolist() == [1, 1]


@pytest.mark.parametrize("parameter", ["norm1.weight", "norm2.running_var", "affine.scale", "dense1.weight"])
def test_values_that_are_not_finite_are_refused(parameter: str) -> None:
    module = random_mlp(0)
    with torch.no_grad():
        module.state_dict()[parameter].view(-1)[0] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        export(module, name="odd")


@pytest.mark.parametrize(
    "modules",
    [
        [nn.Linear(784, 10)],
        [BinaryLinear(torch.ones(10, 784)), nn.BatchNorm1d(10)],
        [BinaryLinear(torch.ones(10, 784)), nn.BatchNorm1d(10), Sign()],
        [ClassAffine(torch.ones(10), torch.ones(10))],
        [],
    ],
)
def test_other_modules_are_refused(modules: list[nn.Module]) -> None:
    with pytest.raises(InputError, match="must be"):
        export(nn.Sequential(*modules), name="wrong")
