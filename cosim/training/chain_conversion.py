"""A chain of modules converted: an nn.Sequential of binary layers, read through a surrogate where there is one."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from cosim.errors import InputError
from cosim.surrogate.model import Surrogate
from cosim.training.becomes import NOTHING_READ, Conversion, Options, any_refused, said, with_refused
from cosim.training.chain import Call, unused_modules
from cosim.training.groups import gives_reals
from cosim.training.layer_building import Builder
from cosim.training.planes import Taken
from cosim.training.reading import Binary, read_layers
from cosim.training.sum_norm import sum_norm


def convert_chain(
    model: nn.Module, calls: Sequence[Call], options: Options
) -> tuple[list[Conversion], nn.Sequential | None]:
    """What becomes of every call, and the network; None where one is refused."""
    builder = Builder(options.pixel_scale, simulated=options.surrogate is not None)
    lines = _lines(model, builder, calls, options)
    if options.surrogate is not None and not any_refused(lines):
        lines = with_refused(lines, model, _read(builder, options.surrogate, options))
    return lines, None if any_refused(lines) else nn.Sequential(builder.modules)


def _lines(model: nn.Module, builder: Builder, calls: Sequence[Call], options: Options) -> list[Conversion]:
    lines = [_line(builder, call, calls[index + 1 :], options) for index, call in enumerate(calls)]
    if not calls:
        lines.append(Conversion("", type(model).__name__, "refused", "the forward calls no module"))
    if not any_refused(lines):
        problem = builder.finish()
        if problem:
            lines.append(Conversion(calls[-1].name, _kind(calls[-1]), "refused", problem))
        unused = unused_modules(model, [call.name for call in calls])
        lines += [Conversion(name, "not called", "left out", "the forward does not use it") for name in unused]
    return lines


def _line(builder: Builder, call: Call, after: Sequence[Call], options: Options) -> Conversion:
    def line(action: str, says: str) -> Conversion:
        return Conversion(call.name, _kind(call), action, says)

    if call.problem or call.module is None:
        return line("refused", call.problem)
    try:
        if call.name in options.real and isinstance(call.module, nn.Linear | nn.Conv2d):
            return line("simulated", builder.add_real(call.name, call.module))
        if any(call.name == each or call.name.startswith(f"{each}.") for each in options.exclude):
            return line("kept", builder.keep(call.name, call.module))
        return line(*builder.add(call.name, call.module, last=not after))
    except InputError as error:
        return line("refused", said(error))


def _read(builder: Builder, surrogate: Surrogate, options: Options) -> dict[str, InputError]:
    """Put simulated layers in the chain; why some have none, by the path of the module, "" for the whole."""
    if not builder.reads:
        return {"": InputError(NOTHING_READ)}
    modules = builder.modules
    layers: dict[str, tuple[Binary, Taken]] = {}
    for name, taken in builder.reads.items():
        module = modules[name]
        assert isinstance(module, Binary)
        layers[name] = module, taken
    made, refused = read_layers(layers, surrogate, mode=options.mode, order=options.order)
    modules.update(made)
    for name, bits in builder.norms.items():
        norm = modules.get(name)  # None of a last batch norm, which became a scale and offset.
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and not gives_reals(norm):  # Reals are no threshold's.
            modules[name] = sum_norm(norm, bits)
    return {builder.places[name]: error for name, error in refused.items()}


def _kind(call: Call) -> str:
    return call.function or type(call.module).__name__
