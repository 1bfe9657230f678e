"""The examples in the docstrings."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["alias", "counter", "mapping", "packing", "readout"])
def test_examples_are_true(name: str):
    result = doctest.testmod(importlib.import_module(f"cosim.network.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
