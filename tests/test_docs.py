"""The tutorial's Python blocks run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_tutorial_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "chain.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/chain.md", "exec"), names)  # noqa: S102 (our own page)
    said = capsys.readouterr().out
    assert re.search(r"32 rows: 0\.\d{3} \+- 0\.\d{4} V", said)
    modes = re.findall(r"(ideal|nominal|iid): 0\.\d{3} \(0\.\d{3} to 0\.\d{3}, n = 1000\)", said)
    assert modes == ["ideal", "nominal", "iid"]


def test_the_page_on_torch_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "torch.md").read_text(), re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/torch.md", "exec"), names)  # noqa: S102 (our own page)
    said = capsys.readouterr().out
    assert "4 (Conv2d): simulated: BinaryConv2d, read from the array" in said
    assert "mode=iid, noise on (seed 0), rows=64, arrays=2, order=flat, levels=8" in said
    assert "add (add): simulated: shortcut: the output of stem.0 is added to blocks.0.conv" in said
    assert "blocks.1.cut (Levels): simulated: 2 bits an activation" in said
