"""Figures show every cell where its numbers say."""

from dataclasses import replace

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest

import escapade as esc
from escapade.errors import InvalidArgument
from escapade.report import figures, instanton_directions, instanton_map
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
    drawings = {name: getattr(figures, name)(study) for name in figures.__all__}
    for name, figure in drawings.items():
        figure.canvas.draw()
        for axes in figure.axes:
            # Around a single value there is still an axis to read it from.
            assert np.ptp(axes.get_xlim()) > 0, name
            assert np.ptp(axes.get_ylim()) > 0, name
    anchor = read_all(study)[0].anchor
    assert point(artists(drawings["agreement"], "means")[anchor])[1] == cell.sample.mean
    assert point(artists(drawings["regimes"], "barrier")[anchor])[1] == pytest.approx(
        cell.diagnosis.groups.barrier
    )
    eigenvalue, *_ = (
        line
        for line in drawings["spectrum"].findobj(mpl.lines.Line2D)
        if line.get_gid() == "hessian"
    )
    assert point(eigenvalue) == (1, 2.0)
    shares = {
        patch.get_gid(): patch.get_width()
        for patch in drawings["exit_directions"].axes[0].patches
        if patch.get_gid().endswith(anchor)
    }
    assert shares == {f"share0-{anchor}": 1.0, f"share1-{anchor}": 0.0}


# The easiest way out


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def stairs(axes):
    """Steepness per step, and the steps between which it is spent."""
    filled, outline = (patch.get_data() for patch in axes.patches)
    np.testing.assert_array_equal(filled.values, outline.values)
    return filled.values, filled.edges


def test_the_easiest_path_is_drawn_along_the_sharpest_directions(good):
    found = good.instanton
    figure = figures.easiest_path(good)
    above, below = figure.axes
    drawn = lines(above)
    assert len(drawn) == 6
    for index in range(5):
        expected = np.stack([found.times, found.along[:, index]], axis=1)
        np.testing.assert_array_equal(drawn[f"v{'₁₂₃₄₅'[index]}"], expected)
    rest = np.linalg.norm(found.along[:, 5:], axis=1)
    np.testing.assert_allclose(drawn["all others (length)"][:, 1], rest)
    density, steps = stairs(below)
    np.testing.assert_array_equal(steps, found.times)
    np.testing.assert_allclose(density * np.diff(steps), np.diff(found.actions))
    # Hardly anything is spent before the panel begins, and it ends at the exit.
    left, right = below.get_xlim()
    assert right == 0
    assert 0 < found.actions[np.searchsorted(found.times, left)] <= 1e-3 * found.value
    note = figure.get_supxlabel()
    assert "0.169" in note
    assert "2e-07" in note
    assert "13 % above the quadratic approximation" in note
    below_it = replace(good, instanton=replace(found, quadratic_value=2 * found.value))
    assert "50 % below" in figures.easiest_path(below_it).get_supxlabel()


@pytest.fixture(scope="module")
def routes():
    """Two mirror routes out of a ball, known in closed form."""
    landscape = esc.landscapes.Quadratic([[2.0, 0.6], [0.6, 1.0]])
    noise = esc.noise.Constant([[1.0, -0.3], [-0.3, 0.5]])
    escape = esc.Escape(landscape, esc.ContinuousSGD(0.3, 1.0, noise), esc.Ball(1.0))
    return escape, esc.minimum_steepness(escape)


