"""Small ONNX models as Brevitas 0.13 (export_qonnx) and Larq 0.14 (tf2onnx 1.17) write them, and what they compute."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

QONNX = "qonnx.custom_op.general"


class Graph:
    """A graph that grows: `add` gives the name of a node's output, `constant` that of a tensor."""

    def __init__(self, shape: Sequence[int | str], seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape = shape
        self.nodes: list[NodeProto] = []
        self.tensors: list[TensorProto] = []

    def constant(self, values: Any, dtype: str = "f4") -> str:
        name = f"tensor{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def add(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        output = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def bipolar(self, x: str, scale: float = 1.0, domain: str = QONNX) -> str:
        """BipolarQuant as Brevitas exports it."""
        return self.add("BipolarQuant", x, self.constant([scale]), domain=domain)

    def weights(self, *shape: int, scale: float = 1.0) -> str:
        """+-scale, binarized once more by a BipolarQuant, as Brevitas exports weights."""
        return self.bipolar(self.constant(self.signs(*shape) * scale), scale)

    def signs(self, *shape: int) -> np.ndarray:
        return self.rng.choice(np.array([-1.0, 1.0], "f4"), shape)

    def norm(self, x: str, columns: int, size: float) -> str:
        """BatchNormalization with gammas of both signs."""
        rng = self.rng
        arrays = (rng.normal(size=columns), rng.normal(size=columns), size * rng.normal(size=columns) / 3)
        return self.add(
            "BatchNormalization",
            x,
            *(self.constant(each) for each in (*arrays, size**2 * rng.uniform(0.5, 2, columns))),
            epsilon=1e-3,
        )

    def model(self, output: str, domains: Sequence[str] = (QONNX, "onnx.brevitas")) -> ModelProto:
        inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, self.shape)]
        outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
        graph = helper.make_graph(self.nodes, "small", inputs, outputs, self.tensors)
        opsets = [helper.make_opsetid("", 18), *(helper.make_opsetid(each, 1) for each in domains)]
        return helper.make_model(graph, opset_imports=opsets)


def brevitas_dense(seed: int = 0, *, gemm: bool = True, scale: float = 1.0) -> ModelProto:
    """TFC of 1 bit: 2 x - 1 of a flat image, a bipolar input, two hidden layers, a TensorNorm."""
    g = Graph([1, 1, 6, 6], seed)
    x = g.add("Reshape", "image", g.constant([1, 36], "i8"), allowzero=1)
    x = g.add("Sub", g.add("Mul", x, g.constant(2.0)), g.constant([1.0]))
    x = g.bipolar(x)
    for inputs, columns in ((36, 9), (9, 7), (7, 3)):
        weight = g.weights(columns, inputs, scale=scale)
        if gemm:
            x = g.add("Gemm", x, weight, alpha=1.0, beta=1.0, transA=0, transB=1)
        else:
            x = g.add("MatMul", x, g.add("Transpose", weight, perm=[1, 0]))
        if columns > 3:
            x = g.bipolar(g.norm(x, columns, scale * inputs**0.5), scale)
    x = g.add("Div", g.add("Sub", x, g.constant([0.25])), g.constant([1.5]))
    return g.model(g.add("Add", g.add("Mul", x, g.constant([2.0])), g.constant([0.125])))


def brevitas_convolutions(seed: int = 0, *, flatten: str = "Reshape") -> ModelProto:
    """CNV of 1 bit: an 8-bit grid of 2 x - 1, two convolutions, a pooling of signs, a dense layer of the old domain."""
    g = Graph([1, 3, 8, 8], seed)
    x = g.add("Sub", g.add("Mul", "image", g.constant(2.0)), g.constant([1.0]))
    grid = (g.constant(2.0**-7), g.constant(0.0), g.constant(8.0))
    x = g.add("Quant", x, *grid, domain=QONNX, rounding_mode="ROUND", signed=1, narrow=0)
    for channels, columns, pads, size in ((3, 5, [0] * 4, 9.0), (5, 7, [1] * 4, 45.0)):
        about = {"group": 1, "dilations": [1, 1], "strides": [1, 1], "auto_pad": "NOTSET"}
        weight = g.weights(columns, channels, 3, 3)
        x = g.add("Conv", x, weight, kernel_shape=[3, 3], pads=pads, **about)
        x = g.bipolar(g.norm(x, columns, size**0.5))
    x = g.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4, ceil_mode=0, dilations=[1, 1])
    if flatten == "Shape":  # x.view(x.shape[0], -1) as torch's older exporter writes it.
        batch = g.add("Gather", g.add("Shape", x), g.constant(0, "i8"), axis=0)
        batch = g.add("Unsqueeze", batch, g.constant([0], "i8"))
        x = g.add("Reshape", x, g.add("Concat", batch, g.constant([-1], "i8"), axis=0))
    elif flatten == "Flatten":
        x = g.add("Flatten", x, axis=1)
    else:
        x = g.add("Reshape", x, g.constant([1, 63], "i8"))
    weight = g.bipolar(g.constant(g.signs(4, 63)), domain="onnx.brevitas")
    x = g.add("Gemm", x, weight, transB=1)
    return g.model(g.add("Mul", x, g.constant([0.5])))


