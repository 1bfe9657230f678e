"""What ONNX operators compute, on NumPy arrays: for constants, for all pixels 0..255, for what a sign can give."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cosim.errors import InputError
from cosim.training.onnx_file import BYTES_MAX, Array, Node, single

_CAST = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64}
_ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "ROUND_TO_ZERO": np.trunc,
}

_COMPARISONS: dict[str, Callable[..., Array]] = {
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
}
_SIMPLE: dict[str, Callable[..., Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Neg": np.negative,
    "Abs": np.abs,
    "Sqrt": np.sqrt,
    "Reciprocal": np.reciprocal,
    "Sign": np.sign,
    "Identity": np.asarray,
    "Not": np.logical_not,
    **_COMPARISONS,
    "Where": np.where,
}

VALUE_BY_VALUE = frozenset(_SIMPLE) | {"Cast", "Clip", "Min", "Max", "BipolarQuant", "Quant", "IntQuant"}
"""Operators whose result at a place depends on their inputs there alone."""

_SHAPES = frozenset({"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Concat", "Gather"})
COMPUTED = VALUE_BY_VALUE | _SHAPES
"""All that `compute` knows."""


_INPUTS = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", *_COMPARISONS, "BipolarQuant", "Reshape", "Gather"), (2, 2)),
    **dict.fromkeys(("Neg", "Abs", "Sqrt", "Reciprocal", "Sign", "Not", "Identity", "Cast"), (1, 1)),
    **dict.fromkeys(("Transpose", "Flatten", "Shape", "Softmax", "LogSoftmax", "Tanh", "MaxPool"), (1, 1)),
    **dict.fromkeys(("Squeeze", "Unsqueeze"), (1, 2)),
    **dict.fromkeys(("Clip", "Conv", "Gemm"), (1, 3)),
    **dict.fromkeys(("Min", "Max"), (2, 9)),
    **dict.fromkeys(("Quant", "IntQuant"), (4, 4)),
    "Concat": (1, 99),
    "Where": (3, 3),
    "MatMul": (2, 2),
    "BatchNormalization": (5, 5),
    "Pad": (1, 3),
    "Dropout": (1, 3),
}
_ANY_PLACE = ("Add", "Sub", "Mul", "Div", *_COMPARISONS, "Min", "Max", "Where")


def check_inputs(node: Node, constant: Callable[[str], bool]) -> None:
    """Refuse a node of too many or too few inputs, or one that does not take the image's numbers first.

    Args:
        constant: Whether a name is that of a constant.

    Raises:
        InputError: Naming the node.
    """
    fewest, most = _INPUTS.get(node.op, (1, 99))
    if not fewest <= len(node.inputs) <= most or not all(node.inputs[:fewest]):
        raise InputError(f"it takes {len(node.inputs)} inputs, expected {fewest} to {most}", place=node.place)
    depends = [bool(name) and not constant(name) for name in node.inputs]
    if any(depends[1:]) and node.op not in _ANY_PLACE:
        raise InputError("only its first input may depend on the image", place=node.place)


def compute(node: Node, inputs: Sequence[Array | None]) -> Array:
    """What a node gives for arrays; an optional input that is left out is None.

    Raises:
        InputError: The operator is not known here, its inputs do not fit it, or a result is not finite.
    """
    if node.op not in COMPUTED:
        raise InputError(f"{node.op} has no simulation", place=node.place)
    try:
        _check_size(node, inputs)
        with np.errstate(all="ignore"):
            result = np.asarray(_compute(node, list(inputs)))
    except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
        raise InputError(f"its inputs do not fit it: {str(error).splitlines()[0]}", place=node.place) from error
    if not result.size:
        raise InputError("it gives no numbers", place=node.place)
    if result.dtype.kind == "f" and not np.isfinite(result).all():
        raise InputError("it gives values that are not finite", place=node.place)
    return result


def _check_size(node: Node, inputs: Sequence[Array | None]) -> None:
    """Refuse small arrays that would grow to a large one."""
    given = [each for each in inputs if each is not None]
    size = float(sum(each.size for each in given))
    if node.op in VALUE_BY_VALUE:
        size = float(np.prod([float(each) for each in np.broadcast_shapes(*(each.shape for each in given))]))
    if node.op == "Gather" and len(given) > 1:
        size = float(given[0].size) * given[1].size
    if size > BYTES_MAX // 4:
        raise InputError("it gives more numbers than the largest model has", place=node.place)


def _compute(node: Node, inputs: list[Array | None]) -> Array:
    op = node.op
    given = [each for each in inputs if each is not None]
    if op in _SIMPLE:
        return np.asarray(_SIMPLE[op](*given))
    if op == "Cast":
        return given[0].astype(_CAST[_int(node, "to", 0)])
    if op in ("Min", "Max"):
        pick = np.minimum if op == "Min" else np.maximum
        result = given[0]
        for each in given[1:]:
            result = pick(result, each)
        return np.asarray(result)
    if op == "Clip":
        low, high = clip_bounds(node, inputs)
        return np.asarray(np.clip(given[0], low, high))
    if op == "BipolarQuant":
        return np.asarray(np.where(given[0] >= 0, np.float32(1), np.float32(-1)) * given[1])
    if op in ("Quant", "IntQuant"):
        return _quant(node, *given)
    if op == "Transpose":
        return np.transpose(given[0], axes_of(node))
    return _reshaped(node, given)


def _reshaped(node: Node, given: list[Array]) -> Array:
    axis = _int(node, "axis", 1 if node.op == "Flatten" else 0)
    first = given[0]
    if node.op == "Reshape":
        wanted = [int(each) for each in given[1].ravel()]
        return first.reshape([first.shape[i] if each == 0 else each for i, each in enumerate(wanted)])
    if node.op == "Flatten":
        return first.reshape(int(np.prod(first.shape[:axis])), -1)
    if node.op == "Concat":
        return np.concatenate(given, axis=axis)
    if node.op == "Gather":
        return np.asarray(np.take(first, given[1], axis=axis))
    axes = axes_of(node, given[1] if len(given) > 1 else None)
    return np.squeeze(first, axes) if node.op == "Squeeze" else np.expand_dims(first, axes or ())


def axes_of(node: Node, given: Array | None = None) -> tuple[int, ...] | None:
    """The axes that a node names, as `perm`, as `axes` or as its second input; None where it names none."""
    listed = node.attributes.get("perm", node.attributes.get("axes", given))
    if listed is None:
        return None
    axes = np.ravel(np.asarray(listed))
    if axes.dtype.kind not in "iu":
        raise InputError("its axes must be whole numbers", place=node.place)
    return tuple(int(each) for each in axes)


def clip_bounds(node: Node, inputs: Sequence[Array | None]) -> tuple[float, float]:
    """Bounds of a Clip from its inputs or, in old files, its attributes; without one it is infinite."""
    bounds: list[float] = []
    for position, name in ((1, "min"), (2, "max")):
        given = inputs[position] if len(inputs) > position else node.attributes.get(name)
        if given is None:
            bounds.append(-np.inf if name == "min" else np.inf)
        else:
            bounds.append(single(given, node, name))
    return bounds[0], bounds[1]


def _quant(node: Node, x: Array, scale: Array, zero: Array, bits: Array) -> Array:
    """QONNX's integer quantization (Pappalardo et al., "QONNX", 2022): rounded to a grid and clipped to its ends."""
    signed, narrow = _int(node, "signed", 1), _int(node, "narrow", 0)
    mode = str(node.attributes.get("rounding_mode", "ROUND")).upper()
    if mode not in _ROUNDINGS:
        raise InputError(f"rounding_mode must be one of {', '.join(_ROUNDINGS)}, got {mode}", place=node.place)
    width = single(bits, node, "bit width")
    if not 1 <= width <= 32:
        raise InputError(f"a bit width of {width:g}, expected 1 to 32", place=node.place)
    low = -(2.0 ** (width - 1)) + narrow if signed else 0.0
    high = 2.0 ** (width - 1) - 1 if signed else 2.0**width - 1 - narrow
    whole = np.clip(_ROUNDINGS[mode](x / scale + zero), low, high)
    return np.asarray((whole - zero) * scale, np.float32)


def _int(node: Node, name: str, default: int) -> int:
    value = node.attributes.get(name, default)
    if not isinstance(value, int):
        raise InputError(f"its attribute {name} is no whole number", place=node.place)
    return value
