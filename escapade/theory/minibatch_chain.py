"""Exit of the scalar chain that minibatches drive along a line, with their law taken whole.

On a line through a landscape SGD moves by ``x' = x - (eta / B) sum of B slopes``, each the slope at
x of an example drawn at random. The law of the sum is the B-th convolution of that of one slope,
found by Fourier transform of a histogram, tilted towards either end, as rare exits are made of its
tails; the mean exit time then solves the integral equation of the chain (`exact.chain`). So the
force is as bent, and the noise as skewed, as heavy-tailed and as different from place to place as
it is. Slopes are measured at a few places and interpolated between them, example by example.

That the noise is not Gaussian and that it changes along the line cannot be told apart: minibatches
with outliers that steepen the loss push back harder from where they led. On the softmax network of
docs/networks.md the variance alone, with a Gaussian law, gives 0.7 of the linear mean exit time,
the true law 1.4 of it.

Steps that are short against the interval are lengthened: k eta and k B in place of eta and B keep
the drift and every cumulant of the noise per unit of time. What longer steps delay the exit is
taken off with the linear-Gaussian chain.
"""

import numpy as np
from jaxtyping import Float
from scipy.interpolate import BarycentricInterpolator

from escapade.errors import Unsupported
from escapade.exact.chain.law import chain_law
from escapade.region.forms import LinearForm
from escapade.theory.uniform import uniform_mean_exit_time

ORDER = 12
"""Nodes per panel."""

PANEL = 1.4
"""Width of a panel, in standard deviations of a step."""

SHORT = 0.1
"""Stiffness eta lambda up to which steps are lengthened."""

JUMP = 5.0
"""Mean noise of a step on the easiest way out, in standard deviations, that the law resolves."""

BIN, REACH = 0.01, 16.0
"""Spacing and half-width of the law of a step, in its standard deviations."""

FLOOR = 1e-15
"""Density, as a share of its peak, below which the Fourier transform holds rounding only."""

TILTS = JUMP * np.linspace(0, 1.5, 31)
"""Tried, per standard deviation of a step; the last is enough for tails lighter than Gaussian."""

FEW, BLUR = 16, 0.15
"""Batches of fewer examples have a law of atoms, which is blurred by that share of its width."""


def minibatch_chain_exit(
    places: Float[np.ndarray, " places"],
    slopes: Float[np.ndarray, "places examples"],
    curvature: float,
    learning_rate: float,
    batch_size: float,
    low: float,
    high: float,
    *,
    two_sided: bool,
) -> float:
    """Log mean exit steps from x = 0.

    Args:
        places: at which slopes are known, ascending, from `low` to `high`.
        slopes: of every example's loss along the line.
        curvature: of the mean loss at 0, positive.
        learning_rate: eta.
        batch_size: B, with replacement; another sampling's smaller variance belongs here.
        low: lower end, below 0.
        high: upper end, above 0, through which the chain leaves.
        two_sided: whether it leaves through `low` too; if not it is held there.

    Raises:
        Unsupported: where single jumps carry the exit, whose probability is below what the law
            resolves, or no minibatch leads out.
    """
    stretch = max(SHORT / (learning_rate * curvature), 1.0)
    batch = max(round(batch_size * stretch), 1)
    rate = learning_rate * batch / batch_size
    variance = float(np.var(_at(places, slopes, np.zeros(1))[0]))
    step = rate * np.sqrt(variance / batch)
    jump = high / step * rate * curvature * (2 - rate * curvature)
    if not jump <= JUMP:
        raise Unsupported(
            f"the easiest way out jumps by {jump:.3g} standard deviations a step (at most "
            f"{JUMP:g}); such probabilities need the linear theory"
        )
    panels = int(np.ceil((high - low) / (PANEL * step))) + 1
    nodes, weights = _panels(low, high, panels)
    states = np.append(nodes, 0.0)
    transitions, exits = np.zeros((len(states), len(nodes))), np.zeros(len(states))
    for row, (x, at_x) in enumerate(zip(states, _at(places, slopes, states), strict=True)):
        moves, density = _law_of_a_step(at_x, batch)
        moves *= -rate
        spacing = moves[1] - moves[0]
        transitions[row] = weights * np.interp(nodes - x, moves, density, left=0, right=0)
        transitions[row] /= spacing
        beyond = np.cumsum(density[::-1])[::-1]
        exits[row] = np.interp(high - x, moves - spacing / 2, beyond, right=0)
        if two_sided:
            exits[row] += np.interp(low - x, moves + spacing / 2, np.cumsum(density), left=0)
    mean = chain_law(nodes, weights, transitions, exits).mean
    return float(np.log(mean)) + _delay(curvature, variance, high, two_sided, (
        (learning_rate, batch_size), (rate, batch)
    ))  # fmt: skip


