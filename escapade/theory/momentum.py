"""Mean exit time of SGD with momentum, at any learning rate and momentum below one.

Near a minimum (theta, v) is a linear-Gaussian chain. Rare exits come in clusters: a chain that is
outside comes back and leaves again, a few steps later or, where momentum makes it swing, a period
later or on the other side. The rate of clusters is that of their ends,

    1 / E[nu] = P(outside now, and inside for the next m steps)

of the stationary chain, with m long against the chain's memory and short against E[nu]. Without
momentum this is the extremal index ``theta(s)`` of `escapade.theory.uniform` times the probability
of the outside. Nothing is said about the size of a step, so the law holds from the overdamped limit
(``eta lambda << (1 - mu)^2``, plain SGD of the effective learning rate) through the underdamped one
to the edge of stability ``eta lambda = 2 (1 + mu)``.

The probability is an average over draws of the stationary law outside the region (exact ones for
slabs and half-spaces, weighted ones for balls and sublevel sets), each followed until it leaves
again. As independent clusters come within m steps with the same rate h, it is ``h exp(-h m)``.
"""

import equinox as eqx
import numpy as np
import scipy.special
from jaxtyping import Bool, Float

from escapade.dynamics import MomentumSGD
from escapade.errors import DegenerateNoise, Unstable, Unsupported
from escapade.escape import Escape
from escapade.landscape import Quadratic
from escapade.minimum import Neighbourhood
from escapade.minimum.lyapunov import stationary_covariance_of_chain, symmetric_root
from escapade.region.forms import LinearForm, QuadraticForm
from escapade.steepness.local import minimum_over_boundary
from escapade.theory.groups import SHELL, measure_groups
from escapade.theory.nonlinearity import nonlinearity
from escapade.theory.prediction import Groups, Prediction, assumption
from escapade.theory.quadratic_law import QuadraticLaw

Matrix = Float[np.ndarray, "rows columns"]
Draws = Float[np.ndarray, "coordinates draws"]

MEMORIES = 4.0
"""Length of a cluster, in relaxation times of the slowest mode."""

SHORT = 0.3
"""Most clusters that may begin within that length."""

LONGEST = 20_000
"""Most steps for which a draw is followed."""

LONGEST_START = 1_000
"""Most steps over which the first relaxation is summed."""


def momentum_law(escape: Escape, around: Neighbourhood) -> Prediction:
    """Mean exit time from the minimum under `MomentumSGD`, in steps, with its exponent V0.

    V0 is that of the position's stationary law at this learning rate and momentum, ``x^T S^-1 x /
    2`` at its least on the boundary, in units in which ``log E[nu] ~ (B / eta) V0``.

    Raises:
        Unsupported: for another dynamics, momentum one, shuffled epochs, or a region that is no
            ball, sublevel set, half-space or slab.
        Unstable: when the learning rate is too large.
        DegenerateNoise: when no noise reaches the boundary.
    """
    dynamics = _supported(escape)
    form = escape.region.local_form(escape.minimum, around.drift_matrix)
    if form is None:
        raise Unsupported(
            f"no closed form predicts the exit from this region ({escape.region}); use a ball, "
            "sublevel set, half-space or slab around the minimum, or simulate"
        )
    step, kick = dynamics.transition(around.drift_matrix)
    noise = around.covariance / dynamics.batch_size
    largest = dynamics.largest_stable_learning_rate(float(np.max(around.relaxation_rates)))
    if dynamics.learning_rate >= largest:
        raise Unstable(
            f"learning_rate {dynamics.learning_rate:.6g} is unstable at this minimum under "
            f"{dynamics}; the largest stable learning rate is {largest:.6g}"
        )
    whole = stationary_covariance_of_chain(step, kick, noise)
    position = whole[: around.dim, : around.dim] / escape.noise_scale
    groups, exit_point = measure_groups(escape, around, position)
    memories = _relaxation_steps(step)
    groups = eqx.tree_at(
        lambda found: found.relaxation_steps,
        groups,
        (float(memories.max()), float(memories.min())),
    )
    log_rate, sampling_error = log_cluster_rate(step, kick, noise, whole, form)
    delay = first_relaxation(step, kick, noise, form, groups.barrier)
    return Prediction(
        theory="momentum",
        log_mean=float(np.log1p(delay * np.exp(log_rate)) - log_rate),
        relative_error=_relative_error(groups, log_rate, sampling_error),
        exponent=groups.barrier * escape.noise_scale,
        groups=groups,
        assumptions=_assumptions(escape, around, form, groups, exit_point, log_rate),
        source="rate of clusters of exits of the linear chain (docs/theory.md)",
    )


def _relative_error(groups: Groups, log_rate: float, sampling_error: float) -> float:
    """Statistics, a floor, and what grows as a relaxation comes near to the time between exits."""
    relaxed = float(np.exp(min(log_rate, 0.0))) * groups.relaxation_steps[0]
    return float(np.linalg.norm([2 * sampling_error, 0.02, 2 * relaxed]))


