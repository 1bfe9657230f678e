"""Training recipes as TOML."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from cosim.errors import InputError
from cosim.resources import find
from cosim.training.described import binary_network
from cosim.training.packed import export
from cosim.training.recipe import TrainingRecipe, check_recipe, load_recipe


def test_text_is_read_back(recipe: TrainingRecipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.text())
    assert load_recipe(path) == recipe == check_recipe(recipe)


def test_convolutions_are_read_back(cnn_recipe: TrainingRecipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(cnn_recipe.text())
    assert load_recipe(path) == cnn_recipe == check_recipe(cnn_recipe)


@pytest.mark.parametrize("name", ["mnist_cnn", "fashion_mnist_cnn", "cifar10_vgg", "cifar10_vgg_hbnn"])
def test_shipped_convolutional_recipes_fit_their_images(name: str) -> None:
    recipe = load_recipe(find("models", "networks", "recipes", f"{name}.toml"))
    shape = (32, 32, 3) if recipe.dataset == "cifar10" else (28, 28)
    network = export(binary_network(recipe, shape, 10), name=name, image_shape=shape)
    assert recipe.name == name
    assert network.classes == 10
    if recipe.dataset == "cifar10":
        full = export(binary_network(replace(recipe, width=1.0), shape, 10), name=name, image_shape=shape)
        assert [layer.out_features for layer in full.layers] == [128, 128, 256, 256, 512, 512, 1024, 1024, 10]


@pytest.mark.parametrize("name", ["mnist_mlp", "fashion_mnist_mlp"])
def test_shipped_recipes_train_on_all_images(name: str) -> None:
    recipe = load_recipe(find("models", "networks", "recipes", f"{name}.toml"))
    assert recipe.name == name
    assert recipe.hidden == (1024, 1024)
    assert recipe.holdout_images == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("epochs = 4", "epoch = 4", r":4:1: unknown key 'epoch'.*did you mean 'epochs'\?"),
        ("epochs = 4", "epochs = 0", ":4:.*epochs.*greater than 0"),
        ("hidden = [70, 37]", "hidden = [70, -1]", r":3:.*hidden\[2\]"),
        ("hidden = [70, 37]", "hidden = [70, 99999999]", r":3:.*hidden\[2\].*at most 65536"),
        ("hidden = [70, 37]", "hidden = []", "hidden needs at least 1 entries"),
        ('dataset = "mnist"', 'dataset = "mnits"', "did you mean 'mnist'"),
        ("learning_rate = 0.01", "learning_rate = inf", "finite"),
        ('name = "tiny"', 'name = "../tiny"', ":1:.*name"),
        ("pixel_dropout = 0.1", "pixel_dropout = 1.0", "pixel_dropout.*less than 1"),
    ],
)
def test_wrong_recipes_say_where(recipe: TrainingRecipe, tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "recipe.toml"
    assert old in recipe.text()
    path.write_text(recipe.text().replace(old, new))
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    assert re.search(said, str(caught.value))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("channels = 14", "channels = 0", r":\d+:.*convolution\[1\].channels.*greater than 0"),
        ("pad_value = -1", "pad_value = 2", r":\d+:.*convolution\[2\].pad_value.*-1"),
        ('pool_of = "outputs"', 'pool_of = "output"', "did you mean 'outputs'"),
        ("stride = 2", "strides = 2", r"unknown key 'convolution\[1\].strides'.*did you mean 'stride'\?"),
        ("width = 0.5", "width = 0.0", r":\d+:.*width.*greater than 0"),
    ],
)
def test_wrong_convolutions_say_where(
    cnn_recipe: TrainingRecipe, tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = tmp_path / "recipe.toml"
    assert old in cnn_recipe.text()
    path.write_text(cnn_recipe.text().replace(old, new))
    with pytest.raises(InputError, match=said):
        load_recipe(path)


def test_a_recipe_made_in_python_is_checked(recipe: TrainingRecipe) -> None:
    with pytest.raises(InputError, match=r"recipe 'tiny':4:.*epochs"):
        check_recipe(replace(recipe, epochs=-1))
