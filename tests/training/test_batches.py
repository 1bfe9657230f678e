"""Order and augmentation of the training images."""

from __future__ import annotations

from dataclasses import replace

import torch

from cosim.datasets import Images
from cosim.training.batches import augment, batch_count, batches, split
from cosim.training.recipe import TrainingRecipe


def test_holdout_is_disjoint_complete_and_the_same_for_all_recipes(images: Images) -> None:
    training, validation = split(images, 50)
    assert (len(training), len(validation)) == (250, 50)
    seen = torch.cat([training.images, validation.images]).flatten(1).double().sum(1).sort().values
    every = torch.from_numpy(images.images.copy()).flatten(1).double().sum(1).sort().values
    assert torch.equal(seen, every)
    assert torch.equal(split(images, 50)[1].images, validation.images)


def test_an_epoch_depends_on_seed_and_epoch_alone(images: Images, recipe: TrainingRecipe) -> None:
    training, _ = split(images, 0)

    def epoch(seed: int, number: int) -> torch.Tensor:
        return torch.cat([pixels for pixels, _ in batches(training, replace(recipe, seed=seed), number)])

    first = epoch(3, 0)
    torch.rand(5)  # The global generator plays no part.
    assert torch.equal(first, epoch(3, 0))
    assert not torch.equal(first, epoch(3, 1))
    assert not torch.equal(first, epoch(4, 0))


def test_batch_count_is_what_an_epoch_gives(images: Images, recipe: TrainingRecipe) -> None:
    for holdout in (0, 10, 30, 50, 290):
        training, _ = split(images, holdout)
        for batch in (7, 32, 64, 300):
            count = len(list(batches(training, replace(recipe, batch=batch), 0)))
            assert count == batch_count(len(training), batch)


def test_shift_moves_whole_images_by_up_to_the_reach(recipe: TrainingRecipe) -> None:
    plain = replace(recipe, shift_pixels=2, flip_probability=0.0, pixel_dropout=0.0)
    image = torch.zeros(500, 28, 28, dtype=torch.uint8)
    image[:, 10, 14] = 200
    moved = augment(image, plain, torch.Generator().manual_seed(1)).view(500, 28, 28)
    places = {tuple(place) for place in moved.nonzero()[:, 1:].tolist()}
    assert places == {(row, column) for row in range(8, 13) for column in range(12, 17)}
    assert bool((moved.sum((1, 2)) == 200).all())


def test_all_colours_of_an_image_move_and_mirror_together(colours: Images, cnn_recipe: TrainingRecipe) -> None:
    training, _ = split(colours, 0)
    same = training.images[:, :1].expand(-1, 3, -1, -1).contiguous()
    moved = augment(same, cnn_recipe, torch.Generator().manual_seed(1))
    assert moved.shape == (200, 3, 32, 32)
    assert torch.equal(moved[:, 0], moved[:, 1])
    assert torch.equal(moved[:, 0], moved[:, 2])
    grey = augment(same[:, 0].contiguous(), cnn_recipe, torch.Generator().manual_seed(1))
    assert torch.equal(moved[:, 0], grey)
    first, _ = next(iter(batches(training, cnn_recipe, 0)))
    assert first.shape == (40, 3, 32, 32)


def test_every_augmentation_changes_the_images(images: Images, recipe: TrainingRecipe) -> None:
    none = replace(recipe, shift_pixels=0, flip_probability=0.0, pixel_dropout=0.0)
    pixels = torch.from_numpy(images.images.copy())
    assert torch.equal(augment(pixels, none, torch.Generator()), pixels.float())
    for change in ({"shift_pixels": 1}, {"flip_probability": 0.5}, {"pixel_dropout": 0.5}):
        changed = augment(pixels, replace(none, **change), torch.Generator().manual_seed(0))
        assert not torch.equal(changed, pixels.float())
    dropped = augment(pixels, replace(none, pixel_dropout=0.5), torch.Generator().manual_seed(0))
    # Mean over 235,200 pixels of a spread of about 100: 5 sigma of the mean is about 1 %.
    assert abs(float(dropped.mean()) / float(pixels.float().mean()) - 1) < 0.01