def _assumptions(
    escape: Escape,
    around: Neighbourhood,
    form: LinearForm | QuadraticForm,
    groups: Groups,
    exit_point: Float[np.ndarray, " dim"],
    log_rate: float,
) -> tuple[str, ...]:
    """Every assumption with the number that decides it."""
    dynamics = escape.dynamics
    assert isinstance(dynamics, MomentumSGD)
    steps = float(np.exp(min(-log_rate, 700.0)))
    slowest, rate = groups.relaxation_steps[0], dynamics.effective_learning_rate
    lines = [
        assumption(
            groups.barrier >= 2, f"exit over a barrier: b = {groups.barrier:.3g} (at least 2)"
        ),
        assumption(
            groups.shell_ratio <= SHELL,
            "the region lies outside the typical shell: mean squared distance over size squared "
            f"is {groups.shell_ratio:.2g} (at most {SHELL:g})",
        ),
        assumption(
            10 * slowest <= steps,
            f"all modes relax before the exit: the slowest takes {slowest:.3g} steps (at most a "
            f"tenth of {steps:.3g})",
        ),
    ]
    if rate is not None:
        inertia = groups.stiffness * rate / dynamics.learning_rate / (1 - dynamics.momentum)
        kind = "overdamped, as plain SGD" if inertia <= 0.25 else "with swings of its own"
        lines.append(f"any inertia: eta lambda_max / (1 - mu)^2 = {inertia:.3g}, {kind}")
    if not isinstance(escape.landscape, Quadratic):
        deviation = nonlinearity(escape, around, form, exit_point, steps)
        lines.append(
            assumption(
                deviation <= 0.1,
                "quadratic up to the exit: with typical fluctuations in the other directions the "
                f"force there differs from linear by {100 * deviation:.2g} % (at most 10 %)",
            )
        )
    if dynamics.noise is None:
        lines.append("Gaussian noise: skewness and tails of the minibatch noise are not seen")
    if not np.array_equal(escape.start, escape.minimum):
        lines.append("starts at the minimum: no, so the time of the first relaxation is not seen")
    return tuple(lines)


