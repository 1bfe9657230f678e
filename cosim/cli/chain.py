"""`cosim demo` and `cosim report`: the whole chain with one command, and its page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cosim.cli.circuits import collect_with_bar
from cosim.cli.console import SomeWhole, note, show
from cosim.cli.networks import as_json, outcome_lines
from cosim.cli.tables import fit_lines

if TYPE_CHECKING:
    from cosim.campaign.recipe import Campaign
    from cosim.network.outcome import Outcome

Json = Annotated[bool, Parameter(name="--json", negative="")]


def demo(
    *,
    recipe: str = "quick",
    network: str = "fashion_mnist_mlp",
    out: Path = Path("runs/demo"),
    workers: SomeWhole = None,
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
    from cosim.report.page import write_page

    began = time.monotonic()
    campaign = load_campaign(recipe)
    if not campaign.recipe.comparator:
        raise InputError("the recipe has no [[comparator]], so nothing can read the column", place=campaign.place)
    chain.check_network(network)  # Now, and not after minutes of simulation.
    collected = collect_with_bar(campaign, out, workers, cluster)
    outcomes = _outcomes(campaign, network, out)
    page, seconds = write_page(out), time.monotonic() - began
    content = {"collected": collected, "outcomes": [as_json(each) for each in outcomes]}
    lines = [f"{page}: the page to look at; {seconds:.0f} s in all", *outcome_lines(outcomes)]
    show(lines, content | {"page": str(page), "seconds": seconds}, json, "cosim new cell my_cell")


def report(
    run: Path = Path("runs/demo"), *, surrogate: str | None = None, figure: Path | None = None, json: Json = False
) -> None:
    """Write a run's page again: one HTML file that needs no network and no script.

    Args:
        run: Folder of a run, with outcomes.json.
        surrogate: A surrogate's file, or a shipped one's name; surrogate.h5 of the folder by default.
        figure: Also write the column and the accuracies as one SVG.
        json: Print one JSON object.
    """
    from cosim.report.page import write_figure, write_page

    written = {"page": str(write_page(run, surrogate))}
    if figure is not None:
        written["figure"] = str(write_figure(run, figure, surrogate))
    show(written.values(), written, json)


def _outcomes(campaign: Campaign, network: str, out: Path) -> list[Outcome]:
    """Fit what was collected, and evaluate in every mode with every comparator."""
    from cosim import chain
    from cosim.surrogate.files import load_surrogate

    surrogate = chain.fitted(out, max_failure_rate=campaign.recipe.max_failure_rate)
    for line in fit_lines(load_surrogate(surrogate)):
        note(line)
    outcomes: dict[str, Outcome] = {}
    for comparator in campaign.recipe.comparator:
        for mode in ("ideal", "nominal", "iid"):
            note(f"{network}, {mode}, {comparator.sensing}: reading every partial sum of the test images")
            outcome = chain.evaluated(out, chain.Chosen(network, mode, comparator.sensing), surrogate)
            outcomes[outcome.key] = outcome
    return list(outcomes.values())
