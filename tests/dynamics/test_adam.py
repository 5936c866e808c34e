"""Adam step by step: against PyTorch and by its formula."""

import jax.numpy as jnp
import numpy as np
import pytest

import escapade as esc
from escapade.errors import InvalidArgument
from escapade.precision import context

PLANE = esc.landscapes.Quadratic([2.0, 1.0, 0.5])
GRADIENTS = np.random.default_rng(1).normal(size=(60, 3)) * [1e-3, 1.0, 30.0]


def walk(dynamics, start, precision):
    with context(precision):
        state, path = dynamics.initial_state(PLANE, jnp.asarray(start)), []
        for gradient in GRADIENTS:
            state = dynamics.update(PLANE, state, jnp.asarray(gradient))
            path.append(np.asarray(state[0]))
        assert (state[-1].dtype, int(state[-1])) == (np.uint32, len(GRADIENTS))
    return np.array(path)


@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-12), ("float32", 2e-5)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_step_is_that_of_pytorch(precision, tolerance, weight_decay):
    torch = pytest.importorskip("torch")
    start = np.array([0.3, -0.2, 1.0])
    theirs = torch.nn.Parameter(torch.tensor(start))
    options = {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6}
    if weight_decay:
        optimiser = torch.optim.AdamW([theirs], weight_decay=weight_decay, **options)
    else:
        optimiser = torch.optim.Adam([theirs], **options)
    expected = []
    for gradient in GRADIENTS:
        theirs.grad = torch.from_numpy(gradient.copy())
        optimiser.step()
        expected.append(theirs.detach().numpy().copy())
    dynamics = esc.Adam(0.01, 1, 0.8, 0.99, 1e-6, weight_decay)
    np.testing.assert_allclose(walk(dynamics, start, precision), expected, atol=tolerance)


def test_the_defaults_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    defaults = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))]).defaults
    dynamics = esc.Adam(1e-3, 1)
    assert (dynamics.beta1, dynamics.beta2) == defaults["betas"]
    assert (dynamics.epsilon, dynamics.weight_decay) == (defaults["eps"], defaults["weight_decay"])


def test_the_first_steps_in_single_precision():
    """``1 - beta2^t`` loses no digits to cancellation: the first step is the sign times eta."""
    path = walk(esc.Adam(0.25, 1, beta2=0.99999, epsilon=1e-12), np.zeros(3), "float32")
    np.testing.assert_allclose(path[0], -0.25 * np.sign(GRADIENTS[0]), rtol=1e-6)


def test_contraction_is_the_decay_of_the_mean():
    """With squares that hardly fluctuate, the mean of many runs decays as estimated."""
    dynamics = esc.Adam(0.01, 4.0, 0.5, 0.9995, noise=esc.noise.Isotropic(1.0))
    slow = dynamics.contraction(PLANE, np.zeros(3), np.diag([2.0, 1.0, 0.5]))
    # Of the slowest direction: theta' = theta - 2 eta m' / 1, m' = m / 2 + theta / 4.
    rate = 0.01 / np.sqrt(1 / 4) * 0.5
    roots = np.roots([1, -(1.5 - 0.5 * rate), 0.5])
    assert slow == pytest.approx(max(np.abs(roots).max(), 0.9995), rel=1e-6)
    assert esc.Adam(0.01, 4.0, beta2=0.9, noise=esc.noise.Isotropic(1.0)).contraction(
        PLANE, np.zeros(3), np.diag([2.0, 1.0, 0.5])
    ) == pytest.approx(np.abs(np.roots([1, -(1.9 - 0.1 * rate), 0.9])).max(), rel=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"beta1": 1.0},
        {"beta2": -0.1},
        {"epsilon": 0.0},
        {"weight_decay": -1.0},
        {"weight_decay": np.inf},
        {"batch_size": 0.5},
        {"sampling": "sorted"},
    ],
    ids=str,
)
def test_bad_arguments(options):
    with pytest.raises(InvalidArgument, match=next(iter(options))):
        esc.Adam(**{"learning_rate": 0.1, "batch_size": 2} | options)
