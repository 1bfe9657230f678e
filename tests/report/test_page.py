"""The page as a browser gets it: complete, alone, harmless, and the same each time."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cosim.errors import InputError
from cosim.network.outcome import load_outcomes, save_outcomes
from cosim.report import page
from cosim.report.page import page_of, write_figure, write_page
from cosim.report.run import load_run

EVIL = "<script>alert(1)</script>"
VOID = {"meta", "link", "br", "img", "hr", "input", "source", "base", "embed"}


class Elements(HTMLParser):
    """Every element with its attributes, every text, and whether tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def text(whole_run: Path) -> str:
    return page_of(load_run(whole_run))


@pytest.fixture(scope="module")
def parsed(text: str) -> Elements:
    return Elements(text)


def test_nothing_is_loaded_from_anywhere(text: str, parsed: Elements) -> None:
    tags = {tag for tag, _ in parsed.elements}
    assert not tags & {"script", "link", "img", "image", "iframe", "object", "embed", "base", "form", "foreignobject"}
    for tag, attributes in parsed.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
                assert value.startswith("#"), (tag, name, value)
            assert "url(" not in value.replace("url(#", ""), (tag, name, value)
    assert [tag for tag, _ in parsed.elements].count("style") == 1  # an SVG's own would style the whole page
    assert "@import" not in text
    assert "@font-face" not in text
    outside = re.sub(r'xmlns="http://www\.w3\.org/2000/svg"', "", text)
    assert not re.search(r"(https?:)?//[a-z]", outside)
    policy = next(a["content"] for t, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_size(text: str) -> None:
    assert len(text.encode()) < 500_000 < page.MOST_BYTES


def test_every_figure_is_there_and_named(parsed: Elements) -> None:
    names = {a["aria-labelledby"].removesuffix("-title") for tag, a in parsed.elements if tag == "svg"}
    views = {f"{s}-{p}" for s in ("single-ended", "differential")
             for p in ("voltage", "deviation", "sigma", "counts", "skew")}  # fmt: skip
    assert names == views | {"accuracy-0", "comparator-single-ended", "comparator-differential", "codes-0", "codes-1",
                             *(f"levels-{i}" for i in range(4))}  # fmt: skip
    assert all(a["role"] == "img" for tag, a in parsed.elements if tag == "svg")


def test_ids_are_unique_and_every_reference_finds_its_own(text: str, parsed: Elements) -> None:
    ids = [a["id"] for _, a in parsed.elements if "id" in a]
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'(?:href="#|labelledby=")([^"]+)"', text))
    assert wanted <= set(ids)


def test_tables_have_headers(parsed: Elements) -> None:
    tags = [tag for tag, _ in parsed.elements]
    assert tags.count("table") == tags.count("caption") == tags.count("thead") > 4
    assert all(a.get("scope") in ("row", "col") for tag, a in parsed.elements if tag == "th")


def test_every_outcome_with_its_interval_and_loss(text: str, whole_run: Path) -> None:
    cells = re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", text)
    for outcome in load_outcomes(whole_run / "outcomes.json"):
        accuracy = outcome.accuracy
        at = cells.index(f"{100 * accuracy.value:.2f}")
        assert cells[at + 1] == f"{100 * accuracy.low:.2f} to {100 * accuracy.high:.2f}"
        assert cells[at + 3] == "10,000"
        loss = 88.38 - 100 * accuracy.value
        assert cells[at + 2].startswith("–" if outcome.mode == "ideal" else f"{loss:.2f} (")


def test_text_from_files_is_escaped(text: str) -> None:
    assert EVIL not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4  # cell, recipe, netlist, failure
    assert "&amp; $x_1$" in text


@pytest.mark.parametrize("name", [EVIL, "a\"b'&", "cost $5$ or $^x$", "名前", "x" * 90, "a}}{{ 7*7 }}", "{% raw %}"])
def test_a_network_of_any_name(name: str, named_run: Callable[[str], Path]) -> None:
    if "/" in name or len(name) > 80:
        name = name.replace("/", "|")[:60]
    text = write_page(named_run(name)).read_text(encoding="utf-8")
    assert "<script" not in text
    assert ">49<" not in text
    shown = " ".join(Elements(text).texts)
    assert name[:30] in shown


def test_the_same_bytes_again(run: Path) -> None:
    first = write_page(run).read_bytes()
    assert first.endswith(b"</html>")
    assert write_page(run).read_bytes() == first
    figure = write_figure(run, run / "a.svg").read_bytes()
    assert write_figure(run, run / "b.svg").read_bytes() == figure


def test_provenance_has_every_hash_and_text(text: str) -> None:
    for part in ("cd" * 32, "ef" * 32, "ab" * 32, "title = ", ".subckt cell bl blb", "ngspice (shared)", "idealideal"):
        assert part in text
    for missing in ("frozen dies", "read noise", "wire resistance", "kick-back"):
        assert missing in text
    assert re.search(r"comparator: 3 samples, 2 ok, 1 out of range", text)


def test_without_samples_the_page_says_so(run: Path) -> None:
    (run / "samples.h5").unlink()
    text = write_page(run).read_text(encoding="utf-8")
    assert "samples are not in this folder" in text
    assert "held-out samples (every fourth)" not in text


def test_ideal_alone_needs_no_levels(run: Path) -> None:
    for path in run.glob("calibration-*"):
        path.unlink()
    save_outcomes(load_outcomes(run / "outcomes.json")[:1], run / "outcomes.json")
    text = write_page(run).read_text(encoding="utf-8")
    assert "there are no levels" in text
    assert "88.38" in text


def test_a_surrogate_from_elsewhere(run: Path) -> None:
    elsewhere = run.parent / "shipped.h5"
    (run / "surrogate.h5").rename(elsewhere)
    (run / "samples.h5").unlink()
    assert "88.38" in write_page(run, elsewhere).read_text(encoding="utf-8")


def test_a_page_too_large_is_refused_and_the_old_one_kept(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "report.html").write_text("old")
    monkeypatch.setattr(page, "MOST_BYTES", 1000)
    with pytest.raises(InputError, match="expected at most 1000"):
        write_page(run)
    assert (run / "report.html").read_text() == "old"


def test_the_figure_for_the_readme(whole_run: Path, tmp_path: Path) -> None:
    text = write_figure(whole_run, tmp_path / "figure.svg").read_text(encoding="utf-8")
    assert text.startswith("<svg ")
    assert "prefers-color-scheme:dark" in text
    assert "iid, differential" in text
    assert "88.38 %" in text
    assert len(text) < 60_000
    with pytest.raises(InputError, match=r"ends in \.svg"):
        write_figure(whole_run, tmp_path / "figure.png")
    assert [path.name for path in tmp_path.iterdir()] == ["figure.svg"]
