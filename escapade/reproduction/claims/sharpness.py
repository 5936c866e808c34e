"""Claims 2 to 5: which power of which curvature the exponent follows."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from escapade.dynamics import AbstractDynamics, LangevinSGD
from escapade.escape import Escape
from escapade.exact import solve
from escapade.landscape import Quadratic
from escapade.noise import AbstractNoise
from escapade.region import AbstractRegion, Ball, Sublevel
from escapade.reproduction.claims.claim import Claim
from escapade.reproduction.claims.evidence import (
    Evidence,
    Figure,
    Numbers,
    Progress,
    Quantity,
    Series,
    computed,
    exact,
    line,
    points,
    power,
)
from escapade.reproduction.claims.exact_exits import (
    ALIGNED,
    ISOTROPIC,
    Exponent,
    chain,
    diffusion,
    exponent,
    from_quadratic,
)
from escapade.reproduction.claims.rule import Band, Rule, near
from escapade.steepness import minimum_steepness

SCALES = (1 / 95, 1 / 190)
"""Noise scales between which an exponent is the slope."""

STIFFNESS = 0.05
"""eta lambda of the chains."""

FIRST, SECOND, CORRECT = "version 1", "figures of version 2", "Freidlin-Wentzell"
DISCRETE = "combined figure for discrete SGD"

Dynamics = Callable[[float, float], AbstractDynamics]
"""Dynamics at a noise scale and a curvature."""

GRID: dict[str, tuple[type[Ball] | type[Sublevel], AbstractNoise]] = {
    "level set, C = H": (Sublevel, ALIGNED),
    "ball, C = H": (Ball, ALIGNED),
    "level set, C = I": (Sublevel, ISOTROPIC),
    "ball, C = I": (Ball, ISOTROPIC),
}


def _curvatures(quick: bool) -> np.ndarray:
    """A decade, around one."""
    return np.geomspace(10**-0.5, 10**0.5, 5 if quick else 13)


def _exponents(curvatures: Numbers, dynamics: Dynamics, region: AbstractRegion) -> list[Exponent]:
    """Exponents of exact exits in one dimension."""
    found = []
    for curvature in curvatures:
        first, second = (
            from_quadratic([curvature], dynamics(scale, curvature), region) for scale in SCALES
        )
        found.append(exponent(SCALES, (first, second)))
    return found


def _diffusions(noise: AbstractNoise) -> Dynamics:
    return lambda scale, _: diffusion(scale, noise)


def _power(
    name: str, x: Numbers, found: Sequence[Exponent], expected: dict[str, float]
) -> Quantity:
    values = [one.value for one in found]
    return power(name, x, values, [one.error / one.value for one in found], expected)


def _panel(
    title: str, x: Numbers, found: Mapping[str, Sequence[Exponent]], laws: Sequence[Series]
) -> Figure:
    measured = [points(label, x, [one.value for one in each]) for label, each in found.items()]
    return Figure(
        title, "curvature lambda", "exponent: slope of log E[tau] in B / eta",
        (*measured, *laws), "log", "log",
    )  # fmt: skip


def _measure_root(quick: bool, key: int, progress: Progress) -> Evidence:
    curvatures = _curvatures(quick)
    progress("exact exits from unit balls, C = H")
    found = _exponents(curvatures, _diffusions(ALIGNED), Ball(1.0))
    means = [from_quadratic([c], diffusion(SCALES[0], ALIGNED), Ball(1.0)) for c in curvatures]
    flat = [
        minimum_steepness(Escape(Quadratic([1.0, c]), diffusion(0.1, ALIGNED), Ball(1.0)))
        for c in curvatures[curvatures <= 1]
    ]
    at_one = exponent(
        SCALES, tuple(from_quadratic([1.0], diffusion(e, ALIGNED), Ball(1.0)) for e in SCALES)
    )
    anisotropic = [Exponent(one.value, one.value * max(one.error, 1e-12)) for one in flat]
    quantities = (
        _power("power of lambda in the exponent", curvatures, found, {FIRST: 0.5, CORRECT: 0.0}),
        exact("exponent at lambda = 1, radius 1", at_one.value, at_one.error,
              {FIRST: 2.0, CORRECT: 1.0}),
        _power("power of lambda_min, lambda_max fixed, two dimensions",
               curvatures[curvatures <= 1], anisotropic, {FIRST: 0.5, CORRECT: 0.0}),
        power("power of lambda in E[tau] at epsilon^2 = 1/95", curvatures,
              [np.exp(one.log_mean - means[0].log_mean) for one in means],
              [one.error for one in means], {CORRECT: -1.0}),
    )  # fmt: skip
    laws = (
        line("2 r^2 lambda^(1/2)", curvatures, 2 * curvatures**0.5, FIRST),
        line("r^2", curvatures, np.ones_like(curvatures), CORRECT),
    )
    figure = _panel("Out of a ball of radius 1, C = H", curvatures, {"exact": found}, laws)
    notes = (
        "Scaling argument: L -> a L, C -> a^2 C, eta -> eta / a leaves every path of SGD as it is, "
        "and with it (B / eta) x^2 H / C, but not (B / eta) x^2 H / C^(1/2).",
    )
    return Evidence(quantities, (figure,), notes)


def _measure_grid(quick: bool, key: int, progress: Progress) -> Evidence:
    curvatures = _curvatures(quick)
    quantities, panels = [], {}
    for cell, (kind, noise) in GRID.items():
        progress(f"exact exits, {cell}")
        size = 0.5 if kind is Sublevel else 1.0
        panels[cell] = _exponents(curvatures, _diffusions(noise), kind(size))
        correct = {"level set, C = H": -1.0, "ball, C = I": 1.0}.get(cell, 0.0)
        quantities.append(
            _power(f"power of lambda, {cell}", curvatures, panels[cell],
                   {SECOND: -1.0, CORRECT: correct})
        )  # fmt: skip
    sharp = np.geomspace(2, 20, 5)
    for cell, (kind, noise) in GRID.items():
        size = 0.5 if kind is Sublevel else 1.0
        found = [
            minimum_steepness(Escape(Quadratic([s, 1.0]), diffusion(0.1, noise), kind(size)))
            for s in sharp
        ]
        values = [Exponent(one.value, one.value * max(one.error, 1e-12)) for one in found]
        correct = -1.0 if cell == "level set, C = H" else 0.0
        quantities.append(
            _power(f"power of lambda_max, lambda_min fixed, {cell}", sharp, values,
                   {SECOND: -1.0, CORRECT: correct})
        )  # fmt: skip
    laws = (line("1 / lambda", curvatures, 1 / curvatures, SECOND),)
    figures = [_panel("Region and noise decide the law", curvatures, panels, laws)]
    shares, angles = [], []
    for cell in list(GRID)[: 2 if quick else 4]:
        progress(f"where exits happen, {cell}")
        share, error, histogram = _direction(cell)
        limit = {"level set, C = H": 1.0, "ball, C = H": 0.65, "ball, C = I": 0.0}.get(cell)
        expected = {} if limit is None else {"low noise limit": limit}
        shares.append(exact(f"exits along the sharpest direction, {cell}", share, error, expected))
        angles.append(histogram)
    figures.append(
        Figure(
            "Exit points, lambda = (4, 1), b = 5", "angle from the sharpest direction (degrees)",
            "share of exits", tuple(angles),
        )
    )  # fmt: skip
    return Evidence(tuple(quantities + shares), tuple(figures))


def _direction(cell: str) -> tuple[float, float, Series]:
    """Mean squared cosine of exit points with the sharpest direction, exact on a lattice.

    At barrier 5, lambda = (4, 1). The error is the difference to a lattice with two thirds of
    the points per axis.
    """
    kind, noise = GRID[cell]
    size = {"level set, C = H": 2.0, "level set, C = I": 0.5}.get(cell, 1.0)
    escape = Escape(Quadratic([4.0, 1.0]), diffusion(0.2, noise), kind(size))
    shares = []
    edges = np.linspace(0, 90, 10)
    for nodes in (100, 150):
        field = solve(escape, nodes=nodes).field
        assert field is not None
        exit_points, weights = field.exit_points, field.exit_probabilities
        squared = exit_points[:, 0] ** 2 / (exit_points**2).sum(axis=1)
        shares.append(float(weights @ squared))
        degrees = np.degrees(np.arccos(np.sqrt(squared)))
        counts = np.histogram(degrees, bins=edges, weights=weights)[0]
    series = points(cell, (edges[1:] + edges[:-1]) / 2, counts)
    return shares[-1], abs(shares[1] - shares[0]), series


def _measure_discrete(quick: bool, key: int, progress: Progress) -> Evidence:
    curvatures = _curvatures(quick)

    def steps(scale: float, curvature: float) -> AbstractDynamics:
        return chain(STIFFNESS / curvature, scale, ALIGNED)

    found = {}
    for label, region in (("fixed depth", Sublevel(0.5)), ("fixed radius", Ball(1.0))):
        progress(f"exact chains at {label}")
        found[label] = _exponents(curvatures, steps, region)
    values = np.array([one.value for one in found["fixed depth"]])
    quantities = [
        _power("power of lambda at fixed depth", curvatures, found["fixed depth"],
               {DISCRETE: -0.5, SECOND: -1.0, CORRECT: -1.0}),
        _power("power of lambda at fixed radius", curvatures, found["fixed radius"],
               {DISCRETE: -0.5, FIRST: 0.5, CORRECT: 0.0}),
    ]  # fmt: skip
    within_two = np.geomspace(1, 2, 9)
    for law, exponent_of in (("lambda^(-1/2)", -0.5), ("lambda^(-1)", -1.0)):
        misfit = _misfit(curvatures, values, exponent_of)
        quantities.append(computed(f"misfit of {law} over the decade", misfit))
        # What a scan over a factor of two could see of it, if the other law were true.
        other = _misfit(within_two, within_two ** (-1.5 - exponent_of), exponent_of)
        quantities.append(computed(f"misfit of {law} over a factor of two", other))
    laws = (
        line("1 / lambda", curvatures, (1 - STIFFNESS / 2) / curvatures, CORRECT),
        line("lambda^(-1/2)", curvatures, curvatures**-0.5, DISCRETE),
    )
    figure = _panel("Discrete SGD, C = H, eta lambda = 0.05", curvatures, found, laws)
    notes = (
        "Misfits are root mean squares of relative deviations from the best constant times the "
        "law; over a factor of two, of the other law from it.",
    )
    return Evidence(tuple(quantities), (figure,), notes)


def _misfit(x: np.ndarray, y: np.ndarray, law: float) -> float:
    logs = np.log(y) - law * np.log(x)
    return float(np.std(logs))


def _measure_langevin(quick: bool, key: int, progress: Progress) -> Evidence:
    curvatures = _curvatures(quick)

    def steps(scale: float, curvature: float) -> AbstractDynamics:
        return LangevinSGD(STIFFNESS / curvature, STIFFNESS / curvature / scale)

    found = {}
    for label, region in (("fixed depth", Sublevel(0.5)), ("fixed radius", Ball(1.0))):
        progress(f"exact Langevin chains at {label}")
        found[label] = _exponents(curvatures, steps, region)
    means = [from_quadratic([c], diffusion(0.1, ISOTROPIC), Sublevel(0.5)) for c in curvatures]
    quantities = (
        _power("power of lambda in the exponent, fixed depth", curvatures, found["fixed depth"],
               {SECOND: 0.0, CORRECT: 0.0}),
        _power("power of lambda in the exponent, ball", curvatures, found["fixed radius"],
               {SECOND: 0.0, CORRECT: 1.0}),
        power("power of lambda in E[tau] itself, fixed depth", curvatures,
              [np.exp(one.log_mean - means[0].log_mean) for one in means],
              [one.error for one in means], {SECOND: 0.0, CORRECT: -1.0}),
    )  # fmt: skip
    laws = (
        line("independent of lambda", curvatures, np.ones_like(curvatures), SECOND),
        line("ball: r^2 lambda", curvatures, curvatures, CORRECT),
    )
    figure = _panel("Langevin SGD, C = I, eta lambda = 0.05", curvatures, found, laws)
    notes = (
        "The published panel does not decide: its runs start at random weights, away from a "
        "minimum, and follow a free random walk (claim 13).",
    )
    return Evidence(quantities, (figure,), notes)


ROOT_OF_SHARPNESS = Claim(
    number=2,
    slug="root-of-sharpness",
    statement="Out of a ball of radius r, E[tau] = exp[2 (B / eta) r^2 lambda_min^(1/2)] for SGD, "
    "whose noise has C = H.",
    source="version 1, theorem 1; its action carries C^(-1/2)",
    regime="quadratic loss, C = H, continuous SGD, low noise",
    test="Vary lambda over a decade at fixed radius and fit the power of lambda in the exponent of "
    "exact mean exit times.",
    rule=Rule(
        within=(near("power of lambda in the exponent", 0.5, 0.2),),
        beyond=(
            near("exponent at lambda = 1, radius 1", 2.0),
            near("power of lambda_min, lambda_max fixed, two dimensions", 0.5, 0.2),
        ),
    ),
    measure=_measure_root,
)

INVERSE_SHARPNESS = Claim(
    number=3,
    slug="inverse-sharpness",
    statement="E[nu] grows as exp(lambda_max^(-1)) for SGD.",
    source="figures of the public repository (version 2), SGD panels",
    regime="fixed depth (level set) and C = H; beyond it: a ball, or C = I",
    test="Exact exits on the grid {ball, level set} x {C = I, C = H}: the power of lambda in the "
    "exponent, and along which direction exits happen.",
    rule=Rule(
        within=(
            near("power of lambda, level set, C = H", -1.0),
            near("power of lambda_max, lambda_min fixed, level set, C = H", -1.0),
        ),
        beyond=(
            near("power of lambda, ball, C = H", -1.0),
            near("power of lambda, level set, C = I", -1.0),
            near("power of lambda, ball, C = I", -1.0),
        ),
    ),
    measure=_measure_grid,
)

DISCRETE_ROOT = Claim(
    number=4,
    slug="discrete-root",
    statement="E[nu] grows as exp(lambda_max^(-1/2)) for discrete SGD.",
    source="combined figure of the public repository; its single panels say lambda_max^(-1)",
    regime="fixed depth, C = H, small eta lambda",
    test="Vary lambda over a decade at fixed eta lambda and fit the power of lambda in the "
    "exponent of exact chains.",
    rule=Rule(
        within=(near("power of lambda at fixed depth", -0.5, 0.2),),
        beyond=(near("power of lambda at fixed radius", -0.5, 0.2),),
    ),
    measure=_measure_discrete,
)

LANGEVIN = Claim(
    number=5,
    slug="langevin",
    statement="The exit time of SGLD does not depend on the sharpness.",
    source="figures of the public repository (version 2), SGLD panel",
    regime="exponent at fixed depth; beyond it: a ball, and the exit time itself",
    test="Vary lambda over a decade in exact Langevin chains with barriers above 5.",
    rule=Rule(
        within=(Band("power of lambda in the exponent, fixed depth", -0.05, 0.05),),
        beyond=(
            Band("power of lambda in the exponent, ball", -0.05, 0.05),
            Band("power of lambda in E[tau] itself, fixed depth", -0.05, 0.05),
        ),
    ),
    measure=_measure_langevin,
)
