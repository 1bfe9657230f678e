"""The training loop: seeded, resumable after every epoch, its progress an iterator."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cosim.datasets import Images, load_images
from cosim.errors import InputError
from cosim.stats import Estimate, proportion
from cosim.training.batches import Split, batch_count, batches, network_input, split
from cosim.training.binary import BinaryLinear
from cosim.training.checkpoint import Position, load_checkpoint, save_checkpoint
from cosim.training.convolutional import BinaryConv2d
from cosim.training.described import binary_network
from cosim.training.graph import Graph
from cosim.training.packed import export
from cosim.training.recipe import TrainingRecipe, check_recipe, load_recipe
from cosim.training.result import Run, write_result

_EVALUATION_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Progress:
    """State of a run after an epoch.

    Attributes:
        epoch: Epochs done.
        epochs: Epochs to do.
        loss: Mean loss of the epoch; NaN where the run only found that it was done already.
        accuracy: Accuracy on the validation images; None where the recipe holds none out.
        seconds: Training time so far, over all resumed parts.
        network: The packed network's file, with the last epoch; None before.
    """

    epoch: int
    epochs: int
    loss: float
    accuracy: Estimate | None
    seconds: float
    network: Path | None


def train(
    recipe: TrainingRecipe | Path | str,
    *,
    out: Path | str,
    images: Images | None = None,
    test: Images | None = None,
) -> Iterator[Progress]:
    """Train a network and write `<name>.h5` and `<name>.card.md` into `out`; one `Progress` an epoch.

    A checkpoint is written after every epoch; a run that was killed goes on from it and ends with the same
    bits as one that was not. The test images serve the card alone: the finished network is evaluated on them
    once, and not at all where the recipe holds images out, because then a choice is still to be made.

    Args:
        recipe: The recipe, or its TOML file.
        out: Folder of the checkpoint and the result; made where it is missing.
        images: Training images; by default the recipe's dataset.
        test: Test images for the card; by default the recipe's dataset where `images` is not given either.

    Raises:
        InputError: A wrong recipe, missing images, an output folder that cannot be written, or a checkpoint
            in it of another run.
    """
    recipe = check_recipe(recipe) if isinstance(recipe, TrainingRecipe) else load_recipe(recipe)
    if images is None:
        images = load_images(recipe.dataset, "train")
        test = test or load_images(recipe.dataset, "test")
    if recipe.holdout_images + recipe.batch > len(images.labels):
        raise InputError(
            f"{len(images.labels)} training images are too few to hold {recipe.holdout_images} out"
            f" and train in batches of {recipe.batch}"
        )
    return _train(recipe, _folder(Path(out)), images, None if recipe.holdout_images else test)


def accuracy(module: nn.Module, data: Split, recipe: TrainingRecipe) -> Estimate:
    """Share of images that the module, in eval mode, puts into the right class, with its interval."""
    training = module.training
    module.eval()
    correct = 0
    with torch.no_grad():
        for start in range(0, len(data), _EVALUATION_BATCH):
            part = slice(start, start + _EVALUATION_BATCH)
            logits = module(network_input(data.images[part], recipe))
            correct += int((logits.argmax(1) == data.labels[part]).sum())
    module.train(training)
    return proportion(correct, len(data))


def _train(recipe: TrainingRecipe, out: Path, images: Images, test: Images | None) -> Iterator[Progress]:
    training, validation = split(images, recipe.holdout_images)
    classes = int(training.labels.max()) + 1
    module = binary_network(recipe, images.images.shape[1:], classes)
    if isinstance(module, Graph):  # What cannot be packed is refused now, and not after hours.
        export(module, name=recipe.name, image_shape=images.images.shape[1:])
    optimizer = torch.optim.Adam(module.parameters(), lr=recipe.learning_rate, fused=True)
    data_hash = _hash(images)
    checkpoint = out / f"{recipe.name}.checkpoint.h5"
    identity = f"{recipe.text()}images = {data_hash}\ntorch = {torch.__version__}\n"
    position, loss = Position(0, 0.0), math.nan
    if checkpoint.exists():
        position = load_checkpoint(checkpoint, module, optimizer, identity)
    while True:
        done = position.epoch >= recipe.epochs
        with _threads(recipe.threads):
            score = accuracy(module, validation, recipe) if len(validation) else None
        run = Run(recipe, images.images.shape[1:], data_hash, position.seconds, score, test)
        network = write_result(module, run, out) if done else None
        if position.epoch:
            yield Progress(position.epoch, recipe.epochs, loss, score, position.seconds, network)
        if done:
            return
        start = time.perf_counter()
        with _threads(recipe.threads):
            loss = _epoch(module, optimizer, training, recipe, position.epoch)
        position = Position(position.epoch + 1, position.seconds + time.perf_counter() - start)
        save_checkpoint(checkpoint, module, optimizer, position, identity)


def _epoch(module: nn.Module, optimizer: torch.optim.Adam, data: Split, recipe: TrainingRecipe, epoch: int) -> float:
    module.train()
    count = batch_count(len(data), recipe.batch)
    total = torch.zeros(())
    for index, (pixels, labels) in enumerate(batches(data, recipe, epoch)):
        part = (epoch + index / count) / recipe.epochs
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * 0.5 * (1.0 + math.cos(math.pi * part))
        total += _step(module, optimizer, pixels, labels, recipe)
    if not math.isfinite(float(total)):
        raise InputError("the loss is not finite", hint="lower learning_rate")
    return float(total) / count


def _step(
    module: nn.Module, optimizer: torch.optim.Adam, pixels: Tensor, labels: Tensor, recipe: TrainingRecipe
) -> Tensor:
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        logits = module(pixels)
    loss = nn.functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    for layer in module.modules():
        if isinstance(layer, BinaryLinear | BinaryConv2d):
            layer.clip()
    return loss.detach()


@contextmanager
def _threads(count: int) -> Generator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the output folder cannot be made: {error.strerror}", place=str(path)) from error
    return path


def _hash(images: Images) -> str:
    content = images.images.tobytes() + images.labels.tobytes()
    return hashlib.sha256(content).hexdigest()
