"""Flux of a Gaussian stationary law through the boundary of a linear or quadratic form.

The leading order of every theory that starts from a stationary density p: ``rate = int |b . n| p
dS`` with the drift ``b = -A x`` (Kramers; Matkowsky and Schuss, SIAM J. Appl. Math. 33, 1977). By
the co-area formula it is ``2 E[x^T A^T M x; x^T M x = R^2]``, density included, for the form
``x^T M x < R^2``: no Laplace approximation, so many exits may be equally easy.
"""

import numpy as np
from jaxtyping import Float
from scipy.stats import norm

from escapade.errors import DegenerateNoise
from escapade.region.forms import LinearForm, QuadraticForm
from escapade.theory.quadratic_law import QuadraticLaw

Matrix = Float[np.ndarray, "dim dim"]


def log_flux(drift: Matrix, covariance: Matrix, form: LinearForm | QuadraticForm) -> float:
    """Log of the exit rate per unit of time.

    Args:
        drift: A, per unit of time.
        covariance: of the stationary law, ``epsilon^2 S``.
        form: the region.

    Raises:
        DegenerateNoise: when the law does not reach the boundary.
    """
    if isinstance(form, LinearForm):
        spread = covariance @ form.normal
        variance = float(form.normal @ spread)
        if not variance > 0:
            raise DegenerateNoise(_UNREACHED)
        sigma = np.sqrt(variance)
        inward = float(form.normal @ drift @ spread) * form.offset / variance
        density = norm.logpdf(form.offset / sigma) - np.log(sigma)
        return float(density + np.log(inward) + np.log(2.0 if form.two_sided else 1.0))
    eigenvalues, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.clip(eigenvalues, 0, None))
    weights, rotation = np.linalg.eigh(root.T @ form.matrix @ root)
    if not weights[-1] > 0:
        raise DegenerateNoise(_UNREACHED)
    # Odd in one of the modes, so only the diagonal has a mean at a given level.
    turned = root @ rotation
    moments = np.einsum("ki,ki->i", drift @ turned, form.matrix @ turned)
    kept = weights > 1e-10 * weights[-1]
    law = QuadraticLaw(weights[kept])
    level = np.array([form.radius**2])
    return float(np.log(2) + law.log_moment_density(level, np.maximum(moments[kept], 0.0))[0])


_UNREACHED = "the noise does not reach the boundary of the region, so it is never left"
