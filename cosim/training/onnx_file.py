"""ONNX files read as plain data: nodes, constants, one input, one output; nothing is executed, no other file opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from cosim.errors import InputError, UnsafeError
from cosim.text_files import reason

BYTES_MAX = 2**28
"""Of a file: the largest binary networks of the field have some 30 million weights in float32."""

NODES_MAX = 10_000
QONNX = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
"""Domains of QONNX's own operators: today's, that of Brevitas before it is cleaned up, and an older one."""

_OWN = ("BipolarQuant", "Quant", "IntQuant")
_STANDARD = ("", "ai.onnx")

Array = np.ndarray
Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | Array


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation.

    Attributes:
        name: Its name, or its operator and number where it has none.
        op: Operator.
        inputs: Names of what it takes, "" for an optional input that is left out.
        output: Name of its first result; others, which only training has, are not kept.
        attributes: By name.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Attribute]

    @property
    def place(self) -> str:
        """For messages."""
        return f"node {self.name} ({self.op})"


@dataclass(frozen=True, slots=True, eq=False)
class OnnxGraph:
    """What a file holds.

    Attributes:
        nodes: Those that the output needs, each after what it takes.
        constants: Arrays by name.
        input: Name of the one input.
        shape: Of the input; 0 where a size is not stated.
        output: Name of the one output.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    input: str
    shape: tuple[int, ...]
    output: str


def read_onnx(path: str | Path) -> OnnxGraph:
    """The graph of a file.

    Raises:
        InputError: onnx is not installed; the file cannot be read, is too large, or is no ONNX model of one input and
            one output; a node is of an unknown domain.
        UnsafeError: Tensors lie in other files.
    """
    if find_spec("onnx") is None:
        raise InputError("reading ONNX files needs onnx, which is not installed", hint="pip install 'cosim[onnx]'")
    path = Path(path)
    try:
        return _graph(_model(path))
    except (InputError, UnsafeError) as error:
        place = f"{path}: {error.place}" if error.place else str(path)
        raise type(error)(error.message, place=place, hint=error.hint) from error


def _model(path: Path) -> Any:
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    try:
        size = path.stat().st_size
        if size > BYTES_MAX:
            raise InputError(f"{size} bytes are more than the {BYTES_MAX} of the largest model that is read")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {reason(error)}") from error
    try:
        return ModelProto.FromString(content)
    except DecodeError as error:
        raise InputError("no ONNX file, or a damaged one") from error


