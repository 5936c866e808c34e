"""The page: one HTML file that needs nothing but itself."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from escapade.report import formats, table, template, words
from escapade.report.figures.regimes import BARRIER
from escapade.report.reading import TOLERANCE, Reading, read_all, region_name
from escapade.study.results import StudyResult
from escapade.theory.groups import SHELL

HEADINGS = {
    "agreement": "Measured against predicted mean exit time",
    "spectrum": "Curvature and gradient noise at the minimum",
    "easiest_path": "The easiest way out",
    "mean_against_barrier": "Mean exit time against the barrier",
    "mean_against_noise_scale": "Mean exit time against the noise scale",
    "survival": "How exit times are distributed",
    "exit_directions": "Where replicas leave",
    "regimes": "Which mechanism acts where",
}
"""Title of each figure."""

CAPTIONS = {
    "agreement": (
        "Each marker is one cell: above, its measured mean exit time against the predicted one; "
        "below, their ratio. Bars are 95 % intervals, an arrow up is a lower bound (no exit within "
        "the cap), and text with an arrow at an edge gives a value beyond the panel. Only filled "
        "markers, the activated cells, can test the theory. In the lower panel cells that would "
        "coincide stand side by side."
    ),
    "spectrum": (
        "Above: each Hessian eigenvalue, and the variance of one example's gradient along its "
        "eigenvector. Below: that variance over c λ. If the noise covariance were c times the "
        "Hessian, every hollow marker would lie on the line."
    ),
    "easiest_path": (
        "The path of least steepness from the minimum to the boundary of one region, found on the "
        "loss itself with the noise the dynamics really has. Above: its displacement along the "
        "sharpest Hessian eigenvectors. Below: the steepness it spends per step, whose sum is V₀."
    ),
    "mean_against_barrier": (
        "Measured means with 95 % intervals, by region. Dashes are predictions, joined where the "
        "learning rate is the same; crosses are the plain law exp(b) / η, without its prefactor. "
        "Laws that leave a panel are off by more than a factor of ten there."
    ),
    "mean_against_noise_scale": (
        "The same cells against B / η, the inverse noise scale. Predictions are joined where the "
        "region is the same: along such a line the plain law is exponential in B / η."
    ),
    "survival": (
        "Fraction of replicas still inside (Kaplan-Meier, censoring included), time in units of "
        "each cell's own mean. On this logarithmic scale an exponential law is a straight line: "
        "escape over a barrier follows it; a curve that drops suddenly is an arrival."
    ),
    "exit_directions": (
        "One bar per cell: how the squared displacement at exit divides among the Hessian "
        "eigenvectors, sharpest first, on average over exits. The last bar is a displacement in a "
        "random direction."
    ),
    "regimes": (
        "Above: a barrier law needs a high barrier (dashed: b = "
        f"{BARRIER:g}) and a region beyond typical fluctuations (dashed: shell ratio {SHELL:g}, "
        "from which the diagnosis is diffusive; dotted: 1), the tinted corner; that is necessary, "
        "not sufficient. Below: the coefficient of variation, 1 for the exponential law. Colour is "
        "the mechanism diagnosed. Cells that would coincide stand side by side."
    ),
}
"""How to read each figure."""


def render(study: StudyResult, figures: Mapping[str, Figure]) -> str:
    """The page of a study as HTML.

    Args:
        study: what the study found.
        figures: the figures by name.
    """
    readings = read_all(study)
    titles = {reading.anchor: reading.summary for reading in readings}
    hint = "The table of cells has the numbers."
    return template.fill(
        "page.html",
        study=study,
        answer=words.answer(study),
        rules=words.rules(),
        verdicts=words.VERDICTS,
        region=region_name(study.instanton.cell.region) if study.instanton else "",
        checks=words.checks(study),
        tiles=_tiles(study, readings),
        exhibits=template.exhibits(figures, HEADINGS, CAPTIONS, hint, titles),
        columns=table.COLUMNS,
        rows=[table.row(reading) for reading in readings],
        provenance=template.flat(study.provenance),
        effort=_effort(readings),
    )


def _tiles(study: StudyResult, readings: list[Reading]) -> list[tuple[str, str]]:
    """The study in a few numbers: each with what it counts."""
    judged = [reading for reading in readings if reading.verdict]
    ratios = [reading.log_ratio[1] for reading in judged if reading.exits]
    tally = {
        verdict: sum(reading.verdict == verdict for reading in judged) for verdict in words.VERDICTS
    }
    steps = sum(reading.result.steps_taken for reading in readings)
    return [
        (f"{len(readings)} of {study.planned}", "cells finished"),
        (str(sum(reading.activated for reading in readings)), "activated"),
        (formats.span(ratios, formats.ratio_from_log), "measured / predicted"),
        (
            " · ".join(map(str, tally.values())),
            f"within {formats.percent(TOLERANCE)} · deviating · uncertain",
        ),
        (formats.number(float(steps), 2), "SGD steps simulated"),
    ]


def _effort(readings: list[Reading]) -> str:
    """By what the exits were computed, and how long it took."""
    engines = dict.fromkeys(reading.result.engine for reading in readings)
    seconds = sum(reading.result.measured.seconds for reading in readings)
    return f"{formats.listing([*engines])}, {formats.duration(seconds)}" if readings else "nothing"