def log_cluster_rate(
    step: Matrix,
    kick: Matrix,
    noise: Matrix,
    stationary: Matrix,
    form: LinearForm | QuadraticForm,
    *,
    draws: int | None = None,
    seed: int = 0,
) -> tuple[float, float]:
    """Log of the clusters of exits per step of ``x' = step x + kick xi``, and its standard error.

    Args:
        step: transition of the state, whose first `form.dim` numbers are the position.
        kick: how the noise enters.
        noise: covariance of xi.
        stationary: covariance of the state.
        form: the region, in positions.
        draws: of the stationary law outside the region; chosen by the dimension unless given.
        seed: of the draws.

    Raises:
        DegenerateNoise: when no noise reaches the boundary.
        Unsupported: when too few draws end their stay outside to tell the rate.
    """
    random = np.random.default_rng(seed)
    states, dim = len(step), form.dim
    count = draws or int(np.clip(2**22 // states, 2**13, 2**17))
    positions, log_weights = _outside(stationary[:dim, :dim], form, count, random)
    given, left = _conditional(stationary, dim)
    memories = given @ positions + left @ random.standard_normal((states - dim, count))
    state = np.concatenate([positions, memories])
    top = float(log_weights.max())
    weights = np.exp(log_weights - top) / count
    pushed = kick @ symmetric_root(noise)
    length = MEMORIES * float(_relaxation_steps(step).max())
    for followed in range(1, LONGEST + 1):
        state = step @ state + pushed @ random.standard_normal((pushed.shape[1], state.shape[1]))
        inside = _inside(state[:dim], form)
        state, weights = state[:, inside], weights[inside]
        expected = followed * float(weights.sum()) * np.exp(top)
        if followed >= length or expected >= SHORT:
            break
    if not weights.size:
        raise Unsupported(
            f"none of {count} draws outside the region ends its stay there, so the exit rate is "
            "not known; simulate or split"
        )
    total = float(weights.sum())
    # The rate h solves h exp(-h m) = the probability found, which is below 1 / (e m).
    later = -float(scipy.special.lambertw(-min(expected, np.exp(-1.0))).real)
    return top + np.log(total) + later, float(np.linalg.norm(weights) / total)


def first_relaxation(
    step: Matrix,
    kick: Matrix,
    noise: Matrix,
    form: LinearForm | QuadraticForm,
    barrier: float,
) -> float:
    """Steps by which a start at the minimum, at rest, leaves later than the stationary chain.

    The sum of ``1 - exp(b - b_t)`` with b_t the barrier of the law that is reached after t steps:
    the share of the exit rate that is missing then. The arguments are those of `log_cluster_rate`.
    """
    dim, entered = form.dim, kick @ noise @ kick.T
    reached, delay = np.zeros_like(step), 0.0
    longest = min(MEMORIES * float(_relaxation_steps(step).max()), LONGEST_START)
    for _ in range(int(np.ceil(longest))):
        reached = step @ reached @ step.T + entered
        now = minimum_over_boundary(reached[:dim, :dim], form).value
        delay += 1 - np.exp(min(barrier - now, 0.0))
    return delay


def _supported(escape: Escape) -> MomentumSGD:
    dynamics = escape.dynamics
    if not isinstance(dynamics, MomentumSGD):
        raise Unsupported(f"the law of momentum does not apply to {dynamics}; use MomentumSGD")
    if dynamics.momentum == 1:
        raise Unsupported(
            "momentum one accumulates all gradients and never settles, so there is no exit rate; "
            "simulate (exits are those of undamped motion), or take momentum below one"
        )
    if dynamics.noise is None and dynamics.sampling == "shuffled_epochs":
        raise Unsupported(
            "no theory predicts shuffled epochs: the noise of successive steps is anti-correlated "
            "within an epoch; simulate, or sample with or without replacement"
        )
    return dynamics


def _relaxation_steps(step: Matrix) -> Float[np.ndarray, " states"]:
    """Relaxation times of the chain's modes; tiny, not zero, where a mode is gone in one step."""
    return -1 / np.log(np.maximum(np.abs(np.linalg.eigvals(step)), 1e-12))


def _conditional(stationary: Matrix, dim: int) -> tuple[Matrix, Matrix]:
    """What the position tells of the rest of the state, and a factor of what it leaves open."""
    position, mixed = stationary[:dim, :dim], stationary[dim:, :dim]
    given = mixed @ np.linalg.pinv(position, rcond=1e-12, hermitian=True)
    return given, symmetric_root(stationary[dim:, dim:] - given @ mixed.T)


def _inside(positions: Draws, form: LinearForm | QuadraticForm) -> Bool[np.ndarray, " draws"]:
    if isinstance(form, QuadraticForm):
        return np.einsum("id,id->d", positions, form.matrix @ positions) < form.radius**2
    along = form.normal @ positions
    return (np.abs(along) if form.two_sided else along) < form.offset


def _outside(
    covariance: Matrix, form: LinearForm | QuadraticForm, count: int, random: np.random.Generator
) -> tuple[Draws, Float[np.ndarray, " draws"]]:
    """Draws of a centred normal law outside the region; the mean weight is the probability there.

    The weights come in logarithms.
    """
    if isinstance(form, LinearForm):
        return _beyond_planes(covariance, form, count, random)
    return _beyond_ellipsoid(covariance, form, count, random)


def _beyond_planes(
    covariance: Matrix, form: LinearForm, count: int, random: np.random.Generator
) -> tuple[Draws, Float[np.ndarray, " draws"]]:
    """Exact draws, on one side of a slab: the other is its mirror image."""
    spread = covariance @ form.normal
    deviation = np.sqrt(form.normal @ spread)
    if not deviation > 0:
        raise DegenerateNoise(_UNREACHED)
    log_tail = scipy.special.log_ndtr(-form.offset / deviation)
    along = -deviation * scipy.special.ndtri_exp(np.log(random.random(count)) + log_tail)
    draws = symmetric_root(covariance) @ random.standard_normal((len(covariance), count))
    draws += np.outer(spread / deviation**2, along - form.normal @ draws)
    return draws, np.full(count, log_tail + np.log(2.0 if form.two_sided else 1.0))


def _beyond_ellipsoid(
    covariance: Matrix, form: QuadraticForm, count: int, random: np.random.Generator
) -> tuple[Draws, Float[np.ndarray, " draws"]]:
    """Weighted draws: a direction, and how far beyond the boundary along it.

    Directions come from the normal law tilted onto the boundary, an angular central Gaussian law
    that covers the one wanted (Kent, Ganeiou and Mardia, 2018).
    """
    root = symmetric_root(covariance)
    shares, axes = np.linalg.eigh(root.T @ form.matrix @ root)
    if not shares[-1] > 0:
        raise DegenerateNoise(_UNREACHED)
    shares = np.clip(shares, 0, None)
    dim, square = len(shares), form.radius**2
    tilt = QuadraticLaw(shares[shares > 1e-12 * shares[-1]]).saddle(square)
    spread = 1 / (1 - 2 * tilt * shares)
    directions = np.sqrt(spread)[:, None] * (axes.T @ random.standard_normal((dim, count)))
    directions /= np.linalg.norm(directions, axis=0)
    least = square / np.maximum(shares @ directions**2, 1e-300)
    # Along a direction the squared length is chi-square beyond its least value; proposed from the
    # exponential that touches this density there in the logarithm, and stays above it.
    half = dim / 2
    decay = np.clip(0.5 - (half - 1) / least, 0.05, 0.5)
    beyond = random.standard_exponential(count) / decay
    squares = least + beyond
    log_weights = (half - 1) * np.log(squares / 2) - squares / 2 - scipy.special.gammaln(half)
    log_weights += decay * beyond - np.log(2 * decay)
    log_weights += np.sum(np.log(spread)) / 2 + half * np.log((1 / spread) @ directions**2)
    return root @ axes @ (directions * np.sqrt(squares)), log_weights


_UNREACHED = "no noise reaches the region's boundary, so it is never left"
