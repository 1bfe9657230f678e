"""Layers of a converted model made to read their partial sums, or what keeps them from it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cosim.errors import InputError
from cosim.network.mapping import ORDERS, Order, map_window
from cosim.network.window import Window
from cosim.surrogate.model import Surrogate
from cosim.training.binary import BinaryLinear
from cosim.training.convolutional import BinaryConv2d
from cosim.training.planes import Taken
from cosim.training.reader import check_fresh_mode
from cosim.training.simulated import Simulated, SimulatedConv2d, SimulatedLinear

Binary = BinaryLinear | BinaryConv2d


def check_reading(surrogate: Surrogate | None, mode: str | None, order: str | None) -> None:
    """Refuse a mode and a row order that there are not, or that have nothing to act on.

    Raises:
        InputError: One of them, or what is given is no surrogate.
    """
    if surrogate is None:
        if mode is not None or order is not None:
            hint = "give the surrogate"
            raise InputError("a mode or a row order is for layers that read through a surrogate", hint=hint)
        return
    if not isinstance(surrogate, Surrogate):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(
            f"a surrogate is expected, got {type(surrogate).__name__}", hint="cosim.load_surrogate(path), or fit(store)"
        )
    if mode is not None:
        check_fresh_mode(mode)
    if order is not None and order not in ORDERS:
        raise InputError(f"the row order must be one of {', '.join(ORDERS)}, got {order!r}")


def read_layers(
    layers: Mapping[str, tuple[Binary, Taken]], surrogate: Surrogate, *, mode: str, order: Order
) -> tuple[dict[str, Simulated], dict[str, InputError]]:
    """Simulated layers in the place of binary ones, and why some have none; by name.

    Args:
        layers: The layers that read from arrays, in order, and what each takes.
    """
    made: dict[str, Simulated] = {}
    refused: dict[str, InputError] = {}
    for number, (name, (module, taken)) in enumerate(layers.items()):
        about = surrogate, taken, order, number, mode
        try:
            made[name] = _layer(module, *about)
            _check_rows(module, taken, surrogate, order)
        except InputError as error:
            refused[name] = error
    return made, refused


def _layer(module: Binary, surrogate: Surrogate, taken: Taken, order: Order, number: int, mode: str) -> Simulated:
    if isinstance(module, BinaryConv2d):
        return SimulatedConv2d(module, surrogate, taken=taken, order=order, layer=number, mode=mode)
    weight, bits = module.weight.detach().clone(), module.bits
    return SimulatedLinear(weight, surrogate, bits=bits, taken=taken, order=order, layer=number, mode=mode)


def _check_rows(module: Binary, taken: Taken, surrogate: Surrogate, order: Order) -> None:
    """Refuse sub-arrays with fewer rows on than the surrogate knows, away from padding, in any sensing.

    In padding a map's size decides, and `calibrate` refuses.
    """
    _, channels, *kernel = (*module.weight.shape, 1, 1)[:4]
    window = Window((channels, kernel[0], kernel[1]), (kernel[0], kernel[1]))
    kinds = map_window(window, surrogate.rows, order, on_off=taken.on_off).kinds
    for n in kinds[:1] if taken.on_off else kinds:
        errors: list[InputError] = []
        for sensing in surrogate.sensings:
            minus = np.arange(n + 1.0)
            try:
                surrogate.check_active(sensing, n)
                surrogate.moments(sensing, minus, n - minus)
            except InputError as error:
                errors.append(error)
        if len(errors) == len(surrogate.sensings):
            inputs = "inputs of 0 turn rows off" if taken.on_off else f"a column has {window.in_features} inputs"
            why = f"{inputs}, so that sub-arrays have {n} rows on, of which the surrogate does not tell"
            raise InputError(f"{why}: {errors[0].message}", hint=errors[0].hint)
