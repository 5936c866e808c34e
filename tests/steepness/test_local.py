import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

from escapade.errors import DegenerateNoise, InvalidArgument
from escapade.minimum.lyapunov import (
    horizon_covariance,
    stationary_covariance,
    stationary_covariance_discrete,
)
from escapade.region.forms import LinearForm, QuadraticForm
from escapade.steepness.local import minimum_over_boundary, quasipotential

H2 = np.array([[2.0, 0.6], [0.6, 1.0]])
C2 = np.array([[1.0, -0.3], [-0.3, 0.5]])
NORMAL = np.array([1.0, 1.0]) / np.sqrt(2)


def ball(dim, radius):
    return QuadraticForm(np.eye(dim), radius)


def noise(params):
    C = params["C"]
    return {"I": np.eye(len(params["H"])), "H": params["H"]}[C] if isinstance(C, str) else C


@pytest.mark.parametrize("case", ["Q01", "Q02", "Q03", "D01", "D02"])
def test_to_a_point(oracle, case):
    p = oracle(case)["params"]
    S = (
        stationary_covariance_discrete(p["H"], noise(p), p["eta"])
        if "eta" in p
        else stationary_covariance(p["H"], noise(p))
    )
    value = quasipotential(S, np.array(p["x"]))
    assert value == pytest.approx(oracle(case)["value"], rel=1e-10)


@pytest.mark.parametrize("case", ["Q04", "Q05", "D03"])
def test_to_a_point_within_a_horizon(oracle, case):
    p = oracle(case)["params"]
    S = horizon_covariance(p["H"], p["C"], p.get("T", p.get("K")), p.get("eta"))
    mean = None
    if case == "Q05":
        mean = scipy.linalg.expm(-p["T"] * np.array(p["H"])) @ p["x0"]
    value = quasipotential(S, np.array(p["x"]), mean)
    assert value == pytest.approx(oracle(case)["value"], rel=1e-8)


def test_to_the_boundary(oracle):
    S = stationary_covariance(H2, C2)
    for case, form in (
        ("Q06", ball(2, 1.0)),
        ("Q07", QuadraticForm(H2, np.sqrt(2 * oracle("Q07")["params"]["dL"]))),
        ("Q08", LinearForm(NORMAL, 1.0, two_sided=False)),
    ):
        value = minimum_over_boundary(S, form).value
        assert value == pytest.approx(oracle(case)["value"], rel=1e-10)


def test_edge_of_stability(oracle):
    H = np.diag([1.0, 4.9])
    S = stationary_covariance_discrete(H, H, oracle("D04")["params"]["eta"])
    for case, form in (("D04", ball(2, 1.0)), ("D05", QuadraticForm(H, np.sqrt(2.0)))):
        found = minimum_over_boundary(S, form)
        assert found.value == pytest.approx(oracle(case)["value"], rel=1e-10)
        np.testing.assert_allclose(np.abs(found.points @ [1, 0]), 0, atol=1e-12)


def brute_force(S, form, mean):
    """Cheapest of many boundary points in the plane, refined."""

    def cost(angle):
        direction = np.array([np.cos(angle), np.sin(angle)])
        # From the mean to the boundary along a direction: a quadratic equation.
        a, b = direction @ form.matrix @ direction, direction @ form.matrix @ mean
        c = mean @ form.matrix @ mean - form.radius**2
        step = (-b + np.sqrt(b * b - a * c)) / a * direction
        return 0.5 * step @ np.linalg.solve(S, step)

    angles = np.linspace(0, 2 * np.pi, 4001)
    best = angles[np.argmin([cost(angle) for angle in angles])]
    bracket = (best - 2e-3, best + 2e-3)
    refined = scipy.optimize.minimize_scalar(
        cost, bounds=bracket, method="bounded", options={"xatol": 1e-10}
    )
    return refined.fun


@pytest.mark.parametrize("mean", [(0.0, 0.0), (0.2, -0.1), (-0.6, 0.5), (1e-3, 2e-3)])
@pytest.mark.parametrize("matrix", [np.eye(2), H2])
def test_ellipsoid_from_any_mean(matrix, mean):
    S, mean = stationary_covariance(H2, C2), np.array(mean)
    form = QuadraticForm(matrix, 1.2)
    found = minimum_over_boundary(S, form, mean)
    assert found.value == pytest.approx(brute_force(S, form, mean), rel=1e-8)
    for point in found.points:
        assert point @ matrix @ point == pytest.approx(1.2**2, rel=1e-9)
        assert quasipotential(S, point, mean) == pytest.approx(found.value, rel=1e-9)


@pytest.mark.parametrize("pull", [1e-14, 1e-10, 1e-6, 1e-3])
def test_mean_that_hardly_pulls_along_the_easiest_direction(pull):
    """Between the hard case of the secular equation and the ordinary one."""
    S, mean = np.diag([1.0, 0.2]), np.array([pull, 0.3])
    found = minimum_over_boundary(S, ball(2, 1.0), mean)
    assert found.value == pytest.approx(brute_force(S, ball(2, 1.0), mean), rel=1e-8)
    for point in found.points:
        assert point @ point == pytest.approx(1.0, rel=1e-8)


@pytest.mark.parametrize("two_sided", [True, False])
def test_planes_from_a_mean(two_sided):
    S, mean = stationary_covariance(H2, C2), np.array([-0.4, 0.1])
    found = minimum_over_boundary(S, LinearForm(NORMAL, 0.5, two_sided), mean)
    sides = (0.5, -0.5) if two_sided else (0.5,)
    expected = []
    for side in sides:
        plane = {"type": "eq", "fun": lambda x, side=side: NORMAL @ x - side}
        cost = scipy.optimize.minimize(
            lambda x: quasipotential(S, x, mean), side * NORMAL, constraints=plane, tol=1e-14
        )
        expected.append(cost.fun)
    assert found.value == pytest.approx(min(expected), rel=1e-8)
    assert len(found.points) == 1


