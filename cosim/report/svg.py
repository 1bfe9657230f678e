"""Matplotlib figures as small SVG that follows the page's light or dark colours, the same bytes for the same input."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from io import StringIO
from typing import Any
from xml.etree import ElementTree

from matplotlib import style
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, SOFT, GRID, PAPER, FILL = "#1f2933", "#5b6776", "#dde3ea", "#fefefe", "#c5d0dc"
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#00805e", "#a8478a"

THEME = {
    INK: ("ink", "#e6eaf0"),
    SOFT: ("soft", "#a3afbf"),
    GRID: ("grid", "#2d3744"),
    PAPER: ("paper", "#171c23"),
    FILL: ("fill", "#465567"),
    BLUE: ("blue", "#56b4e9"),
    ORANGE: ("orange", "#f0944d"),
    GREEN: ("green", "#35c79c"),
    PURPLE: ("purple", "#e39ac8"),
}
"""Light colour: its name and its dark twin. The hues are Okabe and Ito's, told apart by colour-blind readers."""

Margins = tuple[float, float, float, float]

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cosim",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_FONT = re.compile(r"font: ([^;']*?px) [^;]*|font-family: [^;]*;? ?")
_NO_LENGTH = re.compile(r"M([^MLCQz]+)(?:L\1)?(?=M|$)")
_NAMELESS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def draw(
    paint: Callable[[Figure], None],
    *,
    name: str,
    title: str,
    size: tuple[float, float] = (4.9, 3.1),
    margins: Margins = (0.62, 0.48, 0.12, 0.12),
    standalone: bool = False,
) -> str:
    """The SVG element of what `paint` draws on an empty figure.

    Args:
        name: Unique on the page; starts all ids.
        title: What the picture shows, for those who do not see it.
        size: Width and height in inches of 72 units.
        margins: Left, bottom, right and top of the axes in inches. A layout engine would draw everything twice.
        standalone: Bring the colours of both themes and a background along, for a file of its own.
    """
    with style.context(_STYLE, after_reset=True), warnings.catch_warnings():
        # Names may hold letters that the layout's font lacks; the reader's browser draws them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=size)
        left, bottom, right, top = margins
        width, height = size
        figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height)
        canvas = FigureCanvasSVG(figure)
        paint(figure)
        buffer = StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        canvas.print_figure(buffer, format="svg", metadata=nothing, facecolor="none")
    return _slim(buffer.getvalue(), name, title, standalone)


def label(text: str, most: int = 40) -> str:
    """A name from a file as one short line without control characters.

    >>> label("a\\x00b" + "c" * 50, 6)
    'a bcc…'
    """
    text = " ".join(_NAMELESS.sub(" ", text).split())
    return text if len(text) <= most else text[: most - 1] + "…"


def theme_css() -> str:
    """The colours of both themes as CSS custom properties."""
    light = "".join(f"--{name}:{colour};" for colour, (name, _) in THEME.items())
    dark = "".join(f"--{name}:{colour};" for name, colour in THEME.values())
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def themed(colour: str) -> str:
    """A colour as CSS that changes with the theme.

    >>> themed("#0072b2")
    'var(--blue,#0072b2)'
    """
    return f"var(--{THEME[colour][0]},{colour})" if colour in THEME else colour


def _slim(text: str, name: str, title: str, standalone: bool) -> str:
    """Without metadata, comments, unused ids and needless digits."""
    root = ElementTree.fromstring(text)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^\")]+)", text))
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        _clean(element, name, used)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    head = ElementTree.Element("title", {"id": f"{name}-title"})
    head.text = label(title, 400)
    root.insert(0, head)
    root.attrib["style"] = "font-family: var(--font,sans-serif)"
    root.attrib |= {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "aria-labelledby": f"{name}-title"}
    if standalone:
        _add_theme(root)
    return ElementTree.tostring(root, encoding="unicode")


def _clean(element: ElementTree.Element, name: str, used: set[str]) -> None:
    element.tag = element.tag.rsplit("}", 1)[-1]
    if element.tag != "text":
        element.text = (element.text or "").strip() or None
    element.tail = None
    attributes: dict[str, str] = {}
    for key, value in element.attrib.items():
        key = key.rsplit("}", 1)[-1]
        if key == "id":
            if value not in used:
                continue
            value = f"{name}-{value}"
        elif key == "href":
            value = f"#{name}-{value[1:]}"
        elif key == "d":
            value = re.sub(r"\s*([MLCQz])\s*", r"\1", _rounded(value)).strip()
            # A line of no length with round ends is a dot; the layout drops its second point.
            value = _NO_LENGTH.sub(r"M\1h0", value)
        elif key == "transform" and value.startswith("rotate(-0 "):
            continue
        elif key != "viewBox":
            value = _styled(_rounded(value), name)
        attributes[key] = value
    element.attrib.clear()
    element.attrib.update(attributes)


def _styled(value: str, name: str) -> str:
    value = value.replace("url(#", f"url(#{name}-")
    value = _FONT.sub(lambda found: f"font: {found[1]} var(--font,sans-serif)" if found[1] else "", value)
    return _COLOUR.sub(lambda found: themed(found[0]), value)


def _rounded(value: str) -> str:
    return _NUMBER.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), value)


def _add_theme(root: ElementTree.Element) -> None:
    own = ElementTree.Element("style")
    own.text = theme_css()
    root.insert(1, own)
    root.insert(2, ElementTree.Element("rect", {"width": "100%", "height": "100%", "style": f"fill: {themed(PAPER)}"}))
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib |= {"width": width, "height": height}
