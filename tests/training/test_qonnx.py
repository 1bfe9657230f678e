"""ONNX files of binary networks: the forms of Brevitas and Larq against onnx's own reference, and refusals."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper
from onnx_graphs import QONNX, Graph, brevitas_convolutions, brevitas_dense, computed, larq, one_layer, pooled, save
from simulated_models import surrogate_of

from cosim.errors import CosimError, InputError, UnsafeError
from cosim.network.inference import forward
from cosim.training import calibrate, convert, export, list_convertible, load_qonnx, onnx_file, to_torch
from cosim.training.pixel_sign import PixelSign

FORMS: dict[str, tuple[Callable[[int], ModelProto], tuple[int, ...], float]] = {
    "brevitas dense": (brevitas_dense, (1, 6, 6), 1 / 255),
    "brevitas dense, scaled": (lambda seed: brevitas_dense(seed, gemm=False, scale=0.5), (1, 6, 6), 1 / 255),
    "brevitas convolutions": (brevitas_convolutions, (3, 8, 8), 1 / 256),
    "brevitas, shape": (lambda seed: brevitas_convolutions(seed, flatten="Shape"), (3, 8, 8), 1 / 256),
    "brevitas, flatten": (lambda seed: brevitas_convolutions(seed, flatten="Flatten"), (3, 8, 8), 1 / 256),
    "pooled": (pooled, (1, 9, 9), 1.0),
    "larq": (larq, (12, 12, 1), 1.0),
}
SIGNS = ("Where", "Less", "turned", "Cast", "Clip", "MinMax", "Tanh", "threshold")


def pixels(shape: tuple[int, ...], images: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (images, *shape), dtype=np.uint8)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", [0, 1])
def test_an_export_computes_what_its_graph_does_and_packs_bit_for_bit(form: str, seed: int, tmp_path: Path) -> None:
    make, shape, scale = FORMS[form]
    model, images = make(seed), pixels(shape, seed=seed)
    network = load_qonnx(save(model, tmp_path / "a.onnx"), pixel_scale=scale)
    theirs = computed(model, images * np.float32(scale))
    x = torch.from_numpy(images.astype(np.float32))
    with torch.no_grad():
        ours = network(x.permute(0, 3, 1, 2) if form == "larq" else x)
    # The last scale is rounded once here, and at each of its operations there.
    result = ours.softmax(1) if form == "larq" else ours
    np.testing.assert_allclose(result.numpy(), theirs, rtol=1e-5, atol=1e-5)
    assert theirs.std() > 0.1
    last = images if form == "larq" else images.transpose(0, 2, 3, 1)
    image_shape = last.shape[1:] if last.shape[3] > 1 else last.shape[1:3]
    packed = export(network, name="imported", image_shape=image_shape)
    assert np.array_equal(forward(packed, last.reshape(12, *image_shape), mode="ideal"), ours.numpy())


@pytest.mark.parametrize("sign", SIGNS)
def test_a_sign_in_any_of_its_forms_is_one(sign: str, tmp_path: Path) -> None:
    model, images = one_layer(sign), pixels((20,), 60)
    with torch.no_grad():
        ours = load_qonnx(save(model, tmp_path / "a.onnx"))(torch.from_numpy(images.astype(np.float32)))
    np.testing.assert_allclose(ours.numpy(), computed(model, images), rtol=1e-5, atol=1e-5)


def test_binary_images_are_read_from_the_array_too(tmp_path: Path) -> None:
    network = load_qonnx(save(brevitas_dense(), tmp_path / "a.onnx"), pixel_scale=1 / 255)
    assert str(network[0]) == "PixelSign(128)"
    assert "pixels from 128 on are +1" in str(list_convertible(network)[0])
    packed = export(network, name="binary", image_shape=(6, 6))
    assert (packed.pixel_threshold, len(packed.binary_layers)) == (128, 3)
    images = pixels((6, 6))
    x = torch.from_numpy(images.astype(np.float32)).flatten(1)
    with torch.no_grad():
        assert torch.equal(to_torch(packed)(x), network(x))
        simulated = convert(network, surrogate_of(16), mode="nominal")
        calibrate(simulated, x, sensing="single_ended", bits=1)
        assert not torch.equal(simulated(x), network(x))
    assert "dense1" in [name.split(".")[0] for name, _ in simulated.named_buffers()]
    with pytest.raises(InputError, match="it must be the first module"):
        convert(torch.nn.Sequential(*network[1:4], PixelSign(3)))
    with pytest.raises(InputError, match="a threshold of pixels must be 1 to 255, got 0"):
        PixelSign(0)


def _convolution(**about: object) -> ModelProto:
    """A convolution of a 4 x 4 image with some option, and a dense layer."""
    g = Graph([1, 2, 4, 4])
    columns = int(about.pop("columns", 3))
    weight = g.constant(g.signs(columns, int(about.pop("channels", 2)), 3, 3))
    x = g.add("Conv", "image", weight, **about)
    x = g.add("Flatten", g.bipolar(x))
    return g.model(g.add("MatMul", x, g.constant(g.signs(columns * int(about.get("left", 4)), 2))))


def _dense(change: Callable[[Graph, str], str], weight: np.ndarray | None = None) -> ModelProto:
    """A dense layer, something after it, a sign and a last layer."""
    g = Graph([1, 6])
    x = g.add("MatMul", "image", g.constant(g.signs(6, 5) if weight is None else weight))
    x = g.bipolar(change(g, x))
    return g.model(g.add("MatMul", x, g.constant(g.signs(5, 2))))


def _after_sign(change: Callable[[Graph, str], str]) -> ModelProto:
    g = Graph([1, 6])
    x = change(g, g.add("MatMul", "image", g.constant(g.signs(6, 5))))
    return g.model(g.add("MatMul", x, g.constant(g.signs(5, 2))))


def _first(change: Callable[[Graph, str], str]) -> ModelProto:
    g = Graph([1, 6])
    return g.model(g.add("MatMul", change(g, "image"), g.constant(g.signs(6, 2))))


def _without_weights() -> ModelProto:
    g = Graph([1, 6])
    return g.model(g.add("Mul", "image", g.constant(2.0)))


def _no_shape() -> ModelProto:
    g = Graph(["n", "m"])
    return g.model(g.add("MatMul", "image", g.constant(g.signs(6, 2))))


def _colours() -> ModelProto:
    g = Graph([1, 4, 4, 3])
    x = g.add("Flatten", "image")
    return g.model(g.add("MatMul", x, g.constant(g.signs(48, 2))))


REFUSED: dict[str, Callable[[], ModelProto]] = {
    r"node relu1 \(Relu\): Relu has no simulation": lambda: _dense(lambda g, x: g.add("Relu", x)),
    r"node if1 \(If\): If has no simulation": lambda: _dense(lambda g, x: g.add("If", x)),
    r"node neg1 \(Neg\): 2 nodes take matmul0: no shortcuts": lambda: _dense(
        lambda g, x: g.add("Add", x, g.add("Neg", x))
    ),
    r"node mul1 \(Mul\): .*no shortcuts": lambda: _dense(lambda g, x: g.add("Mul", x, x)),
    r"node softmax1 \(Softmax\): Softmax has no simulation": lambda: _dense(lambda g, x: g.add("Softmax", x)),
    r"node evil1 \(Evil\): Evil of the domain 'my.own' has no": lambda: _dense(
        lambda g, x: g.add("Evil", x, domain="my.own")
    ),
    r"BipolarQuant has no simulation": lambda: _dense(lambda g, x: g.bipolar(x, domain="")),
    r"node matmul0 \(MatMul\): its weights are not \+-1 times a factor a column: column 1 has magnitudes from 0 to 1": (
        lambda: _dense(lambda g, x: x, np.tri(6, 5))
    ),
    r"node quant1 \(Quant\): Quant has no simulation here": lambda: _dense(
        lambda g, x: g.add("Quant", x, g.constant(1.0), g.constant(0.0), g.constant(4.0), domain=QONNX)
    ),
    r"node clip1 \(Clip\): Clip changes signs": lambda: _dense(
        lambda g, x: g.add("Clip", x, g.constant(0.0), g.constant(6.0))
    ),
    r"node add2 \(Add\): Add has no simulation here": lambda: _dense(
        lambda g, x: g.add("Add", g.add("Tanh", x), g.constant(1.0))
    ),
    r"node mul1 \(Mul\): a constant of shape \(7,\) on \(1, 5\)": lambda: _dense(
        lambda g, x: g.add("Mul", x, g.constant(np.ones(7)))
    ),
    r"node div1 \(Div\): it divides by 0": lambda: _dense(lambda g, x: g.add("Div", x, g.constant(0.0))),
    r"node matmul3 \(MatMul\): a sign before it makes 0 what": lambda: _after_sign(
        lambda g, x: g.add("Where", g.add("Greater", x, g.constant(0.0)), g.constant(1.0), g.constant(-1.0))
    ),
    r"node matmul3 \(MatMul\): it takes 0 and 1, expected a number and its negative": lambda: _after_sign(
        lambda g, x: g.add("Cast", g.add("GreaterOrEqual", x, g.constant(0.0)), to=1)
    ),
    r"node matmul1 \(MatMul\): MatMul has no simulation here": lambda: _after_sign(lambda g, x: x),
    r"node bipolarquant1 \(BipolarQuant\): a sign has one factor": lambda: _dense(
        lambda g, x: g.add("BipolarQuant", x, g.constant(np.ones(5)), domain=QONNX)
    ),
    r"node matmul1 \(MatMul\): what comes is no straight line of the pixels": lambda: _first(
        lambda g, x: g.add("Sign", x)
    ),
    r"node mul0 \(Mul\): on images and signs, constants must be single": lambda: _first(
        lambda g, x: g.add("Mul", x, g.constant(np.ones(6)))
    ),
    r"node sqrt1 \(Sqrt\): it gives values that are not finite": lambda: _first(
        lambda g, x: g.add("Sqrt", g.add("Neg", x))
    ),
    r"node mul3 \(Mul\): a factor after a pooling turns its numbers round": lambda: pooled(factor=-1.0),
    r"output: the output must be real numbers of a dense layer": _without_weights,
    r"the input has the shape \(0, 0\): all sizes but the first": _no_shape,
    r"node matmul1 \(MatMul\): a dense first layer takes an image of one channel": _colours,
    r"node conv0 \(Conv\): group must be 1, got 2": lambda: _convolution(group=2),
    r"node conv0 \(Conv\): dilations must be \(1, 1\), got \(2, 1\)": lambda: _convolution(dilations=[2, 1]),
    r"node conv0 \(Conv\): a padding of 1, 1 above and left and 0, 0 below": lambda: _convolution(pads=[1, 1, 0, 0]),
    r"node conv0 \(Conv\): a padding of 0, 0 above and left and 1, 1 below": lambda: _convolution(
        auto_pad="SAME_UPPER", strides=[2, 2]
    ),
    r"node conv0 \(Conv\): padding must be smaller than the kernel": lambda: _convolution(pads=[3] * 4),
    r"node conv0 \(Conv\): stride must be 2 integers from 1": lambda: _convolution(strides=[0, 1]),
    r"node conv0 \(Conv\): weights of shape \(3, 5, 3, 3\) on a map of": lambda: _convolution(channels=5),
    r"node conv0 \(Conv\): strides must be two whole numbers": lambda: _convolution(strides=[1, 1, 1]),
    r"node matmul3 \(MatMul\): it takes 15 inputs, 12 come": lambda: _convolution(left=5),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_has_no_simulation_is_refused_by_the_name_of_its_node(said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said) as caught:
        load_qonnx(save(REFUSED[said](), tmp_path / "a.onnx"))
    assert str(caught.value).startswith(str(tmp_path / "a.onnx"))
    assert "\n" not in str(caught.value)


def test_numbers_in_other_files_are_not_opened(tmp_path: Path) -> None:
    model = brevitas_dense()
    (tmp_path / "weights.bin").write_bytes(b"\0" * 10**4)
    tensor = model.graph.initializer[2]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    with pytest.raises(UnsafeError, match=r"a.onnx: tensor tensor2: its numbers lie in another file"):
        load_qonnx(save(model, tmp_path / "a.onnx"))


def _changed(change: Callable[[ModelProto], object]) -> ModelProto:
    model = brevitas_dense()
    change(model)
    return model


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.graph.initializer[0].dims.append(2**40), "a shape of"),
        (lambda m: m.graph.initializer[0].dims.append(3), "its numbers do not fill its shape"),
        (lambda m: setattr(m.graph.initializer[0], "data_type", TensorProto.STRING), "its type is none of FLOAT"),
        (lambda m: m.graph.sparse_initializer.add(), "sparse tensors are not read"),
        (lambda m: m.graph.input.add(name="other"), "2 inputs and 1 outputs, expected one of each"),
        (lambda m: m.graph.ClearField("node"), "no ONNX model: 0 nodes"),
        (lambda m: m.graph.node[3].input.__setitem__(0, m.graph.node[7].output[0]), "its nodes stand in a circle"),
        (lambda m: m.graph.node[0].input.__setitem__(1, ""), "it takes 2 inputs, expected 2 to 2"),
        (lambda m: m.graph.node[0].input.pop(), "it takes 1 inputs, expected 2 to 2"),
        (lambda m: m.graph.node[1].input.__setitem__(1, "nothing"), "it takes what nothing gives"),
        (
            lambda m: m.graph.node[0].attribute.append(helper.make_attribute("g", m.graph)),
            "is no number, text or tensor",
        ),
    ],
)
def test_a_model_that_does_not_hold_together_is_refused(
    change: Callable[[ModelProto], object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        load_qonnx(save(_changed(change), tmp_path / "a.onnx"))


def test_files_that_are_none_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.onnx").write_text("no model at all", encoding="utf-8")
    for name, said in (
        ("text.onnx", "no ONNX file, or a damaged one"),
        ("none.onnx", "cannot be read"),
        ("", "cannot"),
    ):
        with pytest.raises(InputError, match=said):
            load_qonnx(tmp_path / name)
    path = save(brevitas_dense(), tmp_path / "a.onnx")
    for scale, offset in ((0.0, 0.0), (np.nan, 0.0), (1.0, np.inf)):
        with pytest.raises(InputError, match="pixel_scale must be positive and pixel_offset a number"):
            load_qonnx(path, pixel_scale=scale, pixel_offset=offset)
    with monkeypatch.context() as patch:
        patch.setattr(onnx_file, "BYTES_MAX", 100)
        with pytest.raises(InputError, match="bytes are more than the 100 of the largest model"):
            load_qonnx(path)
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs onnx, which is not installed \(pip install 'cosim\[onnx\]'\)"):
        load_qonnx(path)
    assert importlib.util.find_spec("onnx") is not None


def test_constants_do_not_grow_beyond_all_measure(tmp_path: Path) -> None:
    g = Graph([1, 6])
    row, column = g.constant(np.ones((1, 20000))), g.constant(np.ones((20000, 1)))
    x = g.add("MatMul", "image", g.add("Add", row, column))
    with pytest.raises(InputError, match=r"node add0 \(Add\): it gives more numbers than the largest model has"):
        load_qonnx(save(g.model(x), tmp_path / "a.onnx"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["dense", "larq"]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 4),
)
def test_a_damaged_file_is_refused_in_one_line_or_is_still_a_network(
    tmp_path: Path, form: str, bytes_: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray((brevitas_dense() if form == "dense" else larq()).SerializeToString())
    for place, value in bytes_:
        content[place % len(content)] = value
    path = tmp_path / "a.onnx"
    path.write_bytes(bytes(content[: len(content) - (bytes_[0][0] % len(content) if cut == 0 else 0)]))
    try:
        said = repr(type(load_qonnx(path)))
    except CosimError as error:
        said = str(error)
    assert said == repr(torch.nn.Sequential) or (said.startswith(str(path)) and "\n" not in said)