def test_all_exit_points_are_reported():
    S = stationary_covariance(H2, C2)
    found = minimum_over_boundary(S, ball(2, 1.0))
    np.testing.assert_allclose(found.points[0], -found.points[1])
    assert found.degeneracy == 1
    slab = minimum_over_boundary(S, LinearForm(NORMAL, 1.0, two_sided=True))
    np.testing.assert_allclose(slab.points[0], -slab.points[1])
    # Noise proportional to the Hessian: every direction out of a ball is as easy.
    isotropic = minimum_over_boundary(stationary_covariance(H2, H2), ball(2, 1.0))
    assert isotropic.degeneracy == 2
    assert isotropic.value == pytest.approx(1.0, rel=1e-12)
    values = [quasipotential(stationary_covariance(H2, H2), x) for x in isotropic.points]
    np.testing.assert_allclose(values, 1.0, rtol=1e-12)


@pytest.mark.parametrize("form", [ball(2, 1.0), LinearForm(NORMAL, 1.0, two_sided=True)])
@pytest.mark.parametrize("eta", [None, 0.3])
def test_value_falls_with_the_horizon_to_the_stationary_one(form, eta):
    S = (
        stationary_covariance(H2, C2)
        if eta is None
        else stationary_covariance_discrete(H2, C2, eta)
    )
    horizons = [0.2, 0.7, 2.0, 30.0] if eta is None else [1, 3, 10, 300]
    values = [
        minimum_over_boundary(horizon_covariance(H2, C2, T, eta), form).value for T in horizons
    ]
    assert np.all(np.diff(values) < 0)
    assert values[-1] == pytest.approx(minimum_over_boundary(S, form).value, rel=1e-10)


def test_discrete_tends_to_continuous_at_first_order():
    limit = minimum_over_boundary(stationary_covariance(H2, C2), ball(2, 1.0)).value
    errors = [
        limit
        - minimum_over_boundary(stationary_covariance_discrete(H2, C2, eta), ball(2, 1.0)).value
        for eta in (1e-3, 5e-4)
    ]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.01)


def test_invariance_under_rotation_and_loss_scaling():
    S, form = stationary_covariance(H2, C2), QuadraticForm(H2, 1.0)
    R = scipy.linalg.expm(np.array([[0.0, 0.7], [-0.7, 0.0]]))
    turned = minimum_over_boundary(R @ S @ R.T, QuadraticForm(R @ H2 @ R.T, 1.0))
    plain = minimum_over_boundary(S, form)
    assert turned.value == pytest.approx(plain.value, rel=1e-12)
    # L -> a L, C -> a^2 C, eta -> eta / a: (B / eta) V0 is unchanged.
    a, eta = 3.0, 0.2
    one = minimum_over_boundary(stationary_covariance_discrete(H2, C2, eta), ball(2, 1.0))
    other = minimum_over_boundary(
        stationary_covariance_discrete(a * H2, a**2 * C2, eta / a), ball(2, 1.0)
    )
    assert other.value / (eta / a) == pytest.approx(one.value / eta, rel=1e-12)


def test_singular_noise():
    S = np.diag([0.5, 0.0])
    assert quasipotential(S, np.array([1.0, 0.0])) == pytest.approx(1.0)
    assert quasipotential(S, np.array([1.0, 1e-3])) == np.inf
    assert minimum_over_boundary(S, ball(2, 2.0)).value == pytest.approx(4.0)
    with pytest.raises(DegenerateNoise):
        minimum_over_boundary(S, LinearForm([0.0, 1.0], 1.0, two_sided=True))


def test_forms_measure_distances_and_normals():
    form = QuadraticForm(H2, 1.5)
    directions = np.random.default_rng(0).normal(size=(20, 2))
    points = directions * form.distance_along(directions)[:, None]
    np.testing.assert_allclose(np.einsum("pi,ij,pj->p", points, H2, points), 1.5**2)
    normals = form.normal_at(points)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)
    tangents = points @ H2 @ np.array([[0.0, -1.0], [1.0, 0.0]])
    np.testing.assert_allclose(np.einsum("pi,pi->p", normals, tangents), 0, atol=1e-12)
    slab = LinearForm([2.0, 0.0], 3.0, two_sided=True)
    np.testing.assert_allclose(
        slab.distance_along(np.array([[1.0, 5], [-1, 0], [0, 1]])), [1.5, 1.5, np.inf]
    )
    np.testing.assert_allclose(slab.normal_at(np.array([[1.5, 1], [-1.5, 0]])), [[1, 0], [-1, 0]])
    half = LinearForm([2.0, 0.0], 3.0, two_sided=False)
    np.testing.assert_allclose(half.distance_along(np.array([[1.0, 0], [-1, 0]])), [1.5, np.inf])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QuadraticForm(np.diag([1.0, -1.0]), 1.0), "negative eigenvalue -1"),
        (lambda: QuadraticForm(np.eye(2), 0.0), "radius is 0"),
        (lambda: QuadraticForm(np.zeros((2, 2)), 1.0), "not zero"),
        (lambda: QuadraticForm([[1.0, 0.5], [0.0, 1.0]], 1.0), "not symmetric"),
        (lambda: LinearForm([0.0, 0.0], 1.0, two_sided=True), "not zero"),
        (lambda: LinearForm([1.0, 0.0], -1.0, two_sided=True), "offset is -1"),
    ],
)
def test_impossible_forms_are_refused(make, message):
    with pytest.raises(InvalidArgument, match=message):
        make()
