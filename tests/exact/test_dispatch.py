"""Which solver answers: diffusions in the plane and in space go to the lattice, chains do not."""

import numpy as np
import pytest

from escapade.dynamics import ContinuousSGD, GaussianSGD
from escapade.errors import InvalidArgument
from escapade.escape import Escape
from escapade.exact import solve
from escapade.landscape import Quadratic
from escapade.noise import Function, Isotropic
from escapade.region import Ball, Slab

WHITE = Isotropic(1.0)


def test_a_lattice_is_used_where_no_coordinate_decides_or_on_request():
    ball = Escape(Quadratic(np.eye(2)), ContinuousSGD(0.01, 0.05, WHITE), Ball(1.0))
    series, lattice = solve(ball), solve(ball, nodes=60)
    assert "2F2" in series.method
    assert lattice.method != series.method
    assert lattice.mean == pytest.approx(series.mean, rel=max(3 * lattice.error, 1e-6))
    boxed = solve(ball, nodes=60, box=((-1.1, 1.1), (-1.1, 1.1)))
    assert boxed.mean == pytest.approx(series.mean, rel=max(3 * boxed.error, 1e-6))
    anisotropic = Escape(Quadratic([1.0, 2.0]), ContinuousSGD(0.01, 0.05, WHITE), Ball(1.0))
    assert solve(anisotropic, nodes=60).mean > series.mean


def test_interpretation_reaches_the_lattice():
    """The noise changes along the normal alone: the line is exact."""

    def covariance(theta):
        return np.diag([1.0, 0.0]) * (1 + theta[0] ** 2 / 2) + np.diag([0.0, 1.0])

    plane = Escape(
        Quadratic(np.eye(2)), ContinuousSGD(0.01, 0.05, Function(covariance)), Slab([1.0, 0.0], 0.8)
    )
    line = Escape(
        Quadratic([1.0]),
        ContinuousSGD(0.01, 0.05, Function(lambda theta: 1 + theta[0] ** 2 / 2)),
        Slab([1.0], 0.8),
    )
    means = []
    for interpretation in ("ito", "anti_ito"):
        lattice = solve(plane, interpretation=interpretation, nodes=60)
        exact = solve(line, interpretation=interpretation)
        assert lattice.mean == pytest.approx(exact.mean, rel=max(3 * lattice.error, 1e-6))
        means.append(exact.mean)
    assert abs(means[1] / means[0] - 1) > 0.05


@pytest.mark.parametrize(
    "escape",
    [
        Escape(Quadratic(np.eye(2)), GaussianSGD(0.3, 1.0, WHITE), Ball(1.0)),
        Escape(Quadratic(np.eye(4)), ContinuousSGD(0.01, 0.05, WHITE), Ball(1.0)),
        Escape(Quadratic([1.0]), ContinuousSGD(0.01, 0.05, WHITE), Ball(1.0)),
    ],
    ids=["chain", "four dimensions", "line"],
)
def test_lattice_arguments_need_a_lattice(escape):
    with pytest.raises(InvalidArgument, match="nodes or box"):
        solve(escape, nodes=50)
