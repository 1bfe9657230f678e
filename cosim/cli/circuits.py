"""`cosim plan`, `characterize`, `fit`, `validate` and `regenerate`: from a netlist to a surrogate."""

from __future__ import annotations

import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from cosim.cli.clusters import executor_on
from cosim.cli.console import SomeWhole, meter, note, show
from cosim.cli.plans import flip_lines, plan_lines
from cosim.cli.tables import figures_of, fit_lines, lines_of, stopping_lines

if TYPE_CHECKING:
    from cosim.campaign.recipe import Campaign
    from cosim.surrogate.family import SurrogateFamily
    from cosim.surrogate.model import Surrogate

Json = Annotated[bool, Parameter(name="--json", negative="")]


def plan(
    what: str, *, recipe: str | None = None, out: Path | None = None, workers: SomeWhole = None, json: Json = False
) -> None:
    """Say what will be simulated, how long it takes, and what is done already.

    One deck without mismatch of each kind is timed; nothing is written.

    Args:
        what: A cell's folder with a recipe.toml, a recipe of characterization/ by name, or a TOML file.
        recipe: A recipe to run on the cell `what` instead of its own.
        out: Folder of the samples.
        workers: ngspice processes; one a core by default.
        json: Print one JSON object.
    """
    from cosim.campaign.schedule import schedule

    campaign = _campaign_of(what, recipe)
    out = out or _folder_of(campaign, recipe)
    planned = schedule(campaign, out, workers=workers)
    lines = [
        campaign.recipe.title,
        *plan_lines(planned),
        f"{planned.left_s:.0f} s left with {planned.workers} ngspice processes, one deck of each kind timed just now",
    ]
    show(lines, planned.as_json(), json, _again("characterize", what, recipe, out))


def characterize(
    what: str,
    *,
    recipe: str | None = None,
    out: Path | None = None,
    workers: SomeWhole = None,
    cluster: str | None = None,
    json: Json = False,
) -> None:
    """Simulate Monte Carlo samples of a cell in ngspice; goes on where a stopped run was.

    Args:
        what: A cell's folder with a recipe.toml, a recipe of characterization/ by name, or a TOML file.
        recipe: A recipe to run on the cell `what` instead of its own.
        out: Folder of the samples.
        workers: ngspice processes; one a core by default.
        cluster: Address of a Dask scheduler, such as tcp://10.0.0.1:8786, whose workers simulate; see docs/cluster.md.
        json: Print one JSON object.
    """
    from cosim.campaign.flips import flips_of

    campaign = _campaign_of(what, recipe)
    out = out or _folder_of(campaign, recipe)
    content = collect_with_bar(campaign, out, workers, cluster)
    flips = flips_of(out / "samples.h5")
    content["flips"] = [asdict(each) | {"share": each.share} for each in flips]
    lines = [
        f"{content['samples']} samples in {out / 'samples.h5'}: {content['simulated']} simulated now in "
        f"{content['seconds']:.1f} s, {content['failed']} failed, {content['flipped']} with flipped cells",
        *([f"most frequent failure: {content['failure']}"] if content["failure"] else []),
        *flip_lines(flips),
        *stopping_lines(content["endings"]),
    ]
    show(lines, content, json, f"cosim fit {shlex.quote(str(out))}")


def fit(run: Path, *, out: Path | None = None, max_failure_rate: float = 0.01, json: Json = False) -> None:
    """Fit a surrogate to the samples of a run and check it on those held out.

    Args:
        run: Folder of the samples.
        out: The surrogate's file; surrogate.h5 in the run's folder by default.
        max_failure_rate: Largest share of failed or flipped samples at any point.
        json: Print one JSON object.
    """
    out = out or run / "surrogate.h5"
    found = _fitted(run, out, max_failure_rate)
    show(lines_of(found), figures_of(found), json, _evaluate(str(out), found))


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
    from cosim.surrogate.family_files import is_family, load_family
    from cosim.surrogate.files import load_surrogate

    bounds = (
        ("mean_rms_counts", max_mean_counts, 1),
        ("sigma_rms_counts", max_sigma_counts, 1),
        ("ks_p", min_ks_p, -1),
    )
    if is_family(surrogate):
        family = load_family(surrogate)
        show(lines_of(family), figures_of(family), json, _evaluate(surrogate, family))
        for point, each in zip(family.points, family.surrogates, strict=True):
            if each is not None:
                _check_bounds(each, bounds, f"{surrogate}: {point}")
        return
    model = load_surrogate(surrogate)
    show(fit_lines(model), dict(model.validation), json, _evaluate(surrogate, model))
    _check_bounds(model, bounds, surrogate)


