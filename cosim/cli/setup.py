"""`cosim data` and `cosim doctor`: what this machine has, and what it lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from cyclopts import Parameter

from cosim.cli.console import note, show

Json = Annotated[bool, Parameter(name="--json", negative="")]
DATASETS: tuple[Literal["mnist", "fashion_mnist", "cifar10"], ...] = ("mnist", "fashion_mnist", "cifar10")


def data(
    action: Literal["check", "fetch"] = "check",
    name: Literal["mnist", "fashion_mnist", "cifar10", "all"] = "all",
    /,
    *,
    json: Json = False,
) -> None:
    """Check the data sets that are here, or fetch one from its official address.

    Args:
        action: check finds and verifies; fetch downloads into the cache, then verifies.
        name: The data set.
        json: Print one JSON object.

    Raises:
        InputError: One is missing or damaged; said after all have been looked at.
    """
    from cosim.datasets import fetch, load_images
    from cosim.errors import InputError

    names = DATASETS if name == "all" else (name,)
    found: dict[str, str] = {}
    missing: InputError | None = None
    for each in names:
        if action == "fetch":
            for line in fetch(each):
                note(line)
        try:
            sizes = [len(load_images(each, split).labels) for split in ("train", "test")]
            found[each] = f"{sizes[0]} training and {sizes[1]} test images, verified"
        except InputError as error:
            found[each] = str(error).removeprefix(f"{each}: ")
            missing = missing or error
    show([f"{each}: {state}" for each, state in found.items()], found, json)
    if missing is not None:
        raise missing


def doctor(*, json: Json = False) -> None:
    """Say what cosim finds on this machine: ngspice, its library, the data sets; exit code 5 without ngspice.

    Args:
        json: Print one JSON object.
    """
    from cosim.datasets import load_images
    from cosim.errors import EngineMissingError

    checks: dict[str, Callable[[], str]] = {
        "cosim": _version,
        "ngspice library": lambda: _engine("shared"),
        "ngspice program": lambda: _engine("batch"),
        "torch (training only)": _torch,
    }
    checks |= {
        each: lambda each=each: f"{len(load_images(each, 'test').labels)} test images, verified" for each in DATASETS
    }
    states, failure = {}, None
    for name, check in checks.items():
        try:
            states[name] = check()
        except Exception as error:
            states[name] = f"MISSING: {error}"
            failure = failure or (error if isinstance(error, EngineMissingError) else None)
    show([f"{name}: {state}" for name, state in states.items()], states, json, "cosim demo" if failure is None else "")
    if failure is not None:
        raise failure


def _version() -> str:
    from importlib.metadata import version

    return version("cosim")


def _engine(name: Literal["shared", "batch"]) -> str:
    from cosim.spice.engine import open_engine
    from cosim.spice.library import find_library, find_program

    engine = open_engine(name)
    version = engine.version
    engine.close()
    return f"ngspice {version} at {find_library() if name == 'shared' else find_program()}"


def _torch() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("torch")
    except PackageNotFoundError:
        return "not installed; pip install 'cosim[train]'"
