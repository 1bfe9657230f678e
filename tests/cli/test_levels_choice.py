"""`cosim evaluate --levels-per`: outcomes, calibrations and keys of each choice; what is no choice is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cosim import chain
from cosim.cli.networks import evaluate, outcome_lines
from cosim.errors import InputError
from cosim.network.files import save_network
from cosim.network.layers import Affine, DenseLayer, Network, Quantizer
from cosim.network.outcome import load_outcomes
from cosim.network.packing import pack_signs
from cosim.resources import find
from cosim.surrogate.files import load_calibration, save_surrogate
from cosim.surrogate.model import Surrogate


@pytest.fixture
def files(columns_of_64: Surrogate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str, Path]:
    """A network of two bits, a surrogate and the folder of both."""
    monkeypatch.setattr(chain, "CALIBRATION_IMAGES", 100)
    rng = np.random.default_rng(0)
    signs = [rng.choice(np.array([-1, 1], np.int8), shape) for shape in ((64, 784), (20, 64))]
    quantizer = Quantizer(np.sort(rng.normal(0, 5000, (64, 3)).astype(np.int32), axis=1), np.ones(64, "i1"))
    first = DenseLayer("first", "pixels", 784, pack_signs(signs[0]), quantizer)
    affine = Affine(np.ones(10, "f4"), np.zeros(10, "f4"))
    last = DenseLayer("last", "binary", 64, pack_signs(signs[1]), affine, weight_bits=2, activation_bits=2)
    save_network(Network("two_bits", (first, last), 10, (28, 28), {"dataset": "fashion_mnist"}), tmp_path / "n.h5")
    save_surrogate(columns_of_64, tmp_path / "surrogate.h5")
    return str(tmp_path / "n.h5"), str(tmp_path / "surrogate.h5"), tmp_path


def test_a_choice_has_its_own_levels_and_outcome(
    files: tuple[str, str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    network, surrogate, folder = files
    for per, said in ((None, "pair"), ("layer", "layer")):
        evaluate(network, surrogate=surrogate, mode="nominal", images=50, levels_per=per, json=True)
        assert json.loads(capsys.readouterr().out)["outcomes"][0]["levels_per"] == said
    monkeypatch.setattr(chain, "evaluate", lambda *a, **k: pytest.fail("evaluated again"))
    evaluate(network, surrogate=surrogate, mode="nominal", images=50, levels_per="pair")
    kept = load_outcomes(folder / "outcomes.json")
    assert [each.levels_per for each in kept] == ["pair", "layer"]
    assert len({each.key for each in kept}) == 2
    names = [f"calibration-two_bits-differential-3bit{suffix}.h5" for suffix in ("-pair", "")]
    pair, layer = (load_calibration(folder / name).levels for name in names)
    assert set(layer) == {("last", 64)}
    assert set(pair) == {("last", 64, i, j) for i in range(2) for j in range(2)}
    # All pairs together are the layer.
    np.testing.assert_array_equal(sum(each.histogram for each in pair.values()), layer["last", 64].histogram)
    ideal = replace(kept[0], mode="ideal", sensing="", levels_per="")
    said = [line.split()[1:3] for line in outcome_lines([ideal, *kept])[2:]]
    assert said[0][0] == "-"
    assert said[1:] == [["differential", "levels/pair"], ["differential", "levels/layer"]]


@pytest.mark.parametrize("mode", ["ideal", "iid"])
def test_no_choice_is_refused_before_any_work(files: tuple[str, str, Path], mode: str):
    _, surrogate, folder = files
    shipped = str(find("models", "networks", "fashion_mnist_mlp.h5"))
    with pytest.raises(InputError, match="levels_per pair with network fashion_mnist_mlp, every layer of which"):
        evaluate(shipped, surrogate=surrogate, mode=mode, images=5, levels_per="pair")
    assert not (folder / "outcomes.json").exists()
    if mode == "ideal":
        outcome = chain.evaluated(folder, chain.Chosen(files[0], mode, images=5), Path(surrogate))
        assert outcome.levels_per == "", "ideal reads no circuit"
