"""`cosim demo` and `cosim report`: the whole chain with one command, and its page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cosim.cli.circuits import collect_with_bar, fit_lines
from cosim.cli.console import note, show
from cosim.cli.networks import as_json, outcome_lines

if TYPE_CHECKING:
    from cosim.network.outcome import Outcome

Json = Annotated[bool, Parameter(name="--json", negative="")]


def demo(
    *,
    recipe: str = "quick",
    network: str = "fashion_mnist_mlp",
    out: Path = Path("runs/demo"),
    workers: int | None = None,
    cluster: str | None = None,
    json: Json = False,
) -> None:
    """Go from the 8T XNOR netlist to the accuracy of a network on 10,000 test images, and write a page.

    Args:
        recipe: A recipe of characterization/ by name, or a TOML file.
        network: A network's file, or one of models/networks/ by name.
        out: Folder of everything that is made; what is there already is not made again.
        workers: ngspice processes; one a core by default.
        cluster: Address of a Dask scheduler, such as tcp://10.0.0.1:8786, whose workers simulate; see docs/cluster.md.
        json: Print one JSON object.
    """
    from cosim import chain
    from cosim.campaign.recipe import load_campaign
    from cosim.errors import InputError
    from cosim.surrogate.files import load_surrogate

    began = time.monotonic()
    campaign = load_campaign(recipe)
    if not campaign.recipe.comparator:
        raise InputError("the recipe has no [[comparator]], so nothing can read the column", place=campaign.place)
    chain.check_network(network)  # Now, and not after minutes of simulation.
    collected = collect_with_bar(campaign, out, workers, cluster)
    surrogate = chain.fitted(out, max_failure_rate=campaign.recipe.max_failure_rate)
    for line in fit_lines(load_surrogate(surrogate)):
        note(line)
    outcomes: list[Outcome] = []
    for sensing in (each.sensing for each in campaign.recipe.comparator):
        for mode in ("ideal", "nominal", "iid"):
            note(f"{network}, {mode}, {sensing}: reading every partial sum of the test images")
            outcomes.append(chain.evaluated(out, chain.Chosen(network, mode, sensing), surrogate))
    page = chain_page(out)
    seconds = time.monotonic() - began
    unique = list({each.key: each for each in outcomes}.values())
    content = {
        "collected": collected,
        "outcomes": [as_json(each) for each in unique],
        "page": str(page),
        "seconds": seconds,
    }
    lines = [f"{page}: the page to look at; {seconds:.0f} s in all", *outcome_lines(unique)]
    show(lines, content, json)


def report(run: Path = Path("runs/demo"), *, json: Json = False) -> None:
    """Write a run's page again: one HTML file that needs no network and no script.

    Args:
        run: Folder of a run, with surrogate.h5 and outcomes.json.
        json: Print one JSON object.
    """
    page = chain_page(run)
    show([str(page)], {"page": str(page)}, json)


def chain_page(run: Path) -> Path:
    """Build the page of a run folder."""
    from cosim.report.page import write_page

    return write_page(run)