def _at(
    places: Float[np.ndarray, " places"],
    slopes: Float[np.ndarray, "places examples"],
    points: Float[np.ndarray, " points"],
) -> Float[np.ndarray, "points examples"]:
    weights = BarycentricInterpolator(places, np.eye(len(places)))(points)
    return weights @ slopes


def _panels(low: float, high: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    edges = np.linspace(low, high, count + 1)
    gauss, gauss_weights = np.polynomial.legendre.leggauss(ORDER)
    half = np.diff(edges)[:, None] / 2
    return ((edges[:-1, None] + half) + half * gauss).ravel(), (half * gauss_weights).ravel()


def _law_of_a_step(
    slopes: Float[np.ndarray, " examples"], batch: int
) -> tuple[Float[np.ndarray, " bins"], Float[np.ndarray, " bins"]]:
    """Mean slopes of a minibatch, descending on a uniform grid, and their probabilities."""
    mean = slopes.mean()
    centred = slopes - mean
    deviation = float(centred.std())
    # Of a sum: fine enough for its own width and for one example's.
    spacing = deviation * min(BIN * np.sqrt(batch), 0.5)
    reach = REACH * deviation * np.sqrt(batch) + 3 * np.abs(centred).max()
    size = int(2 ** np.ceil(np.log2(2 * reach / spacing)))
    blur = BLUR * deviation if batch < FEW else 0.0
    # Sharing an example between two bins, and blurring, widen the law: it is narrowed first.
    share = centred / spacing % 1
    widening = blur**2 + spacing**2 * float(np.mean(share * (1 - share)))
    place = centred * np.sqrt(max(1 - widening / deviation**2, 0.0)) / spacing
    lower = np.floor(place).astype(np.int64)
    share = place - lower
    counts = np.bincount(lower % size, 1 - share, size)
    counts += np.bincount((lower + 1) % size, share, size)
    histogram = np.fft.fftshift(counts) / len(slopes)
    sums = spacing * np.arange(-(size // 2), size - size // 2)
    # Each tail from a law that lies in it.
    left, right = (
        _law_of_a_sum(sums, histogram, batch, blur, side * _tilt(side * sums, histogram, batch))
        for side in (-1, 1)
    )
    law = np.where(sums < 0, left, right)
    return (sums / batch + mean)[::-1].copy(), (law / law.sum())[::-1]


def _law_of_a_sum(
    sums: Float[np.ndarray, " bins"],
    histogram: Float[np.ndarray, " bins"],
    batch: int,
    blur: float,
    tilt: float,
) -> Float[np.ndarray, " bins"]:
    """The convolution, by way of that of the histogram times ``exp(tilt sum)``.

    A Fourier transform is exact to rounding of the largest value, and rare exits are made of values
    far below that of the untilted law.
    """
    held = histogram > 0
    exponents = tilt * sums[held]
    top = exponents.max()
    tilted = np.zeros_like(histogram)
    tilted[held] = histogram[held] * np.exp(exponents - top)
    total = tilted.sum()
    transform = np.fft.rfft(np.fft.ifftshift(tilted / total)) ** batch
    if blur:
        frequency = 2 * np.pi * np.fft.rfftfreq(len(sums), sums[1] - sums[0])
        transform *= np.exp(-0.5 * batch * ((frequency + 1j * tilt) * blur) ** 2)
    law = np.fft.fftshift(np.fft.irfft(transform, len(sums)))
    known = law > FLOOR * law.max()
    law[~known] = 0.0
    law[known] *= np.exp(batch * (np.log(total) + top) - tilt * sums[known])
    return law


def _tilt(
    sums: Float[np.ndarray, " bins"], histogram: Float[np.ndarray, " bins"], batch: int
) -> float:
    """That moves the mean of a sum as far out as it jumps on the easiest way out, at most."""
    (held,) = np.nonzero(histogram)
    sums, weights = sums[held], histogram[held]
    width = np.sqrt(batch * (weights @ sums**2))
    tilts = TILTS[:, None] / width
    tilted = weights * np.exp(tilts * (sums - sums.max()))
    means = batch * (tilted @ sums) / tilted.sum(axis=1)
    return float(tilts[means <= JUMP * width, 0][-1])


def _delay(
    curvature: float,
    variance: float,
    offset: float,
    two_sided: bool,
    settings: tuple[tuple[float, float], tuple[float, float]],
) -> float:
    """Log of the mean exit steps of a linear-Gaussian chain at one setting over another."""
    if settings[0] == settings[1]:
        return 0.0
    form = LinearForm(np.ones(1), offset, two_sided)
    first, second = (
        uniform_mean_exit_time(np.full((1, 1), curvature), np.full((1, 1), variance), form, *each)
        for each in settings
    )
    return first.log_mean - second.log_mean
