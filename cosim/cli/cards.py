"""The card of a shipped surrogate: what it is, how it was made, how well it fits; every figure from its file."""

from __future__ import annotations

from pathlib import Path

from cosim.atomic import replace_file
from cosim.cli.tables import lines_of
from cosim.hdf5 import read
from cosim.surrogate.family import SurrogateFamily
from cosim.surrogate.family_files import is_family, load_family
from cosim.surrogate.files import SURROGATE, load_surrogate
from cosim.surrogate.model import Surrogate


def write_card(surrogate_path: Path, name: str) -> Path:
    """Write `<surrogate>.card.md` beside a surrogate.

    Raises:
        InputError: The surrogate is damaged, or the folder cannot be written.
    """
    path = surrogate_path.with_suffix(".card.md")
    replace_file(path, card(surrogate_path, name).encode())
    return path


def card(surrogate_path: Path, name: str) -> str:
    """A card as Markdown, of a surrogate or of a family."""
    found = load_family(surrogate_path) if is_family(surrogate_path) else load_surrogate(surrogate_path)
    digest = read(surrogate_path, filetype=SURROGATE[0], major=SURROGATE[1][0]).attributes["content_hash"]
    about, fitted = found.provenance, "\n".join(lines_of(found))
    several = isinstance(found, SurrogateFamily)
    points = f"{len(found.points)} operating points" if several else "One operating point"
    return f"""# {name}

Surrogate of a column of {about["rows"]} rows of the cell {about["cell"]} in the process {about["process"]}, and of its
comparators where the recipe names any.

Command: `cosim regenerate {name}` (recipe `characterization/{name}.toml`, seed {about["seed"]}; {about["engine"]}
{about["engine_version"]}). Figures below: `cosim validate {name}`.

{"" if several else _half(found)}```
{fitted}
```

The held-out quarter of the samples took no part in the fit; "by chance" is the error that their own number gives.

{points}; no frozen dies, read noise, wire resistance or kick-back of the comparators onto the line.

- recipe SHA-256: {about["recipe_sha256"]}
- samples SHA-256: {about["samples_sha256"]}
- content SHA-256: {digest}
"""


def _half(surrogate: Surrogate) -> str:
    line, half = surrogate.line, surrogate.rows // 2
    return (
        f"With {half} rows pulling, a bit line reads {line.mean_v[half]:.4f} +- {line.mean_error_v[half]:.4f} V, sigma "
        f"{1e3 * line.sigma_v[half]:.2f} +- {1e3 * line.sigma_error_v[half]:.2f} mV.\n\n"
    )
