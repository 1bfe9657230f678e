"""What becomes of the modules of a model that is converted, line by line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from cosim.errors import InputError
from cosim.network.mapping import Order
from cosim.surrogate.model import Surrogate
from cosim.training.reader import ReadMode

NOTHING_READ = "no layer of this model reads from an array (convert it without a surrogate)"


@dataclass(frozen=True, slots=True)
class Conversion:
    """What `convert` does with one module.

    Attributes:
        module: Its path in the model, "" for what concerns none.
        kind: Its class, or the function that a forward calls.
        action: "simulated", "kept" (it stays as it is), "left out" (without effect on the result) or "refused".
        says: What it becomes, or why it is refused.
    """

    module: str
    kind: str
    action: str
    says: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.module or 'model'} ({self.kind}): {self.action}: {self.says}"


@dataclass(frozen=True, slots=True)
class Options:
    """How a model is converted; see `convert`."""

    surrogate: Surrogate | None
    exclude: Sequence[str]
    real: Sequence[str]
    pixel_scale: float
    mode: ReadMode
    order: Order


def said(error: InputError) -> str:
    """An error's message and hint as what a line says."""
    return error.message + (f" ({error.hint})" if error.hint else "")


def any_refused(lines: Sequence[Conversion]) -> bool:
    """Whether a line says that something is refused."""
    return any(line.action == "refused" for line in lines)


def with_refused(lines: Sequence[Conversion], model: nn.Module, refused: Mapping[str, InputError]) -> list[Conversion]:
    """The lines with those of modules that cannot be read, by path.

    Where nothing else is wrong and `refused` is empty they stay as they are.
    """
    why = {name: said(error) for name, error in refused.items()}
    whole = [Conversion("", type(model).__name__, "refused", why[""])] if "" in why else []
    return [
        Conversion(line.module, line.kind, "refused", why[line.module])
        if line.module in why and line.action == "simulated"
        else line
        for line in lines
    ] + whole
