"""Every example in a docstring is true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import cosim

# PySpice 1.5 does not import with warnings as errors; these two run in worker processes only.
LEFT_OUT = {"cosim.spice.worker", "cosim.spice.session"}
MODULES = [each.name for each in pkgutil.walk_packages(cosim.__path__, "cosim.") if each.name not in LEFT_OUT]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [importlib.import_module(name) for name in MODULES]
    assert sum(bool(test.examples) for module in modules for test in finder.find(module)) >= 20
