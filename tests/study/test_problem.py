"""From specification to escapes: landscape, minimum, and the plan of cells.

The barriers are compared with the prediction's own and, on a quadratic loss with C = H, with the
formulas written out: along an eigendirection of eigenvalue h the stationary variance is
eta/B / (2 - eta h) for the chain and eta/B / 2 for the diffusion.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import escapade
from escapade.errors import DataError, InvalidArgument, StudyError
from escapade.landscape import DoubleWell, Empirical, Function, MaierStein, Quadratic
from escapade.landscape.descent import jacobian
from escapade.study import Cell, Specification
from escapade.study.problem import Problem, build_landscape, find_study_minimum
from escapade.study.specification import Grid, LandscapeSpecification, TrainingSpecification
from escapade.theory import predict

HESSIAN = np.array([[2.0, 0.6], [0.6, 1.0]])
SHARPNESS = np.linalg.eigvalsh(HESSIAN)[-1]
RNG = np.random.default_rng(5)
INPUTS = RNG.standard_normal((40, 2)) * [1.5, 0.7]
TARGETS = INPUTS @ [1.0, -2.0] + RNG.standard_normal(40)
SOLUTION = np.linalg.lstsq(INPUTS, TARGETS)[0]


def squared_error(parameters, example):
    x, y = example
    return 0.5 * (x @ parameters - y) ** 2


def regression(minima):
    return Empirical(squared_error, np.zeros(2), (INPUTS, TARGETS), minima=minima)


REGRESSION = regression(SOLUTION)


def problem_of(landscape, *grids, **entries):
    specification = Specification(
        "study", "Study?", grid=tuple(Grid(**{"replicas": 8, **grid}) for grid in grids), **entries
    )
    return Problem(specification, landscape, landscape.minima[0])


def planned(landscape, quick=False, **grid):
    problem = problem_of(landscape, grid)
    return problem, problem.plan(quick)


# A barrier becomes a size


@pytest.mark.parametrize("region", ["slab", "half_space", "ball", "sublevel"])
@pytest.mark.parametrize("dynamics", ["gaussian", "continuous", "langevin"])
def test_a_barrier_gives_the_size_that_has_it(dynamics, region):
    entries = {"dynamics": (dynamics,), "region": (region,), "stiffness": (0.3,)}
    problem, (cell,) = planned(Quadratic(HESSIAN), barrier=(3.7,), batch_size=(16,), **entries)
    assert cell.learning_rate == pytest.approx(0.3 / SHARPNESS, rel=1e-5)
    assert predict(problem.escape(cell)).groups.barrier == pytest.approx(3.7, rel=1e-5)
    if dynamics == "langevin" and region != "slab":
        return  # its noise is isotropic: no formula as short as the others
    curvature = 2.0 if dynamics == "continuous" else 2.0 - cell.learning_rate * SHARPNESS
    noise_scale = cell.learning_rate / 16
    square = 2 * 3.7 * noise_scale / curvature
    expected = 0.5 * SHARPNESS * square if region == "sublevel" else square**0.5
    assert cell.size == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("sharpness", [1.0, 4.0])
@pytest.mark.parametrize("dynamics", ["minibatch", "minibatch_without_replacement", "langevin"])
@pytest.mark.parametrize("region", ["slab", "half_space", "ball", "sublevel"])
def test_a_barrier_gives_the_size_on_examples_too(dynamics, region, sharpness):
    problem, (cell,) = planned(
        REGRESSION,
        dynamics=(dynamics,),
        region=(region,),
        learning_rate=(0.05,),
        batch_size=(8,),
        sharpness=(sharpness,),
        barrier=(2.5,),
    )
    assert predict(problem.escape(cell)).groups.barrier == pytest.approx(2.5, rel=1e-5)


def test_a_barrier_gives_the_size_on_the_network(network):
    _, _, result, _ = network
    for cell, wanted in zip(result.cells, (1.0, 1.5), strict=True):
        for prediction in (cell.prediction, cell.exponential_law):
            groups = prediction.groups
            error = 1e-5 if prediction is cell.prediction else 0.2  # the law ignores the step
            assert groups.barrier == pytest.approx(wanted, rel=error)
        assert cell.cell.learning_rate * result.minimum.eigenvalues[0] == pytest.approx(0.2, 1e-5)


def test_a_shallow_valley_has_sublevel_sets_too():
    # Its loss never rises by one.
    shallow = Function(lambda x: 1e-3 * (1 - jnp.cos(x[0])), 1, minima=[[0.0]])
    entries = {"dynamics": ("gaussian",), "region": ("sublevel",), "learning_rate": (0.05,)}
    problem, (cell,) = planned(shallow, barrier=(2.0,), **entries)
    assert predict(problem.escape(cell)).groups.barrier == pytest.approx(2.0, rel=1e-5)


@pytest.mark.parametrize(
    ("landscape", "dynamics", "rate", "why"),
    [
        (DoubleWell(), "minibatch", 0.05, "loss over examples"),
        (DoubleWell(), "gaussian", 1.5, "unstable"),
        (REGRESSION, "minibatch_without_replacement", 0.05, "40 examples"),
    ],
)
def test_a_barrier_that_no_size_has_is_reported(landscape, dynamics, rate, why):
    grid = {"dynamics": (dynamics,), "learning_rate": (rate,), "batch_size": (64,)}
    with pytest.raises(StudyError, match=why) as caught:
        planned(landscape, barrier=(3.0,), **grid)
    assert f"barrier 3 gives no size for {dynamics}, eta {rate:g}, B 64, slab" in str(caught.value)


# Scaled landscapes and what the cells share


@pytest.mark.parametrize("alpha", [0.5, 1, 3.0])
@pytest.mark.parametrize("landscape", [REGRESSION, Quadratic(HESSIAN, [1.0, 2.0])])
def test_sharpness_multiplies_every_hessian_eigenvalue(landscape, alpha):
    problem = problem_of(landscape)
    scaled, theta = problem.scaled(alpha)
    np.testing.assert_allclose(scaled.gradient(theta), 0, atol=1e-10)
    hessian = jacobian(landscape, problem.theta)
    np.testing.assert_allclose(jacobian(scaled, theta), alpha * hessian, rtol=1e-9)
    base = problem.covariance(1.0)
    np.testing.assert_allclose(problem.covariance(alpha), alpha * base, rtol=1e-9)


def test_the_stiffness_refers_to_the_unscaled_minimum():
    entries = {"dynamics": ("gaussian",), "size": (0.1,), "sharpness": (1.0, 4.0)}
    _, cells = planned(Quadratic(HESSIAN), stiffness=(0.3,), **entries)
    assert [cell.sharpness for cell in cells] == [1.0, 4.0]
    assert cells[0].learning_rate == cells[1].learning_rate


@pytest.mark.parametrize("sharpness", [1.0, 2.0])
@pytest.mark.parametrize(
    "dynamics",
    [
        "minibatch",
        "minibatch_without_replacement",
        "minibatch_shuffled_epochs",
        "gaussian",
        "continuous",
        "langevin",
    ],
)
def test_the_shared_neighbourhood_is_the_escapes_own(dynamics, sharpness):
    problem = problem_of(REGRESSION)
    for batch_size in (4, 16):
        cell = Cell(dynamics, 0.05, batch_size, sharpness, "slab", 0.1, 8, 100)
        own = escapade.neighbourhood(problem.escape(cell))
        shared = problem.neighbourhood(cell)
        np.testing.assert_allclose(shared.drift_matrix, own.drift_matrix, rtol=1e-9)
        np.testing.assert_allclose(shared.covariance, own.covariance, rtol=1e-9)


def test_a_drift_has_no_sharpness_to_scale():
    problem = problem_of(MaierStein(1.0))
    with pytest.raises(StudyError, match="sharpness other than 1 needs a landscape with a loss"):
        problem.scaled(2.0)
    assert problem.scaled(1)[0] is problem.landscape


def test_the_sharpest_direction_has_a_fixed_sign():
    problem = problem_of(Quadratic(HESSIAN))
    direction = problem.sharpest_direction
    np.testing.assert_allclose(HESSIAN @ direction, SHARPNESS * direction)
    assert direction[np.argmax(np.abs(direction))] > 0
    assert problem.sharpness == pytest.approx(SHARPNESS)


# Noise, and spectra


def noise_of(landscape, dynamics="gaussian", **entries):
    cell = Cell(dynamics, 0.05, 4, 1.0, "slab", 0.1, 8, 100, **entries)
    return problem_of(landscape).neighbourhood(cell).covariance


@pytest.mark.parametrize("dynamics", ["gaussian", "continuous"])
def test_noise_beside_that_of_the_examples(dynamics):
    own = noise_of(REGRESSION, dynamics)
    hessian = jacobian(REGRESSION, SOLUTION)
    # The trace is that of the examples; c is their least-squares constant in C = c H.
    np.testing.assert_allclose(
        noise_of(REGRESSION, dynamics, noise="isotropic"), np.trace(own) / 2 * np.eye(2), rtol=1e-9
    )
    c = np.sum(own * hessian) / np.sum(hessian**2)
    np.testing.assert_allclose(
        noise_of(REGRESSION, dynamics, noise="hessian"), c * hessian, rtol=1e-9
    )
    for name, matrix in (("isotropic", np.eye(2)), ("hessian", hessian)):
        found = noise_of(REGRESSION, dynamics, noise=name, noise_strength=3.0)
        np.testing.assert_allclose(found, 3.0 * matrix, rtol=1e-9)


def test_noise_where_there_are_no_examples():
    quadratic = Quadratic(HESSIAN)
    np.testing.assert_allclose(noise_of(quadratic, noise="isotropic"), np.eye(2))
    for name in ("own", "hessian"):
        np.testing.assert_allclose(noise_of(quadratic, noise=name), HESSIAN, rtol=1e-12)
    with pytest.raises(StudyError, match='noise "measured" needs a landscape with examples'):
        planned(quadratic, **TINY, noise=("measured",))
    # Where there are some, it is what an old study means by saying nothing.
    _, cells = planned(REGRESSION, **TINY, noise=("measured", "isotropic"))
    assert [cell.noise for cell in cells] == ["own", "isotropic"]
    _, (silent,) = planned(REGRESSION, **TINY)
    assert silent == cells[0]


TINY = {"dynamics": ("gaussian",), "learning_rate": (0.05,), "size": (0.1,)}


def test_the_largest_eigenvalue_alone():
    problem, cells = planned(Quadratic(HESSIAN), **TINY, lambda_max=(1.5, 15.0))
    smallest = np.linalg.eigvalsh(HESSIAN)[0]
    for cell, wanted in zip(cells, (1.5, 15.0), strict=True):
        around = problem.neighbourhood(cell)
        np.testing.assert_allclose(around.eigenvalues, [wanted, smallest])
        assert abs(around.sharpest_direction @ problem.sharpest_direction) == pytest.approx(1)
        np.testing.assert_allclose(around.covariance, around.drift_matrix, rtol=1e-12)
        np.testing.assert_allclose(
            jacobian(problem.escape(cell).landscape, problem.theta), around.drift_matrix
        )
    with pytest.raises(StudyError, match=r"another eigenvalue is 0\.7189"):
        planned(Quadratic(HESSIAN), **{**TINY, "size": ()}, barrier=(2.0,), lambda_max=(0.5,))
    with pytest.raises(StudyError, match="lambda_max needs a quadratic landscape"):
        planned(DoubleWell(), **TINY, lambda_max=(3.0,), method="auto")


# How exits are measured


def test_what_is_too_rare_to_wait_for_is_split():
    entries = {**TINY, "size": (), "runs": 4, "walkers": 100, "burn_in": 50, "max_steps": 9_000}

    def cells(barrier, **others):
        return planned(Quadratic(HESSIAN), barrier=barrier, **{**entries, **others})[1]

    simulated, long, rare = cells((4.0, 7.9, 8.1), method="auto")
    assert not simulated.splits
    # Its barrier is low enough, its predicted mean is not.
    assert long.splits
    assert (rare.runs, rare.replicas, rare.burn_in) == (4, 100, 50)
    assert [cell.splits for cell in cells((4.0, 9.0))] == [False, False]
    assert [cell.splits for cell in cells((4.0, 9.0), method="split")] == [True, True]


def test_a_diffusive_exit_is_never_split():
    # Sixty directions: the region lies inside the typical shell however high the barrier.
    wide = Quadratic(np.ones(60))
    _, (cell,) = planned(
        wide, **{**TINY, "size": ()}, region=("ball",), barrier=(9.0,), method="auto"
    )
    assert not cell.splits


# Which cells there are


def test_the_plan_is_the_product_of_each_grid_in_order_and_without_repetition():
    block = {"dynamics": ("gaussian",), "size": (0.5, 0.6), "learning_rate": (0.1, 0.2)}
    problem = problem_of(Quadratic(HESSIAN), block, {**block, "size": (0.6, 0.7)})
    cells = problem.plan(quick=False)
    assert [(cell.learning_rate, cell.size) for cell in cells] == [
        *((0.1, 0.5), (0.1, 0.6), (0.2, 0.5), (0.2, 0.6)),
        *((0.1, 0.7), (0.2, 0.7)),
    ]
    assert {cell.replicas for cell in cells} == {8}


def test_the_quick_plan_has_fewer_cells_and_replicas():
    block = {"dynamics": ("gaussian",), "learning_rate": (0.1,)}
    problem = problem_of(
        Quadratic(HESSIAN),
        {**block, "size": (0.5,), "quick": False},
        {**block, "size": (0.6,), "replicas": 100, "quick_replicas": 30},
        {**block, "size": (0.7,), "replicas": 10, "quick_replicas": 30},
    )
    assert [(cell.size, cell.replicas) for cell in problem.plan(quick=True)] == [
        (0.6, 30),
        (0.7, 10),
    ]
    assert [cell.replicas for cell in problem.plan(quick=False)] == [8, 100, 10]


def test_a_quick_plan_without_cells_is_refused():
    block = {"dynamics": ("gaussian",), "learning_rate": (0.1,), "size": (0.5,), "quick": False}
    with pytest.raises(StudyError, match="--quick leaves no cell"):
        problem_of(Quadratic(HESSIAN), block).plan(quick=True)


def test_runs_are_capped_at_some_predicted_mean_exit_times():
    grid = {"dynamics": ("gaussian",), "learning_rate": (0.1,), "batch_size": (4,)}

    def cap(**entries):
        problem, (cell,) = planned(Quadratic(HESSIAN), **{**grid, **entries})
        return cell.max_steps, predict(problem.escape(cell)).mean

    steps, mean = cap(barrier=(4.0,))
    assert steps == float(f"{20 * mean:.2g}")
    steps, mean = cap(barrier=(4.0,), patience=3.0)
    assert steps == float(f"{3 * mean:.2g}")
    steps, mean = cap(barrier=(4.0,), max_steps=500)
    assert steps == 500 < 20 * mean
    steps, mean = cap(barrier=(0.5,), patience=0.1)
    assert steps == 100 > 0.1 * mean
    steps, _ = cap(barrier=(0.5,), patience=0.1, max_steps=50)
    assert steps == 50
    # A mean exit time beyond the largest float is no reason to fail.
    steps, mean = cap(barrier=(900.0,))
    assert (steps, mean) == (200_000, np.inf)


@pytest.mark.parametrize(
    "entries",
    [
        {"region": ("ball",)},
        {"region": ("sublevel",)},
        {"dynamics": ("minibatch_shuffled_epochs",)},
    ],
    ids=str,
)
def test_cells_without_a_quick_prediction_keep_their_cap(entries):
    grid = {"dynamics": ("minibatch",), "learning_rate": (0.05,), "max_steps": 12_345}
    _, (cell,) = planned(REGRESSION, size=(0.5,), **{**grid, **entries})
    assert cell.max_steps == 12_345


# Landscapes and minima


def test_analytic_landscapes_are_built_as_specified():
    quadratic = build_landscape(
        LandscapeSpecification(function="quadratic", eigenvalues=(2.0, 0.5)), seed=0
    )
    np.testing.assert_array_equal(quadratic.hessian, np.diag([2.0, 0.5]))
    wanted = LandscapeSpecification(function="styblinski_tang", dim=3, minimum=1)
    specification = Specification("s", "S?", landscape=wanted)
    shallow = find_study_minimum(specification, build_landscape(wanted, seed=0))
    np.testing.assert_allclose(shallow.theta, 2.7468, atol=1e-4)
    with pytest.raises(StudyError, match="minimum is 2, but 2 minima are known, counted from 0"):
        find_study_minimum(
            dataclasses.replace(specification, landscape=dataclasses.replace(wanted, minimum=2)),
            build_landscape(wanted, seed=0),
        )


def test_networks_are_built_as_specified():
    landscape = build_landscape(
        LandscapeSpecification(data="breast_cancer", widths=(3,), bias=True, examples=50), seed=0
    )
    assert landscape.dim == 30 * 3 + 3 + 3 * 2 + 2
    assert landscape.examples == 50
    logistic = build_landscape(LandscapeSpecification(data="breast_cancer", network="logistic"), 0)
    assert logistic.dim == 30 * 2
    images = LandscapeSpecification(data="digits", network="convolutional", widths=(2,))
    assert build_landscape(images, seed=0).examples == 1797


def test_the_seed_decides_the_network():
    specification = LandscapeSpecification(data="breast_cancer", widths=(2,))
    one, again, other = (build_landscape(specification, seed).initial for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)


@pytest.mark.parametrize(
    ("entries", "error", "words"),
    [
        ({"data": "digit"}, DataError, "did you mean 'digits'"),
        ({"data": "digits", "path": "/x"}, InvalidArgument, "option path='/x'"),
        ({"data": "digits", "preprocessing": "papers"}, InvalidArgument, "did you mean 'paper'"),
        ({"data": "digits", "network": "resnet"}, StudyError, "network is 'resnet'; choose mlp"),
        ({"data": "digits", "activation": "tan"}, InvalidArgument, "activation is 'tan'"),
        ({"data": "digits", "loss": "hinge"}, InvalidArgument, "loss is 'hinge'"),
        ({"data": "digits", "widths": (0,)}, InvalidArgument, "widths is"),
        ({"data": "digits", "examples": 5000}, InvalidArgument, "count=5000"),
        ({"data": "breast_cancer", "network": "convolutional"}, StudyError, "no square images"),
        ({"build": lambda: 3}, StudyError, r"\[landscape\] build returned 3"),
        ({"build": lambda: 1 / 0}, StudyError, r"\[landscape\] build failed: ZeroDivisionError"),
        ({"build": lambda: Quadratic([[np.nan]])}, InvalidArgument, "hessian holds NaN"),
    ],
)
def test_landscapes_that_cannot_be_built_are_explained(entries, error, words):
    with pytest.raises(error, match=words):
        build_landscape(LandscapeSpecification(**entries), seed=0)


def test_a_known_minimum_is_polished_and_others_are_trained():
    diverging = TrainingSpecification(learning_rate=1e6, batch_size=4, steps=50)
    specification = Specification("s", "S?", training=diverging)
    near = regression(SOLUTION + 1e-3)
    np.testing.assert_allclose(find_study_minimum(specification, near).theta, SOLUTION, rtol=1e-9)
    with pytest.raises(escapade.EscapadeError, match="training diverged"):
        find_study_minimum(specification, regression(None))
    trained = find_study_minimum(Specification("s", "S?"), regression(None))
    np.testing.assert_allclose(trained.theta, SOLUTION, rtol=1e-9)
