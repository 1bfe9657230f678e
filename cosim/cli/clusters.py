"""What `--cluster ADDRESS` means: the same tasks on a Dask cluster's workers."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Executor
from contextlib import contextmanager

from cosim.cli.console import note


@contextmanager
def executor_on(cluster: str | None, workers: int | None = None) -> Generator[Executor | None]:
    """An executor on the cluster at an address; nothing where none is asked for.

    Raises:
        InputError: Workers are asked for as well, or what `open_cluster` refuses.
    """
    if cluster is None:
        yield None
        return
    from cosim.campaign.cluster import open_cluster
    from cosim.errors import InputError

    if workers is not None:
        hint = "leave --workers out: the cluster has its own"
        raise InputError("both --workers and --cluster were given", hint=hint)
    with open_cluster(cluster) as executor:
        threads = executor.width
        note(f"{executor.address}: {threads} ngspice processes" if threads else f"{cluster}: no worker yet; waiting")
        yield executor
