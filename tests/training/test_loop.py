"""Training: seeded, resumable to the bit, its result packed and carded."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosim.config import parse_toml
from cosim.datasets import Images
from cosim.errors import InputError
from cosim.hdf5 import content_hash, read
from cosim.network.files import FILETYPE, load_network
from cosim.network.inference import evaluate
from cosim.training.loop import train
from cosim.training.recipe import TrainingRecipe


def trained(recipe: TrainingRecipe, images: Images, out: Path) -> str:
    """Train to the end; the content hash of the network's file covers every weight, threshold and statistic."""
    *_, last = train(recipe, out=out, images=images)
    assert last.network is not None
    return content_hash(read(last.network, filetype=FILETYPE, major=1))


def test_stopped_and_resumed_gives_the_same_bits(recipe: TrainingRecipe, images: Images, tmp_path: Path) -> None:
    whole = trained(recipe, images, tmp_path / "whole")
    for stop in (1, 2, 3):
        torch.rand(stop)  # The global generator plays no part.
        list(islice(train(recipe, out=tmp_path / str(stop), images=images), stop))
        assert trained(recipe, images, tmp_path / str(stop)) == whole


def test_killed_and_resumed_gives_the_same_bits(recipe: TrainingRecipe, images: Images, tmp_path: Path) -> None:
    longer = replace(recipe, epochs=12)
    whole = trained(longer, images, tmp_path / "whole")
    np.savez(tmp_path / "images.npz", images=images.images, labels=images.labels)
    (tmp_path / "recipe.toml").write_text(longer.text())
    code = (
        "import sys, numpy as np; from cosim.datasets import Images; from cosim.training.loop import train\n"
        "data = np.load(sys.argv[1] + '/images.npz')\n"
        "images = Images('mnist', 'train', data['images'], data['labels'])\n"
        "for _ in train(sys.argv[1] + '/recipe.toml', out=sys.argv[1] + '/killed', images=images): pass\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    checkpoint = tmp_path / "killed" / "tiny.checkpoint.h5"
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert checkpoint.exists()
    assert trained(longer, images, tmp_path / "killed") == whole


def test_a_convolutional_run_resumes_to_the_same_bits(
    cnn_recipe: TrainingRecipe, colours: Images, tmp_path: Path
) -> None:
    whole = trained(cnn_recipe, colours, tmp_path / "whole")
    next(train(cnn_recipe, out=tmp_path / "parts", images=colours))
    assert trained(cnn_recipe, colours, tmp_path / "parts") == whole
    assert trained(replace(cnn_recipe, seed=4), colours, tmp_path / "other") != whole


def test_a_convolutional_run_learns_and_says_what_it_made(
    cnn_recipe: TrainingRecipe, colours: Images, tmp_path: Path
) -> None:
    plain = replace(cnn_recipe, shift_pixels=0, flip_probability=0.0, batch=20, epochs=20)
    *_, last = train(plain, out=tmp_path, images=colours, test=colours)
    network = load_network(tmp_path / "tiny_cnn.h5")
    assert evaluate(network, colours.images, colours.labels, mode="ideal").accuracy.low > 0.5  # Chance is 0.1.
    assert network.image_shape == (32, 32, 3)
    assert last.network == tmp_path / "tiny_cnn.h5"
    card = (tmp_path / "tiny_cnn.card.md").read_text()
    assert "Binary convolutional network 7C3S2-MP2-9C3-MP2-10-10 for cifar10" in card
    assert "airplane" in network.provenance["classes"]
    assert parse_toml(network.provenance["recipe"], TrainingRecipe, place="card") == plain


def test_progress_counts_up_and_the_loss_falls(recipe: TrainingRecipe, images: Images, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    plain = replace(recipe, epochs=8, shift_pixels=0, pixel_dropout=0.0, label_smoothing=0.0)
    states = list(train(plain, out=tmp_path, images=images))
    assert [state.epoch for state in states] == list(range(1, 9))
    assert states[-1].loss < 0.5 * states[0].loss
    assert all(state.accuracy is not None and state.accuracy.n == 50 for state in states)
    assert [state.network is None for state in states] == [True] * 7 + [False]
    assert torch.get_num_threads() == threads
    again = list(train(plain, out=tmp_path, images=images))
    assert [state.epoch for state in again] == [8], "a finished run is not run again"


def test_card_and_provenance(recipe: TrainingRecipe, images: Images, tmp_path: Path) -> None:
    final = replace(recipe, holdout_images=0)
    list(train(final, out=tmp_path, images=images, test=images))
    network = load_network(tmp_path / "tiny.h5")
    assert network.provenance["recipe"] == final.text()
    assert network.provenance["torch_version"] == torch.__version__
    card = (tmp_path / "tiny.card.md").read_text()
    assert "784-70-37-10" in card
    assert "n = 300" in card
    assert network.provenance["train_data_sha256"] in card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.card.md", "tiny.checkpoint.h5", "tiny.h5"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "hidden layers are +-1, each"),
        ({"activations": "on_off"}, "hidden layers are 1 or 0, which turns a row off, each"),
        (
            {"activations": "on_off", "activation_bits": 2},
            "hidden layers are 0 to 3, where a bit of 0 turns its row off",
        ),
    ],
)
def test_the_card_says_what_activations_are(
    recipe: TrainingRecipe, images: Images, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    list(train(replace(recipe, epochs=1, **change), out=tmp_path, images=images))
    assert said in " ".join((tmp_path / "tiny.card.md").read_text().split())


def test_test_images_are_not_looked_at_while_images_are_held_out(
    recipe: TrainingRecipe, images: Images, tmp_path: Path
) -> None:
    list(train(recipe, out=tmp_path, images=images, test=images))
    card = (tmp_path / "tiny.card.md").read_text()
    assert "test images: not looked at" in card
    assert "n = 50" in card


@pytest.mark.parametrize("change", [{"seed": 4}, {"learning_rate": 0.02}, {"epochs": 5}])
def test_checkpoint_of_another_recipe_is_refused(
    recipe: TrainingRecipe, images: Images, tmp_path: Path, change: dict[str, int]
) -> None:
    next(train(recipe, out=tmp_path, images=images))
    with pytest.raises(InputError, match="another recipe"):
        next(train(replace(recipe, **change), out=tmp_path, images=images))


def test_checkpoint_of_other_images_is_refused(recipe: TrainingRecipe, images: Images, tmp_path: Path) -> None:
    next(train(recipe, out=tmp_path, images=images))
    pixels = images.images.copy()
    pixels[0, 0, 0] ^= 1
    with pytest.raises(InputError, match="other images"):
        next(train(recipe, out=tmp_path, images=replace(images, images=pixels)))


def test_cut_checkpoint_is_refused(recipe: TrainingRecipe, images: Images, tmp_path: Path) -> None:
    next(train(recipe, out=tmp_path, images=images))
    checkpoint = tmp_path / "tiny.checkpoint.h5"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"tiny\.checkpoint\.h5"):
        next(train(recipe, out=tmp_path, images=images))


def test_wrong_input_is_refused_before_training(recipe: TrainingRecipe, images: Images, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too few"):
        train(replace(recipe, holdout_images=280), out=tmp_path / "out", images=images)
    with pytest.raises(InputError, match="batch"):
        train(replace(recipe, batch=1), out=tmp_path / "out", images=images)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="output folder"):
        train(recipe, out=tmp_path / "file", images=images)


def test_a_run_that_diverges_says_so(recipe: TrainingRecipe, images: Images, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lower learning_rate"):
        list(train(replace(recipe, learning_rate=1e38), out=tmp_path, images=images))
    assert not (tmp_path / "tiny.h5").exists()
