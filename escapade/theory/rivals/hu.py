r"""Hu and co-workers, 2017 and 2019: exponential times by the theory of large deviations.

Hu, Li, Li and Liu, "On the diffusion approximation of nonconvex stochastic gradient descent", find
that a minimum is left after a time exponential in 1 / eta. Hu, Zhu, Xiong and Huan,
"Quasi-potential as an implicit regularizer for the loss function in the stochastic gradient
descent", give the quasipotential under anisotropic noise by its Hamilton-Jacobi equation:

``log E[tau] ~ (B / eta) V0`` as ``eta / B`` vanishes, with the quasipotential V0 of continuous
SGD under its own noise C(theta): the least of V on the boundary, where V solves ``grad V . C grad
V / 2 = grad L . grad V`` (Freidlin and Wentzell). It is found here on the landscape itself in up
to six dimensions and from the neighbourhood of the minimum beyond. As a time in steps, ``exp((B /
eta) V0) / eta``.
"""

import numpy as np

from escapade.theory._base import Estimate, Theory
from escapade.theory.assumptions import LOGARITHMIC, common
from escapade.theory.setting import Setting


def hu_law(setting: Setting) -> Estimate:
    """Exponential of the quasipotential.

    Raises:
        EscapadeError: when no quasipotential is found.
    """
    value = setting.quasipotential
    return Estimate(
        log_mean=value / setting.noise_scale - np.log(setting.learning_rate),
        exponent=value,
        assumptions=(LOGARITHMIC, *common(setting, quadratic=setting.linear, constant=False)),
    )


HU = Theory(
    name="hu",
    title="Hu et al. 2019",
    formula="E[nu] = (1 / eta) exp((B / eta) V0), V0 the quasipotential of continuous SGD",
    assumptions=("a vanishing eta / B", "Gaussian noise", "continuous time"),
    source="Hu, Li, Li and Liu, Annals of Mathematical Sciences and Applications 4 (2019), "
    "arXiv 1705.07562; Hu, Zhu, Xiong and Huan, arXiv 1901.06054; Freidlin and Wentzell, chapter 4",
    silent_where="basins beyond six dimensions",
    law=hu_law,
)
