"""What a training run leaves: the packed network and its card."""

from __future__ import annotations

import platform
import textwrap
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from cosim.atomic import replace_file
from cosim.datasets import Images
from cosim.hdf5 import content_hash, read
from cosim.network.files import FILETYPE, save_network
from cosim.network.inference import evaluate
from cosim.network.layers import ConvLayer, DenseLayer, Network, Residual
from cosim.stats import Estimate
from cosim.training.graph import Graph
from cosim.training.packed import export
from cosim.training.recipe import TrainingRecipe

CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    "cifar10": (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
}


@dataclass(frozen=True, slots=True)
class Run:
    """What the card tells about a run besides its recipe.

    Attributes:
        recipe: The recipe.
        image_shape: Rows, columns and, for colours, channels of an image.
        train_hash: SHA-256 of the training images and labels.
        seconds: Training time.
        validation: Accuracy on the images held out, if any.
        test: Test images to evaluate the finished network on, once; None where there are none.
    """

    recipe: TrainingRecipe
    image_shape: tuple[int, ...]
    train_hash: str
    seconds: float
    validation: Estimate | None
    test: Images | None


def write_result(module: nn.Sequential | Graph, run: Run, out: Path) -> Path:
    """Write `<name>.h5` and `<name>.card.md` into `out`; the network's path.

    Raises:
        InputError: The files cannot be written.
    """
    recipe = run.recipe
    network = export(module, name=recipe.name, image_shape=run.image_shape, provenance=_provenance(run))
    path = out / f"{recipe.name}.h5"
    save_network(network, path)
    test = None if run.test is None else _test_accuracy(network, run.test)
    digest = content_hash(read(path, filetype=FILETYPE, major=1))
    replace_file(out / f"{recipe.name}.card.md", card(network, run, test, digest).encode())
    return path


def card(network: Network, run: Run, test: Estimate | None, digest: str) -> str:
    """The network's card as Markdown: what it is, how it was made, how good it is, what is digital."""
    recipe = run.recipe
    accuracy = f"- test images: {_percent(test)}, looked at once" if test else "- test images: not looked at"
    if run.validation:
        accuracy += f"\n- images held out: {_percent(run.validation)}"
    what = f"""{_kind(network)} for {recipe.dataset}: {_weights(network)} weights are {_values(recipe.weight_bits)}, the
        activations after the hidden layers are {_activations(recipe)}, each output has a float32 scale and offset."""
    digital = f"""**Digital parts.** The first layer takes the 8-bit pixels 0..255 and sums them
        digitally{_exactly(network)}, as the field does; batch norm and sign are one integer comparison a column;
        {_pooled(network)}the class scales and offsets are float32. The other layers are meant for the array."""
    return f"""# {network.name}

{_wrapped(what)}

{_wrapped(digital)}

## Accuracy in `ideal` mode

{accuracy}

Command: `cosim evaluate {network.name} --mode ideal`. Intervals are Wilson's, 95 %.

## Training

Command: `cosim train models/networks/recipes/{recipe.name}.toml`; how its values were chosen is told there.

- {recipe.dataset}, training images{_holdout(recipe)}; SHA-256 of the images and labels: {run.train_hash}
- seed {recipe.seed}, {recipe.epochs} epochs, {run.seconds / 60:.0f} minutes
- torch {torch.__version__}, {platform.machine()}, {recipe.threads} thread(s); another version or processor
  can end in other weights

```toml
{recipe.text()}```

Content SHA-256: {digest}
"""


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=True)


def _kind(network: Network) -> str:
    """What it is and its widths: 32C3 is a convolution to 32 channels by 3 x 3 kernels, MP2 a max pooling of 2 x 2."""
    if not any(isinstance(layer, ConvLayer) for layer in network.layers):
        widths = [network.in_features, *(layer.out_features for layer in network.layers)]
        return f"Binary multi-layer perceptron {'-'.join(map(str, widths))}"
    return f"Binary convolutional network {'-'.join(map(_size, network.layers))}"


def _size(layer: DenseLayer) -> str:
    if not isinstance(layer, ConvLayer):
        return str(layer.out_features)
    step = "" if layer.window.stride == (1, 1) else f"S{layer.window.stride[0]}"
    return f"{layer.out_features}C{layer.window.kernel[0]}{step}" + _pool_size(layer)


def _pool_size(layer: ConvLayer) -> str:
    if layer.pool is None:
        return ""
    return f"-{'MP' if layer.pool.kind == 'max' else 'AP'}{layer.pool.size[0]}"


def _weights(network: Network) -> str:
    real = [layer.name for layer in network.layers if layer.real_weights is not None]
    return f"the weights of {' and '.join(real)} are real and computed digitally, all other" if real else "all"


def _values(bits: int) -> str:
    return "+-1" if bits == 1 else f"odd integers of {bits} bits of +-1"


def _activations(recipe: TrainingRecipe) -> str:
    if recipe.activations == "binary":
        return _values(recipe.activation_bits)
    top = 2**recipe.activation_bits - 1
    return f"0 to {top}, where a bit of 0 turns its row off" if top > 1 else "1 or 0, which turns a row off"


def _exactly(network: Network) -> str:
    return " and exactly" if network.layers[0].real_weights is None else ""


def _pooled(network: Network) -> str:
    kinds = {layer.pool.kind for layer in network.layers if isinstance(layer, ConvLayer) and layer.pool is not None}
    streams = any(isinstance(layer.output, Residual) for layer in network.layers)
    said = ("max pooling compares; " if "max" in kinds else "") + (
        "averages are float32; " if "average" in kinds else ""
    )
    return said + ("batch norms, shortcuts and hard tanh of the real streams are float32; " if streams else "")


def _provenance(run: Run) -> dict[str, str]:
    return {
        "recipe": run.recipe.text(),
        "seed": str(run.recipe.seed),
        "epochs": str(run.recipe.epochs),
        "dataset": run.recipe.dataset,
        "classes": ", ".join(CLASSES[run.recipe.dataset]),
        "train_data_sha256": run.train_hash,
        "torch_version": torch.__version__,
    }


def _test_accuracy(network: Network, test: Images) -> Estimate:
    return evaluate(network, test.images, test.labels, mode="ideal").accuracy


def _percent(estimate: Estimate) -> str:
    low, high = 100 * estimate.low, 100 * estimate.high
    return f"{100 * estimate.value:.2f} % (95 % interval {low:.2f} to {high:.2f} %, n = {estimate.n})"


def _holdout(recipe: TrainingRecipe) -> str:
    return f" without {recipe.holdout_images} held out" if recipe.holdout_images else ""
