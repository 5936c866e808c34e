"""Networks of the JAX world as landscapes: Equinox, Flax linen and nnx, plain functions."""

from escapade.landscape.jax.network import jax_network

__all__ = ["jax_network"]
