"""Intervals that hold their own value, whatever the rounding."""

from __future__ import annotations

import pytest

from cosim.errors import InputError
from cosim.stats import proportion


def test_every_interval_of_few_samples_holds_its_value() -> None:
    """All of them, for the last digit decides: 10 of 10 once had a high end below 1."""
    wrong = [
        (successes, n)
        for n in range(1, 400)
        for successes in range(n + 1)
        for found in [proportion(successes, n)]
        if not 0 <= found.low <= found.value <= found.high <= 1
    ]
    assert wrong == []


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_no_proportion(successes: int, n: int) -> None:
    with pytest.raises(InputError, match="expected 0 <= successes <= n"):
        proportion(successes, n)
