"""Memory of a campaign over 10,000 samples, here and in its ngspice process.

Run: pytest tests/bench/bench_campaign.py -s; about two minutes on one core.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cosim.campaign.collect import collect
from cosim.campaign.recipe import load_campaign

COUNTS = 7
SAMPLES = 1440
EARLY, LATE = 1_000, 10_010
"""The late mark is past the moment at which the 2,000th deck of a worker replaces it."""
RECIPE = f"""
title = "six rows, so that a sample takes milliseconds"
seed = 1
cell = "xnor_8t"
process = "generic65"
[corner]
process = "tt"
vdd_v = 1.0
temp_c = 27.0
[column]
rows = {COUNTS - 1}
n_minus = {list(range(COUNTS))}
samples = {SAMPLES}
word_line_v = 0.4
"""


def test_memory_is_flat_over_ten_thousand_samples(benchmark: Any, tmp_path: Path) -> None:
    """Resident memory of this process and of the ngspice process, early and late in one collection."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    seen: dict[int, tuple[float, float]] = {}

    def collected() -> None:
        for progress in collect(load_campaign(recipe), tmp_path / "run", workers=1):
            for mark in (EARLY, LATE):
                if progress.fresh >= mark and mark not in seen:
                    seen[mark] = (resident_mib(os.getpid()), sum(resident_mib(child) for child in children()))
        assert progress.failed == 0

    benchmark.pedantic(collected, rounds=1)
    for mark, (here, worker) in seen.items():
        print(f"\nafter {mark} samples: {here:.0f} MiB here, {worker:.0f} MiB in the ngspice process")
    growth = [late - early for early, late in zip(seen[EARLY], seen[LATE], strict=True)]
    benchmark.extra_info |= {"growth_mib": growth}
    print(f"growth from {EARLY} to {LATE} samples: {growth[0]:+.1f} MiB here, {growth[1]:+.1f} MiB in ngspice")


def children() -> list[int]:
    """The processes of this one."""
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


def resident_mib(pid: int) -> float:
    """Resident memory of a process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
