"""The neighbourhood of a minimum with millions of parameters: products with vectors only.

Everything runs on the host in NumPy. A product is a function ``v -> A v``; vectors are float64 or
float32 (`precision`), small matrices always float64. Every function takes a cap on products and a
deadline, and every figure comes with a residual, a bound or a standard error. Memory is that of the
vectors each function says it keeps, never dim^2.
"""

from escapade.minimum.krylov.alignment import AlignmentEstimate, estimate_alignment
from escapade.minimum.krylov.along import DirectionalVariance, variance_along
from escapade.minimum.krylov.density import (
    SpectralDensity,
    exact_density,
    loss_excess,
    noise_weighted_density,
    position_trace,
    spectral_density,
)
from escapade.minimum.krylov.eigenpairs import (
    Eigenpairs,
    Extremes,
    dense_extremes,
    extreme_eigenpairs,
    largest_eigenpairs,
    lowest_eigenpairs,
)
from escapade.minimum.krylov.estimate import Estimate
from escapade.minimum.krylov.newton import NewtonStep, newton_step
from escapade.minimum.krylov.operator import Deadline, Product, seconds_from_now
from escapade.minimum.krylov.reduced import (
    ReducedCovariance,
    ReducedNeighbourhood,
    orthonormal_basis,
    reduced_covariance,
    reduced_neighbourhood,
)
from escapade.minimum.krylov.trace import trace

__all__ = [
    "AlignmentEstimate",
    "Deadline",
    "DirectionalVariance",
    "Eigenpairs",
    "Estimate",
    "Extremes",
    "NewtonStep",
    "Product",
    "ReducedCovariance",
    "ReducedNeighbourhood",
    "SpectralDensity",
    "dense_extremes",
    "estimate_alignment",
    "exact_density",
    "extreme_eigenpairs",
    "largest_eigenpairs",
    "loss_excess",
    "lowest_eigenpairs",
    "newton_step",
    "noise_weighted_density",
    "orthonormal_basis",
    "position_trace",
    "reduced_covariance",
    "reduced_neighbourhood",
    "seconds_from_now",
    "spectral_density",
    "trace",
    "variance_along",
]