def larq(seed: int = 0) -> ModelProto:
    """Larq's own MNIST example: NHWC, pad_values = 1, a batch norm fused into a convolution, Sign(Sign(x) + 0.1)."""
    g = Graph(["images", 12, 12, 1], seed)

    def ste_sign(x: str) -> str:
        return g.add("Sign", g.add("Add", g.add("Sign", x), g.constant(0.1)))

    x = g.add("Reshape", "image", g.constant([-1, 1, 12, 12], "i8"))
    about = {"dilations": [1, 1], "strides": [1, 1], "group": 1, "kernel_shape": [3, 3]}
    x = g.add("Conv", x, g.constant(g.signs(6, 1, 3, 3)), **about)
    x = g.norm(g.add("MaxPool", x, strides=[2, 2], kernel_shape=[2, 2]), 6, 3 * 255.0)
    x = ste_sign(g.add("Transpose", x, perm=[0, 2, 3, 1]))
    x = g.add("Pad", x, g.constant([0, 1, 1, 0, 0, 1, 1, 0], "i8"), g.constant(1.0))
    x = g.add("Transpose", x, perm=[0, 3, 1, 2])
    fused = g.signs(7, 6, 3, 3) * g.rng.normal(size=(7, 1, 1, 1)).astype("f4")
    x = g.add("Conv", x, g.constant(fused), g.constant(g.rng.normal(size=7)), **about)
    x = g.add("Reshape", g.add("Transpose", x, perm=[0, 2, 3, 1]), g.constant([-1, 175], "i8"))
    for inputs, columns in ((175, 8), (8, 3)):
        x = g.add("MatMul", ste_sign(x), g.constant(g.signs(inputs, columns)))
        x = g.add("Mul", x, g.constant(g.rng.normal(size=columns)))
        x = g.add("Add", x, g.constant(g.rng.normal(size=columns)))
    return g.model(g.add("Softmax", x))


def pooled(seed: int = 0, *, factor: float = 0.5) -> ModelProto:
    """A batch norm before its pooling: some of its factors are negative, so the order counts."""
    g = Graph([1, 1, 9, 9], seed)
    x = g.norm(g.add("Conv", "image", g.constant(g.signs(8, 1, 2, 2)), kernel_shape=[2, 2]), 8, 2 * 255.0)
    x = g.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = g.bipolar(g.add("Add", g.add("Mul", x, g.constant(factor)), g.constant(-0.3)))
    x = g.add("MatMul", g.add("Flatten", x), g.constant(g.signs(8 * 16, 3)))
    return g.model(x)


def one_layer(sign: str, seed: int = 0) -> ModelProto:
    """A dense layer, a sign in one of the forms that exporters use, and a last layer."""
    g = Graph(["n", 20], seed)
    x = g.add("Add", g.add("MatMul", "image", g.constant(g.signs(20, 15))), g.constant(g.rng.normal(size=15)))
    zero, one, minus = g.constant(0.0), g.constant(1.0), g.constant(-1.0)
    if sign == "Where":
        x = g.add("Where", g.add("GreaterOrEqual", x, zero), one, minus)
    elif sign == "Less":
        x = g.add("Where", g.add("Less", x, zero), minus, one)
    elif sign == "turned":  # 0 >= x: -1 stands for numbers above 0.
        x = g.add("Where", g.add("Not", g.add("GreaterOrEqual", x, zero)), one, minus)
    elif sign == "Cast":
        x = g.add("Cast", g.add("LessOrEqual", zero, x), to=1)
        x = g.add("Sub", g.add("Mul", x, g.constant(2.0)), one)
    elif sign == "Clip":
        x = g.add("Sign", g.add("Clip", x, minus, one))
    elif sign == "MinMax":
        x = g.add("Sign", g.add("Max", g.add("Min", x, one), minus))
    elif sign == "Tanh":
        x = g.add("Sign", g.add("Tanh", x))
    elif sign == "threshold":
        x = g.add("Where", g.add("GreaterOrEqual", x, g.constant(g.rng.normal(size=15) * 100)), one, minus)
    x = g.add("MatMul", x, g.constant(g.signs(15, 4)))
    return g.model(g.add("Sub", g.constant(g.rng.normal(size=4)), x))


def save(model: ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def computed(model: ModelProto, images: np.ndarray) -> np.ndarray:
    """What the graph computes, by onnx's reference in NumPy, image by image: exports state a batch of 1."""
    run = ReferenceEvaluator(
        model, new_ops=[_operator("BipolarQuant", each) for each in (QONNX, "onnx.brevitas")] + [_Quant]
    )
    return np.concatenate([run.run(None, {"image": each[None].astype("f4")})[0] for each in images])


def _operator(op: str, domain: str) -> type[OpRun]:
    def run(self: OpRun, x: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray]:
        return (np.where(x >= 0, np.float32(1), np.float32(-1)) * scale,)

    return type(op, (OpRun,), {"op_domain": domain, "_run": run})


class _Quant(OpRun):
    op_domain = QONNX
    __qualname__ = "Quant"

    def _run(self, x, scale, zero, bits, rounding_mode=None, signed=None, narrow=None):
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        return (np.clip(np.rint(x / scale + zero), low, high).astype("f4") * scale,)


_Quant.__name__ = "Quant"
