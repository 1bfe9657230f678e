"""A forward with shortcuts, or a `Graph`, converted into a `Graph`, read through a surrogate where there is one."""

from __future__ import annotations

import copy

from torch import nn

from cosim.errors import InputError
from cosim.surrogate.model import Surrogate
from cosim.training.becomes import NOTHING_READ, Conversion, Options, any_refused, said, with_refused
from cosim.training.chain import unused_modules
from cosim.training.flow import steps_of
from cosim.training.graph import Graph, GraphLayer
from cosim.training.graph_building import GraphBuilder
from cosim.training.groups import gives_reals
from cosim.training.kept import KeptLayer
from cosim.training.layer_building import AVERAGED_SUMS
from cosim.training.planes import Taken
from cosim.training.reading import Binary, read_layers
from cosim.training.simulated import plain
from cosim.training.sum_norm import plain_norm, sum_norm


def convert_flow(model: nn.Module, options: Options) -> tuple[list[Conversion], Graph | None]:
    """What becomes of every step of a forward, and the network; None where one is refused.

    Raises:
        InputError: torch.fx cannot trace the forward.
    """
    steps = steps_of(model, options.exclude)
    builder = GraphBuilder(steps, options.pixel_scale, options.exclude, options.real)
    lines: list[Conversion] = []
    for number, step in enumerate(steps):
        try:
            action, says = builder.follow(number)
        except InputError as error:
            action, says = "refused", said(error)
            builder.values.append(None)
        lines.append(Conversion(step.name, step.kind, action, says))
    if any_refused(lines):
        return lines, None
    try:
        graph = builder.graph()
    except InputError as error:
        return [*lines, Conversion(steps[-1].name, steps[-1].kind, "refused", said(error))], None
    unused = unused_modules(model, [step.name for step in steps])
    lines += [Conversion(name, "not called", "left out", "the forward does not use it") for name in unused]
    return _read_through(graph, lines, model, options)


def convert_graph(graph: Graph, options: Options) -> tuple[list[Conversion], Graph | None]:
    """What becomes of every layer of a `Graph`, and the network; None where one is refused."""
    lines: list[Conversion] = []
    if options.exclude or options.pixel_scale != 1.0:
        why = "its layers are packed as they are, on pixels 0..255: it takes neither exclude nor pixel_scale"
        lines.append(Conversion("", "Graph", "refused", why))
    graph = copy.deepcopy(graph)
    read = _reads(graph)
    for layer in graph.graph_layers:
        if isinstance(layer, KeptLayer):
            lines.append(Conversion(layer.name, type(layer.module).__name__, "kept", "in floating point"))
            continue
        if isinstance(layer.weights, Binary):
            layer.weights = plain(layer.weights)
        norm = plain_norm(layer.norm)
        assert norm is None or isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
        layer.norm = norm
        kind = type(layer.weights).__name__
        where = "read from the array" if layer.name in read else "digital"
        lines.append(Conversion(layer.name, kind, "simulated", f"{kind}, {where}; as it is"))
    return (lines, None) if any_refused(lines) else _read_through(graph, lines, graph, options)


def _read_through(
    graph: Graph, lines: list[Conversion], model: nn.Module, options: Options
) -> tuple[list[Conversion], Graph | None]:
    """The network read through the surrogate, if there is one."""
    if options.surrogate is not None:
        lines = with_refused(lines, model, _read(graph, options.surrogate, options))
    return lines, None if any_refused(lines) else graph


def _read(graph: Graph, surrogate: Surrogate, options: Options) -> dict[str, InputError]:
    """Put simulated layers in a network; why some have none, by their names, "" for the whole."""
    reads = _reads(graph)
    if not reads:
        return {"": InputError(NOTHING_READ)}
    layers: dict[str, tuple[Binary, Taken]] = {}
    for name, (layer, taken) in reads.items():
        assert isinstance(layer.weights, Binary)
        layers[name] = layer.weights, taken
    made, refused = read_layers(layers, surrogate, mode=options.mode, order=options.order)
    for name, simulated in made.items():
        layer = reads[name][0]
        layer.weights = simulated
        if layer.norm is not None and not gives_reals(layer.norm):
            if layer.pool_of == "sums" and layer.pool is not None and not isinstance(layer.pool, nn.MaxPool2d):
                refused[name] = InputError(AVERAGED_SUMS)
            layer.norm = sum_norm(layer.norm, layer.output_bits)
    return refused


def _reads(graph: Graph) -> dict[str, tuple[GraphLayer, Taken]]:
    """The layers that read from arrays, and what they take: all of binary weights but one on the pixels."""
    found: dict[str, tuple[GraphLayer, Taken]] = {}
    before: dict[str, GraphLayer | KeptLayer] = {}
    last: GraphLayer | KeptLayer | None = None
    for layer in graph.graph_layers:
        source = before[layer.source] if layer.source else last
        on_signs = source is not None or graph.pixels is not None
        if on_signs and isinstance(layer, GraphLayer) and isinstance(layer.weights, Binary):
            taken = Taken(layer.activation_bits, layer.input == "on_off", _flattened(layer, source))
            found[layer.name] = layer, taken
        before[layer.name] = last = layer
    return found


def _flattened(layer: GraphLayer, source: GraphLayer | KeptLayer | None) -> int | None:
    """Channels of the map that a dense layer takes; None where it takes columns, or a map that is not known."""
    if not isinstance(source, GraphLayer) or source.weights.weight.ndim != 4 or layer.weights.weight.ndim == 4:
        return None
    return len(source.weights.weight)