def regenerate(
    name: str, *, out: Path | None = None, workers: SomeWhole = None, cluster: str | None = None, json: Json = False
) -> None:
    """Simulate and fit a shipped surrogate again from the recipe of its name.

    Args:
        name: A recipe of characterization/ whose surrogate ships in models/surrogates/.
        out: Folder of the samples, of surrogate.h5 and its card.
        workers: ngspice processes; one a core by default.
        cluster: Address of a Dask scheduler, such as tcp://10.0.0.1:8786, whose workers simulate; see docs/cluster.md.
        json: Print one JSON object.
    """
    from cosim.campaign.recipe import load_campaign
    from cosim.cli.cards import write_card

    began = time.monotonic()
    campaign = load_campaign(name)
    out = out or _folder_of(campaign)
    collect_with_bar(campaign, out, workers, cluster)
    path = out / "surrogate.h5"
    surrogate = _fitted(out, path, campaign.recipe.max_failure_rate)
    card, seconds = write_card(path, Path(campaign.place).stem), time.monotonic() - began
    content = figures_of(surrogate) | {"surrogate": str(path), "card": str(card), "seconds": seconds}
    lines = [*lines_of(surrogate), f"{path} and its card {card}: {seconds:.0f} s in all"]
    show(lines, content, json, f"cosim validate {shlex.quote(str(path))}")


def _check_bounds(model: Surrogate, bounds: tuple[tuple[str, float | None, int], ...], place: str) -> None:
    """Raise where a figure is worse than asked, or is not there."""
    from cosim.errors import InputError, MeasuredWorseError

    for view in ("bl", "blb", "difference") if model.lines == 2 else ("bl",):
        for name, bound, sign in bounds:
            if bound is None:
                continue
            if f"{view}_{name}" not in model.validation:
                raise InputError(f"the surrogate states no {name} of {view}", place=place)
            value = model.validation[f"{view}_{name}"]
            if not sign * value <= sign * bound:
                raise MeasuredWorseError(f"{view} {name} is {value:.3g}, asked for {bound:g}", place=place)


def collect_with_bar(
    campaign: Campaign, out: Path, workers: int | None = None, cluster: str | None = None
) -> dict[str, Any]:
    """Collect a campaign under a progress bar, here or on a cluster; what was done, for a person or for JSON."""
    from cosim.campaign.collect import collect

    note(f"{campaign.recipe.title}: ngspice Monte Carlo into {out}")
    last = None
    with executor_on(cluster, workers) as executor, meter("samples") as bar:
        for last in collect(campaign, out, executor=executor, workers=workers):
            if last.told:
                note(last.told)
            if last.stage == "points":
                bar.update(last.done, last.total, f"operating points ready  {last.label}")
                continue
            rate = f"{last.rate:.1f}/s  " if last.rate else ""
            bar.update(last.done, last.total, rate + last.label, last.left_s if last.rate else None)
    assert last is not None
    return {
        "samples": last.done,
        "simulated": last.fresh,
        "failed": last.failed,
        "flipped": last.flipped,
        "failure": last.failure,
        "seconds": last.seconds,
        "endings": [each.as_json() for each in last.endings],
        "folder": str(out),
    }


def _fitted(run: Path, out: Path, max_failure_rate: float) -> Surrogate | SurrogateFamily:
    """Fit the samples of a run and write the surrogate, or the family of several operating points.

    Raises:
        InputError: There are no samples, too many failed, or `out` cannot be written.
    """
    from cosim.errors import InputError
    from cosim.surrogate.fit import fit as fit_samples

    if not run.is_file() and not (run / "samples.h5").exists():
        hint = f"cosim characterize RECIPE --out {shlex.quote(str(run))}"
        raise InputError("samples cannot be read: there is no samples.h5", place=str(run), hint=hint)
    found = fit_samples(run, max_failure_rate=max_failure_rate)
    found.save(out)
    return found


def _evaluate(path: str, found: Surrogate | SurrogateFamily) -> str:
    """The command line that uses a surrogate, or one of a family's points."""
    from cosim.surrogate.family import SurrogateFamily

    command = f"cosim evaluate fashion_mnist_mlp --surrogate {shlex.quote(path)}"
    if not isinstance(found, SurrogateFamily):
        return command
    point = next(p for p, each in zip(found.points, found.surrogates, strict=True) if each is not None)
    return f"{command} --corner {point.process} --vdd {point.vdd_v:g} --temp {point.temp_c:g}"


def _campaign_of(what: str, recipe: str | None) -> Campaign:
    from cosim.campaign.recipe import load_campaign

    if recipe is None:
        return load_campaign(what)
    # A folder that is there comes before a built-in cell of the same name.
    return load_campaign(recipe, cell=Path(what) if Path(what).is_dir() else what)


def _folder_of(campaign: Campaign, recipe: str | None = None) -> Path:
    """Where the samples go if nothing else is asked for: by the recipe's name, or by the cell's."""
    place = Path(campaign.place)
    if recipe is not None:
        return Path("runs") / f"{campaign.cell.name}-{place.stem}"
    return Path("runs") / (campaign.cell.name if place.name == "recipe.toml" else place.stem)


def _again(verb: str, what: str, recipe: str | None, out: Path) -> str:
    """The command line of the next verb."""
    words = ["cosim", verb, what, *(["--recipe", recipe] if recipe else []), "--out", str(out)]
    return shlex.join(words)
