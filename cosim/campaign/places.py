"""Says where in a recipe an error belongs that a circuit found."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from cosim.circuit.contract import ContractFile
from cosim.errors import InputError


@contextmanager
def at_key(recipe: str | Path, *keys: str | int) -> Generator[None]:
    """Gives errors of the block that know no line of their own the line of a key in the recipe.

    Args:
        recipe: The recipe's file.
        keys: The key, from the outermost table inwards; its nearest parent where it is not written.
    """
    try:
        yield
    except InputError as error:
        if error.place is not None and ":" in error.place:
            raise
        message = f"{error.place}: {error.message}" if error.place else error.message
        raise ContractFile(Path(recipe)).error(keys, message, error.hint) from error
