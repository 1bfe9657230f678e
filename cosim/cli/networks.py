"""`cosim evaluate` and `cosim train`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from cosim.cli.console import SomeWhole, Whole, meter, note, percent, show, table

if TYPE_CHECKING:
    from cosim.network.outcome import Outcome

Json = Annotated[bool, Parameter(name="--json", negative="")]


def evaluate(
    network: str,
    *,
    surrogate: str = "xnor_8t",
    mode: Literal["ideal", "nominal", "iid", "all"] = "all",
    sensing: Literal["single_ended", "differential"] | None = None,
    bits: SomeWhole = None,
    mlsa: Literal["flash", "sequential"] = "flash",
    adc: str | None = None,
    levels_per: Literal["pair", "layer"] | None = None,
    corner: str | None = None,
    vdd: float | None = None,
    temp: float | None = None,
    word_line: float | None = None,
    pulse: float | None = None,
    seed: Whole = 0,
    images: SomeWhole = None,
    out: Path | None = None,
    json: Json = False,
) -> None:
    """Accuracy of a network on its test images, every partial sum read through a surrogate.

    Args:
        network: A network's file, or one of models/networks/ by name.
        surrogate: A surrogate's file, or one of models/surrogates/ by name.
        mode: ideal (exact), nominal (mean transfer and levels), iid (fresh columns and comparators), or all.
        sensing: single_ended reads BL, differential reads BL - BLB; by default differential where there are two lines.
        bits: Bits of the sense amplifier's code; 3 by default.
        mlsa: flash (a comparator a level) or sequential (one, its reference stepped with the word line off; the line's
            droop meanwhile is not modelled).
        adc: A stated converter instead, such as column_adc, or its folder; for columns of one line.
        levels_per: For weights or activations of several bits: levels for every pair of their bits (pair, the default),
            or one set for all pairs of a layer (layer).
        corner: Process corner, of a surrogate of several operating points; as the next four.
        vdd: Supply in volts.
        temp: Temperature in degrees Celsius.
        word_line: Word-line voltage in volts.
        pulse: Pulse in seconds.
        seed: Of the draws in iid.
        images: Test images, from the first; all by default.
        out: Folder for calibrations and outcomes; the surrogate's own, or runs/SURROGATE for a shipped one.
        json: Print one JSON object.
    """
    from cosim import chain, resources
    from cosim.errors import InputError
    from cosim.network.sensing import sensing_of
    from cosim.surrogate.family_files import is_family, load_at
    from cosim.surrogate.operating import Request

    if images is not None and images < 1:
        raise InputError(f"--images must be at least 1, got {images}")
    modes = ("ideal", "nominal", "iid") if mode == "all" else (mode,)
    asked = Request(corner, vdd, temp, word_line, pulse)
    model = load_at(surrogate, asked)  # Before anything is written, also where mode ideal does not need it.
    sensing_of(model, sensing, adc)
    if adc is not None and (bits is not None or mlsa != "flash"):
        raise InputError(f"--adc {adc} takes neither --bits nor --mlsa: its levels are stated")
    is_file = Path(surrogate).suffix == ".h5"
    path = Path(surrogate) if is_file else resources.find("models", "surrogates", f"{surrogate}.h5")
    out = out or (path.parent if is_file else Path("runs") / surrogate)
    if is_family(path):
        out = out / chain.folder_of(asked)
        path = chain.at_point(out, path, asked)
        surrogate = str(path)
        note(f"{path}: {model.provenance['operating_point']}")
    outcomes: list[Outcome] = []
    for each in modes:
        chosen = chain.Chosen(network, each, sensing, bits, seed, images, mlsa, adc, levels_per)
        outcomes.append(chain.evaluated(out, chosen, None if each == "ideal" else path))
    content = {"outcomes": [as_json(each) for each in outcomes]}
    show(outcome_lines(outcomes), content, json, _report(out, path, surrogate))


def train(recipe: str, *, out: Path | None = None, json: Json = False) -> None:
    """Train a network from a recipe and pack it; goes on from its checkpoint where a stopped run was.

    Args:
        recipe: A TOML file, or a network of models/networks/recipes/ by name.
        out: Folder of the checkpoint, the packed network and its card.
        json: Print one JSON object.
    """
    from cosim import resources

    path = Path(recipe)
    if path.suffix != ".toml":
        path = resources.find("models", "networks", "recipes", f"{recipe}.toml")
    # After the look-up: importing torch takes seconds.
    from cosim.training import load_recipe
    from cosim.training import train as train_network

    loaded = load_recipe(path)
    out = out or Path("runs") / f"train-{loaded.name}"
    last = None
    with meter("epochs") as bar:
        for last in train_network(loaded, out=out):
            held = f", held out {percent(last.accuracy.value)}" if last.accuracy else ""
            bar.update(last.epoch, last.epochs, f"loss {last.loss:.4f}{held}")
    assert last is not None
    if last.network is None:
        note(f"stopped after {last.epoch} of {last.epochs} epochs")
    content = {"network": str(last.network), "epochs": last.epoch, "seconds": last.seconds}
    lines = [f"{last.network}: {last.epoch} epochs in {last.seconds / 60:.1f} minutes"]
    show(lines, content, json, f"cosim evaluate {shlex.quote(str(last.network))}")


def outcome_lines(outcomes: list[Outcome]) -> list[str]:
    """Accuracies as a table with their intervals."""
    header = ["mode", "sensing", "bits", "accuracy", "95 % interval", "n"]
    rows = [
        [
            each.mode,
            " ".join(part for part in (each.sensing, each.amplifier, _levels(each)) if part) or "-",
            str(each.bits or "-"),
            percent(each.accuracy.value),
            f"{percent(each.accuracy.low)} to {percent(each.accuracy.high)}",
            str(each.accuracy.n),
        ]
        for each in outcomes
    ]
    return [f"{outcomes[0].network} on the test images of {outcomes[0].dataset}", *table(rows, header)]


def _levels(outcome: Outcome) -> str:
    """What has levels of its own, where there was a choice."""
    return f"levels/{outcome.levels_per}" if outcome.levels_per else ""


def as_json(outcome: Outcome) -> dict[str, object]:
    """An outcome as plain values."""
    from dataclasses import asdict

    return asdict(outcome)


def _report(out: Path, path: Path, surrogate: str) -> str:
    """The command line that writes the page of what was evaluated."""
    own = path.resolve() == (out / "surrogate.h5").resolve()
    return shlex.join(["cosim", "report", str(out), *([] if own else ["--surrogate", surrogate])])
