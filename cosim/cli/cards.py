"""The card of a shipped surrogate: what it is, how it was made, how well it fits; every figure from its file."""

from __future__ import annotations

from pathlib import Path

from cosim.atomic import replace_file
from cosim.cli.tables import fit_lines
from cosim.hdf5 import read
from cosim.surrogate.files import SURROGATE, load_surrogate


def write_card(surrogate_path: Path, name: str) -> Path:
    """Write `<surrogate>.card.md` beside a surrogate.

    Raises:
        InputError: The surrogate is damaged, or the folder cannot be written.
    """
    path = surrogate_path.with_suffix(".card.md")
    replace_file(path, card(surrogate_path, name).encode())
    return path


def card(surrogate_path: Path, name: str) -> str:
    """A surrogate's card as Markdown."""
    surrogate = load_surrogate(surrogate_path)
    digest = read(surrogate_path, filetype=SURROGATE[0], major=SURROGATE[1][0]).attributes["content_hash"]
    about, line, half = surrogate.provenance, surrogate.line, surrogate.rows // 2
    fitted = "\n".join(fit_lines(surrogate))
    return f"""# {name}

Surrogate of a column of {surrogate.rows} rows of the cell {about["cell"]} in the process {about["process"]}, and of its
comparators.

Command: `cosim regenerate {name}` (recipe `characterization/{name}.toml`, seed {about["seed"]}; {about["engine"]}
{about["engine_version"]}). Figures below: `cosim validate {name}`.

With {half} rows pulling, a bit line reads {line.mean_v[half]:.4f} +- {line.mean_error_v[half]:.4f} V, sigma \
{1e3 * line.sigma_v[half]:.2f} +- {1e3 * line.sigma_error_v[half]:.2f} mV.

```
{fitted}
```

The held-out quarter of the samples took no part in the fit; "by chance" is the error that their own number gives.

One operating point; no frozen dies, read noise, wire resistance or kick-back of the comparators onto the line.

- recipe SHA-256: {about["recipe_sha256"]}
- samples SHA-256: {about["samples_sha256"]}
- content SHA-256: {digest}
"""
