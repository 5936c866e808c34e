"""One cell: where exits point, and what the result says when something is missing."""

import pickle
import threading
from dataclasses import replace

import numpy as np
import pytest

from escapade.errors import StudyError
from escapade.landscape import DoubleWell
from escapade.study import Cell
from escapade.study.compute import compute_cell, exit_shares, to_be_sent
from escapade.study.problem import Problem

EYE = np.eye(2)
ROTATION = np.array([[0.6, -0.8], [0.8, 0.6]])


def test_shares_are_squared_cosines_averaged_over_exits():
    minimum = np.array([1.0, -1.0])
    displacements = np.array([[3.0, 4.0], [0.0, -2.0], [5.0, 0.0]])
    every = np.array([True, True, True])
    shares = exit_shares(minimum + displacements, every, minimum, EYE)
    np.testing.assert_allclose(shares, [(0.36 + 0 + 1) / 3, (0.64 + 1 + 0) / 3])
    # The same displacements, told in other axes.
    turned = exit_shares(minimum + displacements @ ROTATION.T, every, minimum, ROTATION)
    np.testing.assert_allclose(turned, shares)


def test_shares_leave_out_replicas_that_did_not_exit():
    points = np.array([[3.0, 4.0], [np.nan, np.inf], [0.0, 1.0]])
    exited = np.array([True, False, False])
    np.testing.assert_allclose(exit_shares(points, exited, np.zeros(2), EYE), [0.36, 0.64])
    nobody = exit_shares(points, np.zeros(3, bool), np.zeros(2), EYE)
    assert nobody.shape == (2,)
    assert np.isnan(nobody).all()


@pytest.fixture(scope="module")
def problem(well):
    return Problem(well(), DoubleWell(), np.array([-1.0]))


def test_a_cell_depends_on_cell_and_seed_alone(problem, same):
    cell, *_ = problem.plan(quick=False)
    result = compute_cell(problem, cell)
    assert result.cell == cell
    assert result.sample.replicas == 32
    assert result.sample.max_steps == cell.max_steps
    assert result.sample.key == str(cell.key(0))
    np.testing.assert_allclose(result.exit_shares, [1.0])
    assert result.silence == ""
    same(compute_cell(problem, cell), result)
    sent = pickle.loads(pickle.dumps(to_be_sent(problem)))
    same(sent(cell, threading.Event()), result)


def test_a_cell_without_theory_says_why(problem):
    unstable = Cell("gaussian", 1.5, 4, 1.0, "slab", 0.2, 8, 100)
    result = compute_cell(problem, unstable)
    assert result.prediction is None
    assert result.exponential_law is None
    assert "learning_rate 1.5 is unstable" in result.silence
    assert result.diagnosis.mechanism == "unstable"
    assert result.sample.exits == 8


def test_a_cell_without_exits_has_no_shares(problem):
    result = compute_cell(problem, Cell("gaussian", 0.05, 4, 1.0, "slab", 0.9, 8, 20))
    assert result.sample.censored.all()
    assert np.isnan(result.exit_shares).all()


def test_a_rare_exit_is_split(rare):
    assert rare.sample is None
    assert rare.measured is rare.rare
    assert len(rare.rare.rates) == 4
    assert rare.steps_taken == rare.rare.steps_used
    assert rare.engine == "splitting along the region's level"
    # Four small runs: about a fifth.
    deviation = rare.rare.log_mean - rare.prediction.log_mean
    assert abs(deviation) < 4 * np.hypot(rare.rare.relative_error, rare.prediction.relative_error)
    np.testing.assert_allclose(rare.exit_shares, [1.0])


def test_shares_are_weighted_by_what_exit_points_stand_for():
    points = np.array([[1.0, 0.0], [0.0, 2.0]])
    shares = exit_shares(points, np.array([0.9, 0.1]), np.zeros(2), EYE)
    np.testing.assert_allclose(shares, [0.9, 0.1])


def test_a_result_is_either_a_sample_or_a_rare_exit(rare):
    with pytest.raises(StudyError, match="give either a sample or a rare exit"):
        replace(rare, rare=None)
