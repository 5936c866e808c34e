"""Jump rates on lattices: Selling's decomposition, first moments, and the order of the nodes."""

import jax.numpy as jnp
import numpy as np
import pytest

from escapade.dynamics import ContinuousSGD
from escapade.errors import DegenerateNoise, Unsupported
from escapade.escape import Escape
from escapade.exact.grid.dissection import dissection
from escapade.exact.grid.generator import bernoulli, generator
from escapade.exact.grid.lattice import Box, Lattice
from escapade.exact.grid.process import Process
from escapade.exact.grid.selling import selling
from escapade.landscape import Quadratic
from escapade.noise import Constant, Function
from escapade.region import Ball, HalfSpace

RATE = 0.01


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("decades", [0.5, 3.0, 6.0])
def test_selling_gives_the_covariance_back(dim, decades):
    random = np.random.default_rng(0)
    vectors = np.linalg.qr(random.standard_normal((2000, dim, dim)))[0]
    variances = 10 ** random.uniform(-decades, 0, (2000, dim))
    matrices = np.einsum("nij,nj,nkj->nik", vectors, variances, vectors)
    offsets, weights = selling(matrices)
    assert (weights >= 0).all()
    together = np.einsum("nk,nki,nkj->nij", weights, offsets, offsets)
    # Weights are rounded at the scale of the matrix, and multiply squared offsets.
    rounding = 5e-14 * (1 + (offsets**2).sum(axis=2).max(axis=1)) * np.abs(matrices).max((1, 2))
    assert (np.abs(together - matrices).max((1, 2)) < 4 * rounding).all()


def test_selling_of_axes_uses_axes():
    offsets, weights = selling(np.diag([2.0, 3.0, 5.0])[None])
    used = offsets[0][weights[0] > 0]
    assert sorted(weights[0][weights[0] > 0]) == [2.0, 3.0, 5.0]
    assert (np.abs(used).sum(axis=1) == 1).all()


def test_bernoulli():
    z = np.array([-800.0, -1.0, -1e-12, 0.0, 1e-12, 1.0, 800.0])
    expected = [800.0, 1.5819767068693265, 1.0, 1.0, 1.0, 0.5819767068693265, 0.0]
    np.testing.assert_allclose(bernoulli(z), expected, rtol=1e-12)
    z = np.linspace(-30, 30, 101)
    np.testing.assert_allclose(bernoulli(-z) - bernoulli(z), z, atol=1e-12)


def dense_process(dim, region=None):
    random = np.random.default_rng(dim)
    root = random.standard_normal((dim, dim))
    hessian = np.diag(np.arange(1.0, dim + 1)) + 0.3
    noise = Constant(0.3 * root @ root.T / dim + np.eye(dim))
    dynamics = ContinuousSGD(RATE, RATE / 0.2, noise)
    return Process(Escape(Quadratic(hessian), dynamics, region or Ball(1.0)), 0.0)


@pytest.mark.parametrize("dim", [2, 3])
def test_mean_jump_is_the_drift_to_second_order(dim):
    process = dense_process(dim)
    box = Box(np.eye(dim), np.full(dim, -1.1), np.full(dim, 1.1))
    errors = []
    for count in (16, 32):
        trial = generator(process, Lattice(box, process.escape.start, count))
        assert trial.rates.data.min() >= 0
        assert trial.exit_rates.min() >= 0
        np.testing.assert_allclose(np.linalg.norm(trial.exit_points, axis=1), 1.0, rtol=1e-7)
        far = np.linalg.norm(trial.nodes, axis=1) < 0.3
        mean = trial.rates @ trial.nodes - trial.total[:, None] * trial.nodes
        drift = -RATE * trial.nodes @ process.escape.landscape.hessian
        center = trial.nearest(np.zeros(dim))
        jumps = trial.nodes - trial.nodes[center]
        square = (jumps.T * trial.rates[[center]].toarray()[0]) @ jumps
        covariance = process.covariance(np.zeros((1, dim)))[0]
        errors.append([np.abs(mean - drift)[far].max(), np.abs(square - covariance).max()])
    ratios = np.array(errors[0]) / errors[1]
    assert (ratios > 3).all()
    assert (ratios < 5.5).all()


def test_detailed_balance_where_there_is_a_potential():
    process = Process(
        Escape(
            Quadratic(np.array([[2.0, 0.5], [0.5, 1.0]])),
            ContinuousSGD(RATE, RATE / 0.2, Constant(np.eye(2))),
            HalfSpace([1.0, 0.0], 50.0),
        ),
        0.0,
    )
    box = Box(np.eye(2), np.full(2, -2.0), np.full(2, 2.0))
    trial = generator(process, Lattice(box, np.zeros(2), 20))
    loss = 0.5 * np.einsum("ni,ij,nj->n", trial.nodes, [[2.0, 0.5], [0.5, 1.0]], trial.nodes)
    flow = trial.rates.multiply(np.exp(-2 * loss / 0.2)[:, None]).tocsr()
    inner = ~trial.open_sides.any(axis=(1, 2))
    flow = flow[inner][:, inner]
    assert abs(flow - flow.T).max() < 1e-12 * abs(flow).max()


def test_nodes_behind_a_gap_are_left_out():
    def inside(theta):
        return (jnp.abs(theta[0]) < 1.0) | (jnp.abs(theta[0] - 3.0) < 1.0)

    from escapade.region import Where

    process = dense_process(2, Where(inside))
    box = Box(np.eye(2), np.array([-2.0, -2.0]), np.array([5.0, 2.0]))
    trial = generator(process, Lattice(box, np.zeros(2), 40))
    assert trial.nodes[:, 0].max() < 1.0


def test_order_of_the_nodes():
    indices = np.indices((30, 40)).reshape(2, -1).T
    order = dissection(indices, np.array([1, 1]))
    assert sorted(order) == list(range(1200))
    # The first plane comes last, and the halves before it are not coupled.
    plane = indices[order[-30:]]
    assert len(np.unique(plane[:, 1])) == 1


def test_noise_without_a_part_in_some_direction():
    dynamics = ContinuousSGD(
        RATE, 1.0, Function(lambda theta: jnp.diag(jnp.stack([1.0 + theta[0] ** 2, 0 * theta[0]])))
    )
    process = Process(Escape(Quadratic(np.eye(2)), dynamics, Ball(1.0)), 0.0)
    with pytest.raises(DegenerateNoise, match="direction"):
        process.covariance(np.zeros((1, 2)))


def test_noise_too_thin_for_a_lattice():
    axis = np.array([np.cos(0.5), np.sin(0.5)])
    thin = np.outer(axis, axis) + 1e-9 * np.eye(2)
    dynamics = ContinuousSGD(RATE, 1.0, Constant(thin))
    process = Process(Escape(Quadratic(np.eye(2)), dynamics, Ball(1.0)), 0.0)
    box = Box(np.eye(2), np.full(2, -1.1), np.full(2, 1.1))
    with pytest.raises(Unsupported, match="anisotropic"):
        generator(process, Lattice(box, np.zeros(2), 20))
