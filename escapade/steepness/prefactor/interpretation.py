"""Where in a step the noise is evaluated: the drift of order ``eps^2`` that this adds to Ito's.

``dX = b dt + eps sigma(X at t + a dt) dW`` with sigma the symmetric root of C has the Ito drift
``b + a eps^2 sum_jk sigma_jk d_j sigma_ik``. SGD draws its minibatch at the current point, which
is Ito, ``a = 0``. The quasipotential does not depend on it, the prefactor does.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from escapade.errors import InvalidArgument
from escapade.noise.interpretation import interpretation_weight
from escapade.steepness.hamiltonian import AbstractHamiltonian
from escapade.steepness.prefactor.equivalent import EquivalentDiffusion, StepDrift


class NoiseDrift(eqx.Module):
    """The drift ``beta(x)`` in ``b + eps^2 beta``."""

    hamiltonian: AbstractHamiltonian
    interpretation: str = eqx.field(static=True)

    def __init__(self, hamiltonian: AbstractHamiltonian, interpretation: str = "ito"):
        """Of one of `escapade.noise.interpretation.INTERPRETATIONS`.

        Raises:
            InvalidArgument: when the interpretation is unknown.
        """
        interpretation_weight(interpretation)
        self.hamiltonian = hamiltonian
        self.interpretation = interpretation

    @property
    def vanishes(self) -> bool:
        """Whether it is zero everywhere."""
        return self.interpretation == "ito"

    def __call__(self, x: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """Beta at a JAX vector, smooth."""
        weight = interpretation_weight(self.interpretation)
        if weight == 0:
            return jnp.zeros_like(x)
        root = self._root(x)
        return weight * jnp.einsum("ikj,jk->i", jax.jacfwd(self._root)(x), root)

    def _root(self, x: Float[Array, " dim"]) -> Float[Array, "dim dim"]:
        return symmetric_root(self.hamiltonian.covariance(x))


@jax.custom_jvp
def symmetric_root(matrix: Float[Array, "dim dim"]) -> Float[Array, "dim dim"]:
    """Root of a positive definite matrix, differentiable where eigenvalues coincide."""
    values, vectors = jnp.linalg.eigh(matrix)
    return (vectors * jnp.sqrt(values)) @ vectors.T


@symmetric_root.defjvp
def _symmetric_root_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """The change X solves ``root X + X root = change``."""
    root = symmetric_root(primals[0])
    identity = jnp.eye(root.shape[0], dtype=root.dtype)
    operator = jnp.kron(root, identity) + jnp.kron(identity, root)
    change = jnp.linalg.solve(operator, tangents[0].reshape(-1))
    return root, change.reshape(root.shape)


def noise_drift(
    hamiltonian: AbstractHamiltonian, interpretation: str = "ito"
) -> NoiseDrift | StepDrift:
    """The drift of order ``eps^2`` of a diffusion, or of the one that stands for a chain.

    Raises:
        InvalidArgument: when the interpretation is unknown, or a chain is not Ito.
    """
    if isinstance(hamiltonian, EquivalentDiffusion):
        if interpretation != "ito":
            raise InvalidArgument(
                f"interpretation is {interpretation!r}, but a chain draws its noise at the current "
                'point: "ito" is the only one'
            )
        return StepDrift(hamiltonian)
    return NoiseDrift(hamiltonian, interpretation)
