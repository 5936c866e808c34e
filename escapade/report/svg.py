"""Figures as files, and as drawings in the page that share its colours and link to its rows."""

import re
from collections.abc import Mapping
from io import BytesIO
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

from escapade.report.figures import style

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"

_DOTS_PER_INCH = 200

# Colours that follow the page; they differ when the page is dark.
_VARIABLES = {
    style.INK: "ink",
    style.MUTED: "muted",
    style.RULE: "rule",
    style.PAPER: "paper",
    style.BLUE: "blue",
    style.SKY: "sky",
    style.GREEN: "green",
    style.ORANGE: "orange",
    style.VERMILLION: "vermillion",
    style.PURPLE: "purple",
}


def save(figure: Figure, form: str) -> bytes:
    """The figure as a file of the form "png" or "svg", the same bytes each time."""
    # Without a date; text in SVG as outlines, so that it looks the same on every machine.
    metadata: dict[str, Any] = {"Date": None} if form == "svg" else {}
    with mpl.rc_context({**style.SETTINGS, "svg.fonttype": "path"}):
        return _saved(figure, format=form, dpi=_DOTS_PER_INCH, metadata=metadata)


def inline(figure: Figure, name: str, label: str, titles: Mapping[str, str]) -> Markup:
    """The figure as an ``svg`` element for the body of a page.

    Args:
        figure: the figure.
        name: prefix of its identifiers, which are to be unique in the page.
        label: what a screen reader says in its place.
        titles: tooltips of the artists whose identifier ends in a key.
    """
    with mpl.rc_context({**style.SETTINGS, "svg.fonttype": "none"}):
        text = _saved(figure, format="svg", facecolor="none").decode()
    root = ElementTree.fromstring(text)
    for parent in root.iter():
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
    for element in root.iter():
        _localise(element, name, titles)
    box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "role": "img", "aria-label": label, "class": "plot"})
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # built here, nothing to escape


def _saved(figure: Figure, **options: Any) -> bytes:
    stream = BytesIO()
    figure.savefig(stream, **options)
    return stream.getvalue()


def _localise(element: ElementTree.Element, name: str, titles: Mapping[str, str]) -> None:
    """Make an element of a drawing at home in a page: names, links, colours and tooltip."""
    element.tag = element.tag.removeprefix(_SVG)
    identifier = element.get("id")
    if identifier:
        element.set("id", f"{name}-{identifier}")
        ends = [text for end, text in titles.items() if identifier.endswith(end)]
        if ends:
            title = ElementTree.Element("title")
            title.text = ends[0]
            element.insert(0, title)
    link = element.attrib.pop(_LINK, None)
    if link:
        # Links of the drawing to its own parts move with them; those to rows of the page stay.
        own = element.tag == "use"
        element.set("href", f"#{name}-{link[1:]}" if own else link)
        element.attrib.pop("target", None)
    if element.tag == "a":
        element.set("tabindex", "-1")  # the table offers the same to the keyboard
    for key, value in element.attrib.items():
        value = value.replace("url(#", f"url(#{name}-")
        if key in ("style", "fill", "stroke"):
            value = re.sub(r"font-family:[^;]*;?|font:[^;]*'[^;]*;?", _size_only, value)
            value = re.sub(r"#[0-9a-f]{6}", _variable, value)
        element.set(key, value)


def _size_only(match: re.Match[str]) -> str:
    """Keep the size of a font and leave the family to the page."""
    size = re.search(r"[\d.]+px", match[0])
    weight = "font-weight:bold;" if "bold" in match[0] or " 700 " in match[0] else ""
    return f"font-size:{size[0]};{weight}" if size else ""


def _variable(match: re.Match[str]) -> str:
    name = _VARIABLES.get(match[0])
    return f"var(--{name})" if name else match[0]