def _graph(model: Any) -> OnnxGraph:
    graph = model.graph
    if not graph.node or len(graph.node) > NODES_MAX:
        raise InputError(f"no ONNX model: {len(graph.node)} nodes, expected 1 to {NODES_MAX}")
    if graph.sparse_initializer or len(graph.quantization_annotation) > NODES_MAX:
        raise InputError("sparse tensors are not read")
    listed = (*graph.initializer, *graph.input, *graph.output)
    _refuse_bytes((each.name for each in listed), "graph")
    constants = {each.name: _array(each, f"tensor {each.name}") for each in graph.initializer}
    inputs = [each for each in graph.input if each.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise InputError(f"{len(inputs)} inputs and {len(graph.output)} outputs, expected one of each")
    nodes: list[Node] = []
    for number, each in enumerate(graph.node):
        node = _node(each, number)
        if node.op == "Constant":
            constants[node.output] = _constant(node)
        else:
            nodes.append(node)
    output = graph.output[0].name
    dims = inputs[0].type.tensor_type.shape.dim
    shape = tuple(int(each.dim_value) for each in dims)
    return OnnxGraph(_needed(nodes, output), constants, inputs[0].name, shape, output)


def _node(proto: Any, number: int) -> Node:
    texts = (proto.op_type, proto.domain, proto.name, *proto.input, *proto.output, *(a.name for a in proto.attribute))
    _refuse_bytes(texts, f"node {number}")
    name = f"{proto.name or f'{proto.op_type}_{number}'}"
    place = f"node {name} ({proto.op_type})"
    if proto.domain not in (*_STANDARD, *QONNX) or (proto.domain in QONNX) != (proto.op_type in _OWN):
        domain = f" of the domain {proto.domain!r}" if proto.domain else ""
        raise InputError(f"{proto.op_type}{domain} has no simulation", place=place)
    if not proto.output:
        raise InputError("it has no output", place=place)
    attributes = {each.name: _attribute(each, place) for each in proto.attribute}
    return Node(name, proto.op_type, tuple(proto.input), proto.output[0], attributes)


def _refuse_bytes(texts: Iterable[object], place: str) -> None:
    """Refuse names that are no UTF-8, which protobuf gives as bytes."""
    if any(isinstance(each, bytes) for each in texts):
        raise InputError("a damaged file: a name that is no text", place=place)


def _attribute(proto: Any, place: str) -> Attribute:
    from onnx import AttributeProto

    kinds = {
        AttributeProto.INT: lambda: int(proto.i),
        AttributeProto.FLOAT: lambda: float(proto.f),
        AttributeProto.STRING: lambda: proto.s.decode("utf-8", "replace"),
        AttributeProto.INTS: lambda: tuple(int(each) for each in proto.ints),
        AttributeProto.FLOATS: lambda: tuple(float(each) for each in proto.floats),
        AttributeProto.TENSOR: lambda: _array(proto.t, place),
    }
    if proto.type not in kinds:
        raise InputError(f"its attribute {proto.name} is no number, text or tensor", place=place)
    return kinds[proto.type]()


def _constant(node: Node) -> Array:
    """The value of a Constant node, whichever of its attributes holds it."""
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        if name in node.attributes:
            values = np.asarray(node.attributes[name])
            if values.size and values.dtype.kind in "biuf" and np.isfinite(values).all():
                return values
    raise InputError("a constant without numbers", place=node.place)


def _array(proto: Any, place: str) -> Array:
    """A tensor's numbers, of the file itself.

    Raises:
        UnsafeError: They lie in another file.
        InputError: They are no numbers, or not as many as the shape says.
    """
    from onnx import TensorProto, numpy_helper

    if proto.data_location == TensorProto.EXTERNAL or proto.external_data:
        raise UnsafeError(
            "its numbers lie in another file, which is not opened", place=place, hint="save the model as one file"
        )
    kinds = ("FLOAT", "DOUBLE", "FLOAT16", "INT8", "UINT8", "INT16", "INT32", "INT64", "BOOL")
    if proto.data_type not in [getattr(TensorProto, kind) for kind in kinds]:
        raise InputError(f"its type is none of {', '.join(kinds)}", place=place)
    if any(each < 0 for each in proto.dims) or np.prod([float(each) for each in proto.dims]) > BYTES_MAX:
        raise InputError(f"a shape of {tuple(proto.dims)}", place=place)
    try:
        values = numpy_helper.to_array(proto)
    except (ValueError, TypeError) as error:
        raise InputError(f"its numbers do not fill its shape {tuple(proto.dims)}", place=place) from error
    if not values.size:
        raise InputError("it holds no numbers", place=place)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError("it has values that are not finite", place=place)
    return values


def single(values: Attribute | None, node: Node, what: str) -> float:
    """One number.

    Raises:
        InputError: It is none, or more than one.
    """
    numbers = np.asarray(values)
    if numbers.size != 1 or numbers.dtype.kind not in "biuf" or not np.isfinite(numbers).all():
        raise InputError(f"its {what} must be one number", place=node.place)
    return float(numbers.reshape(()))


def _needed(nodes: Sequence[Node], output: str) -> tuple[Node, ...]:
    """The nodes on the way to the output, each after what it takes; those that stand in a circle are left out."""
    makes = {node.output: node for node in nodes}
    wanted, pending = set[str](), [output]
    while pending:
        name = pending.pop()
        if name in makes and name not in wanted:
            wanted.add(name)
            pending += makes[name].inputs
    return tuple(_ordered([node for node in nodes if node.output in wanted]))


def _ordered(nodes: Iterable[Node]) -> list[Node]:
    """Nodes after the nodes whose outputs they take, else in the order of the file."""
    waiting, made = list(nodes), list[Node]()
    ready = {node.output for node in waiting}
    while waiting:
        later = [node for node in waiting if any(name in ready for name in node.inputs)]
        now = [node for node in waiting if node not in later]
        if not now:
            raise InputError("its nodes stand in a circle", place=waiting[0].place)
        made += now
        ready -= {node.output for node in now}
        waiting = later
    return made
