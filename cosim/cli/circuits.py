"""`cosim plan`, `characterize`, `fit`, `validate` and `regenerate`: from a netlist to a surrogate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from cosim.cli.console import meter, note, show, table
from cosim.cli.tables import fit_lines

if TYPE_CHECKING:
    from cosim.campaign.recipe import Campaign

Json = Annotated[bool, Parameter(name="--json", negative="")]


def plan(recipe: str, *, out: Path | None = None, json: Json = False) -> None:
    """Say what a recipe will simulate, and what is done already.

    Args:
        recipe: A recipe of characterization/ by name, or a TOML file.
        out: Folder of the samples.
        json: Print one JSON object.
    """
    from cosim.campaign.collect import plan as plan_tasks
    from cosim.campaign.recipe import load_campaign
    from cosim.campaign.store import SampleStore
    from cosim.spice.engine import open_engine

    campaign = load_campaign(recipe)
    out = out or _folder_of(campaign)
    engine = open_engine(campaign.recipe.engine)
    tasks = plan_tasks(campaign, engine.version)
    engine.close()
    store = SampleStore(out)
    points: dict[str, list[int]] = {}
    for task in tasks:
        counted = points.setdefault(task.point.label, [0, 0])
        counted[0] += task.stop - task.start
        counted[1] += task.stop - task.start if store.has(task) else 0
    rows = [[label, str(total), str(done)] for label, (total, done) in points.items()]
    lines = [campaign.recipe.title, *table(rows, ["point", "samples", "done"])]
    content = {"points": [{"point": label, "samples": total, "done": done} for label, (total, done) in points.items()]}
    show(lines, content, json, f"cosim characterize {recipe} --out {out}")


def characterize(recipe: str, *, out: Path | None = None, workers: int | None = None, json: Json = False) -> None:
    """Simulate a recipe's Monte Carlo samples in ngspice; goes on where a stopped run was.

    Args:
        recipe: A recipe of characterization/ by name, or a TOML file.
        out: Folder of the samples.
        workers: ngspice processes; one a core by default.
        json: Print one JSON object.
    """
    from cosim.campaign.recipe import load_campaign

    campaign = load_campaign(recipe)
    out = out or _folder_of(campaign)
    content = collect_with_bar(campaign, out, workers)
    lines = [
        f"{content['samples']} samples in {out / 'samples.h5'}: {content['simulated']} simulated now in "
        f"{content['seconds']:.1f} s, {content['failed']} failed, {content['flipped']} with flipped cells"
    ]
    show(lines, content, json, f"cosim fit {out}")


def fit(run: Path, *, out: Path | None = None, max_failure_rate: float = 0.01, json: Json = False) -> None:
    """Fit a surrogate to the samples of a run and check it on those held out.

    Args:
        run: Folder of the samples.
        out: The surrogate's file; surrogate.h5 in the run's folder by default.
        max_failure_rate: Largest share of failed or flipped samples at any point.
        json: Print one JSON object.
    """
    from cosim.surrogate.files import save_surrogate
    from cosim.surrogate.fit import fit as fit_samples

    out = out or run / "surrogate.h5"
    surrogate = fit_samples(run, max_failure_rate=max_failure_rate)
    save_surrogate(surrogate, out)
    show(fit_lines(surrogate), dict(surrogate.validation), json, f"cosim evaluate fashion_mnist_mlp --surrogate {out}")


def validate(
    surrogate: str,
    *,
    max_mean_counts: float | None = None,
    max_sigma_counts: float | None = None,
    min_ks_p: float | None = None,
    json: Json = False,
) -> None:
    """Print how a surrogate fits samples that it has not seen; exit code 3 where it is worse than asked.

    Args:
        surrogate: A surrogate's file, or one of models/surrogates/ by name.
        max_mean_counts: Largest rms error of the held-out means, in counts.
        max_sigma_counts: Largest rms error of the held-out sigmas, in counts.
        min_ks_p: Smallest p-value of the Kolmogorov-Smirnov tests.
        json: Print one JSON object.
    """
    from cosim.errors import InputError, MeasuredWorseError
    from cosim.surrogate.files import load_surrogate

    model = load_surrogate(surrogate)
    show(fit_lines(model), dict(model.validation), json)
    for view in ("bl", "blb", "difference"):
        bounds = (
            ("mean_rms_counts", max_mean_counts, 1),
            ("sigma_rms_counts", max_sigma_counts, 1),
            ("ks_p", min_ks_p, -1),
        )
        for name, bound, sign in bounds:
            if bound is None:
                continue
            if f"{view}_{name}" not in model.validation:
                raise InputError(f"the surrogate states no {name} of {view}", place=surrogate)
            value = model.validation[f"{view}_{name}"]
            if not sign * value <= sign * bound:
                raise MeasuredWorseError(f"{view} {name} is {value:.3g}, asked for {bound:g}", place=surrogate)


def regenerate(name: str, *, out: Path | None = None, workers: int | None = None, json: Json = False) -> None:
    """Simulate and fit a shipped surrogate again from the recipe of its name.

    Args:
        name: A recipe of characterization/ whose surrogate ships in models/surrogates/.
        out: Folder of the samples, of surrogate.h5 and its card.
        workers: ngspice processes; one a core by default.
        json: Print one JSON object.
    """
    from cosim.campaign.recipe import load_campaign
    from cosim.cli.cards import write_card

    campaign = load_campaign(name)
    out = out or _folder_of(campaign)
    collect_with_bar(campaign, out, workers)
    fit(out, json=json)
    write_card(out / "surrogate.h5", Path(campaign.place).stem)


def collect_with_bar(campaign: Campaign, out: Path, workers: int | None = None) -> dict[str, Any]:
    """Collect a campaign under a progress bar; what was done, for a person or for JSON."""
    from cosim.campaign.collect import collect

    note(f"{campaign.recipe.title}: ngspice Monte Carlo into {out}")
    last = None
    with meter("samples") as bar:
        for last in collect(campaign, out, workers=workers):
            left = f"{last.rate:.1f}/s, {last.left_s:.0f} s left" if last.rate else "starting"
            bar.update(last.done, last.total, f"{left}  {last.label}")
    assert last is not None
    return {
        "samples": last.done,
        "simulated": last.fresh,
        "failed": last.failed,
        "flipped": last.flipped,
        "seconds": last.seconds,
        "folder": str(out),
    }


def _folder_of(campaign: Campaign) -> Path:
    return Path("runs") / Path(campaign.place).stem
