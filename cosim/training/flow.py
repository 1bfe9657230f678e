"""The steps of a forward that is no chain: what each takes, and how often its output is taken."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import fx, nn

from cosim.training.chain import is_shape, module_of, traced

PIXELS = -1
"""The number of the model's own input among what steps take."""

_ADDITIONS = ("add", "iadd", "add_")
_IN_PLACE = ("iadd", "add_")


@dataclass(frozen=True, slots=True)
class Step:
    """One module, or function, as the forward calls it.

    Attributes:
        name: Its path in the model; for a function the name of the call in the trace.
        kind: Its class, or the function.
        module: The module, or one that does what the function does; None for an addition.
        inputs: Numbers of the steps whose outputs it takes.
        users: How many steps take its output.
        problem: Why it cannot be part of a packed network, found already in the trace; "" for nothing found.
    """

    name: str
    kind: str
    module: nn.Module | None
    inputs: tuple[int, ...]
    users: int
    problem: str = ""


def steps_of(model: nn.Module, whole: Collection[str]) -> tuple[Step, ...]:
    """The steps on which the output depends, in order; the last gives it.

    Args:
        whole: Paths of modules that count as one step, whatever is in them.

    Raises:
        InputError: torch.fx cannot trace the forward.
    """
    root, graph = traced(model, whole)
    used = _used(graph)
    nodes = [node for node in used if node.op not in ("placeholder", "output") and not is_shape(node)]
    inputs = [node for node in used if node.op == "placeholder"]
    number = {node: index for index, node in enumerate(nodes)} | dict.fromkeys(inputs, PIXELS)
    modules = dict(root.named_modules())
    found = [_step(node, modules, number) for node in nodes]
    last = next(node for node in graph.nodes if node.op == "output").args[0]
    if len(inputs) != 1 or not nodes or last is not nodes[-1]:
        said = "the forward must take one input and return the output of its last module alone"
        found.append(Step("output", "output", None, (), 0, said))
    return tuple(found)


def _used(graph: fx.Graph) -> list[fx.Node]:
    """The nodes on which the output depends."""
    needed = {node for node in graph.nodes if node.op == "output"}
    for node in reversed(list(graph.nodes)):
        if node in needed:
            needed |= set(node.all_input_nodes)
    return [node for node in graph.nodes if node in needed]


def _step(node: fx.Node, modules: dict[str, nn.Module], number: dict[fx.Node, int]) -> Step:
    sources = [each for each in node.args if isinstance(each, fx.Node) and not is_shape(each)]
    inputs = tuple(number[each] for each in sources if each in number)
    users = sum(user in number for user in node.users)
    module = modules.get(str(node.target)) if node.op == "call_module" else None
    name = str(node.target) if module is not None else node.name
    kind = type(module).__name__ if module is not None else str(getattr(node.target, "__name__", node.target))
    problem = ""
    adds = module is None and kind in _ADDITIONS
    if node.op == "get_attr":
        return Step(str(node.target), "parameter", None, inputs, users, "a parameter or buffer used in a forward")
    if adds and (len(inputs) != 2 or len(node.args) != 2 or node.kwargs):
        problem = "an addition is of two outputs of modules"
    elif not adds and len(inputs) != 1:
        problem = "it does not take the output of one module alone"
    elif module is None and not adds:
        module = module_of(node, kind)
        problem = "" if module is not None else f"the function {kind} in a forward has no simulation"
    in_place = kind in _IN_PLACE or bool(getattr(module, "inplace", False))
    if in_place and not problem and _later(node, sources[0], number):
        problem = "it writes over its input, which is used again later"
    return Step(name, kind, module, inputs, users, problem)


def _later(node: fx.Node, source: fx.Node, number: dict[fx.Node, int]) -> bool:
    return any(number.get(user, PIXELS) > number[node] for user in source.users)
