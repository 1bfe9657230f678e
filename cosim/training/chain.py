"""The modules of a user's own model in the order in which its forward calls them."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from cosim.errors import InputError

NO_LINK = "it does not take the output of the module before it alone (no shortcuts)"
_SHAPE = ("size", "shape", "dim")


@dataclass(frozen=True, slots=True)
class Call:
    """One module as the forward calls it.

    Attributes:
        name: Its path in the model; for a function the name of the call in the trace.
        module: The module; None for a function that has none.
        problem: Why it cannot be simulated, found already in the trace; "" for nothing found.
        function: Name of the function that it stands for, "" for a module.
    """

    name: str
    module: nn.Module | None
    problem: str = ""
    function: str = ""


def chain_of(model: nn.Module) -> tuple[Call, ...]:
    """The calls from the input to the output, in order; the first that is no link of a chain has a problem and ends it.

    Raises:
        InputError: torch.fx cannot trace the forward.
    """
    root, graph = traced(model)
    modules = dict(root.named_modules())
    calls: list[Call] = []
    value: fx.Node | None = None
    for node in graph.nodes:
        if is_shape(node):
            continue
        if node.op == "placeholder":
            if value is not None:
                return (*calls, Call(str(node.target), None, "a second input of the forward"))
            value = node
        elif node.op == "output":
            if node.args[0] is not value:
                calls.append(Call("output", None, "the forward must return the output of its last module alone"))
        else:
            call = _call(node, modules, value)
            calls.append(call)
            if call.problem:
                break
            value = node
    return tuple(calls)


def traced(model: nn.Module, whole: Collection[str] = ()) -> tuple[nn.Module, fx.Graph]:
    """The forward as torch.fx sees it, and the module that its names are of.

    Args:
        whole: Paths of modules that count as one step, whatever is in them.

    Raises:
        InputError: torch.fx cannot trace the forward.
    """
    root = model if any(True for _ in model.children()) else nn.Sequential(model)
    try:
        graph = _Tracer(whole).trace(root)
    except Exception as error:  # A user's forward may raise anything on torch.fx's proxies.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"the forward cannot be traced: {reason}",
            place=f"model {type(model).__name__}",
            hint="a forward without branches on values, and autograd functions inside modules of their own",
        ) from error
    for node in list(graph.nodes):
        _split_mean(graph, node)
    return root, graph


def unused_modules(model: nn.Module, called: Iterable[str]) -> tuple[str, ...]:
    """Paths of the modules without children that no call uses."""
    used = set(called)
    inner = any(True for _ in model.children())
    leaves = [name for name, module in model.named_modules() if name and not any(True for _ in module.children())]
    return tuple(name for name in leaves if inner and name not in used and not _inside(name, used))


def _inside(name: str, used: set[str]) -> bool:
    return any(name.startswith(f"{each}.") for each in used)


class _Tracer(fx.Tracer):
    """Enters modules that have children, unless they are torch's own, hold parameters themselves or are `whole`."""

    def __init__(self, whole: Collection[str]) -> None:
        super().__init__()
        self._whole = whole

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module counts as one step."""
        if super().is_leaf_module(m, module_qualified_name) or module_qualified_name in self._whole:
            return True
        return not any(True for _ in m.children()) or any(True for _ in m.parameters(recurse=False))


def _split_mean(graph: fx.Graph, node: fx.Node) -> None:
    """Put a global average, and a flattening unless the dimensions are kept, in the place of a mean over a map."""
    if node.target is not torch.mean and not (node.op == "call_method" and node.target == "mean"):
        return
    given = dict(zip(("input", "dim", "keepdim"), node.args, strict=False)) | node.kwargs
    dims = given.get("dim")
    if given.keys() - {"input", "dim", "keepdim"} or not isinstance(dims, list | tuple):
        return
    if sorted(dims, key=str) not in ([2, 3], [-1, -2]) or not isinstance(given["input"], fx.Node):
        return
    with graph.inserting_before(node):
        name, size = f"{node.name}_over_the_map", (given["input"], 1)
        taken = graph.create_node("call_function", nn.functional.adaptive_avg_pool2d, size, name=name)
        if not given.get("keepdim", False):
            taken = graph.create_node("call_function", torch.flatten, (taken, 1), name=f"{node.name}_as_columns")
    node.replace_all_uses_with(taken)
    graph.erase_node(node)


def is_shape(node: fx.Node) -> bool:
    """Whether a node only asks for sizes."""
    if node.op == "call_method":
        return node.target in _SHAPE
    if node.op == "call_function" and node.target is getattr:
        return len(node.args) > 1 and node.args[1] in _SHAPE
    first = node.args[0] if node.args else None
    return (
        node.op == "call_function"
        and node.target is operator.getitem
        and isinstance(first, fx.Node)
        and is_shape(first)
    )


def _call(node: fx.Node, modules: dict[str, nn.Module], value: fx.Node | None) -> Call:
    inputs = [each for each in node.all_input_nodes if not is_shape(each)]
    module = modules.get(str(node.target)) if node.op == "call_module" else None
    name = str(node.target) if module is not None else node.name
    function = "" if module is not None else str(getattr(node.target, "__name__", node.target))
    if node.op == "get_attr":
        return Call(str(node.target), None, "a parameter or buffer used directly in a forward")
    if len(inputs) != 1 or inputs[0] is not value:
        return Call(name, module, NO_LINK, function)
    if module is None:
        module = module_of(node, function)
        if module is None:
            return Call(name, None, f"the function {function} in a forward has no simulation", function)
    return Call(name, module, "", function)


def module_of(node: fx.Node, function: str) -> nn.Module | None:
    """The module that does what a function call does, for those that are known."""
    extra: list[Any] = [each for each in node.args[1:] if not isinstance(each, fx.Node)]
    sizes = len(node.args) - 1 == 2 and node.args[2] == -1
    options: dict[str, Any] = dict(node.kwargs)
    if function in ("sign", "tanh") and not extra and not options:
        return _TorchSign() if function == "sign" else nn.Tanh()
    if function in ("avg_pool2d", "adaptive_avg_pool2d") and len(extra) == 1 and not options:
        return nn.AvgPool2d(extra[0]) if function == "avg_pool2d" else nn.AdaptiveAvgPool2d(extra[0])
    if function == "hardtanh" and not extra and not (options.keys() - {"min_val", "max_val", "inplace"}):
        return nn.Hardtanh(float(options.get("min_val", -1.0)), float(options.get("max_val", 1.0)))
    if function == "flatten" and (extra == [1] or options == {"start_dim": 1}) and not (extra and options):
        return nn.Flatten()
    if function in ("view", "reshape") and sizes and not options and isinstance(node.args[1], fx.Node):
        return nn.Flatten()
    return None


class _TorchSign(nn.Module):
    """torch.sign as a module, to be probed like a user's own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Signs, 0 at 0."""
        return torch.sign(x)
