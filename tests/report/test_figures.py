"""Figures show every cell where its numbers say."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest

from escapade.report import figures
from escapade.report.figures.style import spread
from escapade.report.reading import read_all

from .conftest import study_of


def artists(figure, panel):
    """Markers of a panel by cell."""
    return {
        line.get_gid().removeprefix(f"{panel}-"): line
        for line in figure.findobj(mpl.lines.Line2D)
        if line.get_gid() and line.get_gid().startswith(f"{panel}-")
    }


def point(line):
    (x,), (y,) = line.get_data()
    return float(x), float(y)


@pytest.mark.parametrize("name", figures.__all__)
@pytest.mark.parametrize("fixture", ["good", "troubled", "empty"])
def test_every_figure_draws_any_study_with_labelled_axes(name, fixture, request):
    settings = dict(mpl.rcParams)
    figure = getattr(figures, name)(request.getfixturevalue(fixture))
    assert isinstance(figure, mpl.figure.Figure)
    assert dict(mpl.rcParams) == settings
    assert any(axes.get_xlabel() for axes in figure.axes)
    for axes in figure.axes:
        categories = [label.get_text() for label in axes.get_yticklabels()]
        assert axes.get_ylabel() or "random direction" in categories


def test_no_figure_is_registered_with_pyplot(good):
    import matplotlib.pyplot as plt

    figures.regimes(good)
    assert plt.get_fignums() == []


def test_agreement_puts_each_cell_at_its_predicted_and_measured_mean(good):
    figure = figures.agreement(good)
    means, ratios = artists(figure, "means"), artists(figure, "ratio")
    assert len(means) == len(ratios) == len(good.cells)
    for reading in read_all(good):
        predicted, measured = point(means[reading.anchor])
        assert predicted == pytest.approx(reading.result.prediction.mean)
        assert measured == pytest.approx(reading.result.sample.times.sum() / reading.exits)
        filled = means[reading.anchor].get_markerfacecolor() != "#ffffff"
        assert filled == (reading.result.diagnosis.mechanism == "activated")
        x, y = point(ratios[reading.anchor])
        low, high = figure.axes[1].get_ylim()
        assert x == pytest.approx(predicted)
        if low * 1.04 < measured / predicted < high / 1.04:
            assert y == pytest.approx(measured / predicted)
        else:
            note = f"{measured / predicted:.2g} ↓"
            assert note in [text.get_text() for text in figure.axes[1].texts]


def test_agreement_draws_intervals(good):
    figure = figures.agreement(good)
    bars = [line.get_data() for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    for reading in read_all(good):
        assert any(
            x[0] == x[1] == pytest.approx(reading.result.prediction.mean)
            and tuple(y) == pytest.approx(reading.result.sample.interval)
            for x, y in bars
        )


def test_agreement_shows_bounds_off_scale_predictions_and_cells_without_one(troubled):
    figure = figures.agreement(troubled)
    means = artists(figure, "means")
    readings = {reading.anchor: reading for reading in read_all(troubled)}
    drawn = {anchor for anchor, reading in readings.items() if reading.measured}
    assert set(means) == drawn
    for anchor in drawn:
        reading = readings[anchor]
        expected = reading.lower if not reading.exits else reading.mean
        assert point(means[anchor])[1] == pytest.approx(expected)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert any("10⁴³⁴ →" in text for text in texts)  # exp(1000)
    arrows = [text for text in figure.axes[0].texts if text.arrow_patch is not None]
    assert len(arrows) == sum(not readings[anchor].exits for anchor in drawn)
    assert figure.axes[2].get_ylabel() == "no prediction"
    assert "1 cell whose replicas all diverged" in figure.get_supxlabel()


@pytest.mark.parametrize(
    ("name", "abscissa"),
    [
        ("mean_against_barrier", lambda r: r.diagnosis.groups.barrier),
        ("mean_against_noise_scale", lambda r: r.cell.batch_size / r.cell.learning_rate),
    ],
)
def test_means_are_drawn_by_region_with_both_laws(name, abscissa, good):
    figure = getattr(figures, name)(good)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["slab", "ball"]
    drawn = artists(figure, "mean")
    laws = np.concatenate(
        [
            line.get_xydata()
            for axes in figure.axes
            for line in axes.lines
            if line.get_marker() in ("_", "x")
        ]
    )
    for reading in read_all(good):
        result = reading.result
        x, y = point(drawn[reading.anchor])
        assert x == pytest.approx(abscissa(result))
        assert y == pytest.approx(reading.mean)
        for law in (result.prediction, result.exponential_law):
            assert np.isclose(laws, [x, law.mean], rtol=1e-9).all(axis=1).any()


def test_survival_curves_are_the_fractions_still_inside(good):
    curves = artists(figures.survival(good), "survival")
    assert len(curves) == len(good.cells)
    for reading in read_all(good):
        sample = reading.result.sample
        if sample.censored.any():
            continue
        times, values = curves[reading.anchor].get_data()
        for time, value in zip(times[::20], values[::20], strict=True):
            fraction = np.mean(sample.times > time * sample.times.mean() + 1e-9)
            assert value == pytest.approx(max(fraction, 2e-4))


def test_survival_stops_where_a_censored_sample_ends(good):
    (reading,) = [reading for reading in read_all(good) if reading.censored]
    times, _ = artists(figures.survival(good), "survival")[reading.anchor].get_data()
    assert times[-1] <= reading.result.sample.times.max() / reading.mean < times[-1] + 0.05


def test_shares_of_exit_displacement_fill_one_bar_per_cell(good):
    figure = figures.exit_directions(good)
    for result, reading in zip(good.cells, read_all(good), strict=True):
        bars = [
            patch.get_width()
            for rank in range(6)
            for patch in figure.axes[0].patches
            if patch.get_gid() == f"share{rank}-{reading.anchor}"
        ]
        assert bars[:5] == pytest.approx(result.exit_shares[:5])
        assert bars[5] == pytest.approx(result.exit_shares[5:].sum())


def test_regimes_place_each_cell_by_shell_ratio_barrier_and_variation(good):
    figure = figures.regimes(good)
    barriers, variations = artists(figure, "barrier"), artists(figure, "variation")
    for reading in read_all(good):
        groups, sample = reading.result.diagnosis.groups, reading.result.sample
        assert point(barriers[reading.anchor]) == pytest.approx(
            (groups.shell_ratio, groups.barrier)
        )
        expected = (groups.shell_ratio, sample.coefficient_of_variation)
        assert point(variations[reading.anchor]) == pytest.approx(expected)
    colors = {barriers[r.anchor].get_color(): r.mechanism for r in read_all(good)}
    assert sorted(colors.values()) == ["activated", "diffusive", "drift"]


def test_spectrum_draws_eigenvalues_noise_and_their_ratio(good):
    figure, minimum = figures.spectrum(good), good.minimum
    lines = {line.get_gid(): line for line in figure.findobj(mpl.lines.Line2D) if line.get_gid()}
    assert lines["hessian"].get_ydata() == pytest.approx(minimum.eigenvalues)
    assert lines["noise"].get_ydata() == pytest.approx(minimum.noise_along)
    ratio = minimum.noise_along / (minimum.alignment.c * minimum.eigenvalues)
    assert lines["ratio"].get_ydata() == pytest.approx(ratio)


def test_a_large_spectrum_is_thinned_and_says_so(good):
    eigenvalues = np.append(np.geomspace(3, 1e-9, 4999), 0.0)
    minimum = replace(good.minimum, eigenvalues=eigenvalues, noise_along=2 * eigenvalues)
    figure = figures.spectrum(replace(good, minimum=minimum))
    (line,) = [x for x in figure.findobj(mpl.lines.Line2D) if x.get_gid() == "hessian"]
    ranks, values = line.get_data()
    assert 100 < ranks.size < 500
    assert (values == eigenvalues[ranks - 1]).all()
    assert "of 5,000 directions" in figure.get_supxlabel()
    assert "1 eigenvalue at or below zero" in figure.get_supxlabel()


def test_spread_keeps_order_and_distance_and_moves_nothing_needlessly():
    positions = np.array([10.0, 0.0, 0.5, 40.0])
    moved = spread(positions, 4.0)
    assert moved == pytest.approx([10.0, -1.75, 2.25, 40.0])
    rng = np.random.default_rng(6)
    positions = rng.uniform(0, 50, 30)
    moved = spread(positions, 3.0)
    assert np.diff(np.sort(moved)).min() >= 3.0 - 1e-9
    assert (np.argsort(moved) == np.argsort(positions)).all()
    assert moved.mean() == pytest.approx(positions.mean())


def test_one_cell_in_one_dimension_can_be_drawn(diffusive):
    minimum = replace(diffusive.minimum, eigenvalues=np.array([2.0]), noise_along=np.array([1.9]))
    cell = replace(diffusive.cells[0], exit_shares=np.array([1.0]))
    study = replace(study_of([cell]), minimum=minimum)
    for name in figures.__all__:
        getattr(figures, name)(study).canvas.draw()