def test_a_map_shows_the_path_its_rival_and_the_boundary(routes):
    escape, found = routes
    figure = instanton_map(escape, found)
    above, below = figure.axes
    drawn = lines(above)
    np.testing.assert_array_equal(drawn["instanton"], found.path)
    np.testing.assert_array_equal(drawn["minimum"], [[0, 0]])
    np.testing.assert_array_equal(drawn["exit"], [found.exit_point])
    rival = [xy for xy in drawn.values() if len(xy) == len(found.orbits[1].path)]
    assert any(np.array_equal(xy, found.orbits[1].path) for xy in rival)
    assert "start" not in drawn
    (circle,) = [
        collection
        for collection in above.collections
        if getattr(collection, "levels", None) is not None and list(collection.levels) == [0]
    ]
    points = np.concatenate([path.vertices for path in circle.get_paths()])
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-3)
    for orbit in found.orbits:
        (low, high), (bottom, top) = above.get_xlim(), above.get_ylim()
        assert ((orbit.path >= [low, bottom]) & (orbit.path <= [high, top])).all()
    density, steps = stairs(below)
    np.testing.assert_array_equal(steps, found.times)
    assert (density * np.diff(steps)).sum() == pytest.approx(found.value - found.actions[0])
    note = figure.get_supxlabel()
    assert "0.824556" in note
    assert "1 other local minimiser." in note
    assert "Contours: the loss" in note


def test_a_map_with_a_horizon_has_a_start(routes):
    escape, _ = routes
    start = np.array([-0.2, 0.4])
    escape = esc.Escape(escape.landscape, escape.dynamics, esc.Ball(1.0), start=start)
    figure = instanton_map(escape, esc.minimum_steepness(escape, horizon=2))
    np.testing.assert_allclose(lines(figure.axes[0])["start"], [start])
    assert "the start at 0" in figure.axes[1].get_xlabel()
    assert figure.axes[1].get_xlim()[0] == 0


def test_contours_are_those_of_the_quasipotential_where_it_is_given(routes):
    escape, found = routes

    class Known:
        """A quasipotential that remembers where it was asked for."""

        def at(self, points):
            self.points = points
            return np.sum(points**2, axis=1)

    known = Known()
    figure = instanton_map(escape, found, known)
    assert "Contours: the quasipotential" in figure.get_supxlabel()
    low, high = known.points.min(axis=0), known.points.max(axis=0)
    assert tuple(figure.axes[0].get_xlim()) == pytest.approx((low[0], high[0]))
    assert tuple(figure.axes[0].get_ylim()) == pytest.approx((low[1], high[1]))


def test_a_drift_without_a_loss_is_drawn_as_arrows(routes):
    escape, found = routes
    field = esc.landscapes.Drift(lambda x: jnp.stack([-x[0] + x[1], -x[1]]), 2, minima=[[0.0, 0.0]])
    turned = esc.Escape(field, escape.dynamics, esc.Ball(1.0))
    figure = instanton_map(turned, found)
    (arrows,) = [c for c in figure.axes[0].collections if isinstance(c, mpl.quiver.Quiver)]
    x, y = arrows.X, arrows.Y
    expected = np.stack([y - x, -y], axis=1)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True) + 1e-300
    np.testing.assert_allclose(np.stack([arrows.U, arrows.V], axis=1), expected, atol=1e-9)
    assert "Arrows: the drift" in figure.get_supxlabel()


def test_a_map_is_two_dimensional(routes):
    landscape = esc.landscapes.Quadratic([1.0, 2.0, 3.0])
    escape = esc.Escape(landscape, esc.GaussianSGD(0.1, 1.0, esc.noise.Isotropic()), esc.Ball(1.0))
    with pytest.raises(InvalidArgument, match=r"3 parameters.*use instanton_directions"):
        instanton_map(escape, routes[1])


def test_directions_of_one_path(routes):
    escape, found = routes
    figure = instanton_directions(escape, found)
    drawn = lines(figure.axes[0])
    assert set(drawn) == {"v₁", "v₂"}
    values = np.array([2.28102497, 0.71897503])
    along = np.stack([drawn["v₁"][:, 1], drawn["v₂"][:, 1]], axis=1)
    losses = 0.5 * (found.path @ [[2.0, 0.6], [0.6, 1.0]] * found.path).sum(axis=1)
    np.testing.assert_allclose(0.5 * along**2 @ values, losses, rtol=1e-7)
    np.testing.assert_array_equal(drawn["v₁"][:, 0], found.times)
