"""What all pages share: their frame, and figures in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from escapade.report import formats, svg


@dataclass(frozen=True)
class Exhibit:
    """A figure in a page."""

    name: str
    heading: str
    caption: str
    drawing: Markup


def exhibits(
    figures: Mapping[str, Figure],
    headings: Mapping[str, str],
    captions: Mapping[str, str],
    hint: str,
    titles: Mapping[str, str],
) -> dict[str, Exhibit]:
    """Figures by name, ready for a page.

    Args:
        figures: by name.
        headings: title of each.
        captions: how to read each.
        hint: what a screen reader says after the title: where the numbers are.
        titles: tooltips, see `svg.inline`.
    """
    return {
        name: Exhibit(
            name,
            headings[name],
            captions[name],
            svg.inline(figure, name, f"{headings[name]}. {hint}", titles),
        )
        for name, figure in figures.items()
    }


def fill(template: str, **content: Any) -> str:
    """A page from its template, a path below `escapade/report`."""
    environment = Environment(
        loader=PackageLoader("escapade.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        number=formats.number, parameter=formats.parameter, percent=formats.percent
    )
    environment.filters.update(duration=formats.duration, typeset=formats.typeset)
    return environment.get_template(template).render(**content)


def flat(provenance: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Nested provenance as a list of names and texts."""
    entries = []
    for name, value in provenance.items():
        name = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            entries += flat(value, f"{name}: ")
        else:
            entries.append((name, str(value)))
    return entries
