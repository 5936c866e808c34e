"""Counter-based random streams: every number is a function of seed, replica, tick and position.

Threefry-2x32 with 20 rounds (Salmon et al., SC 2011) keyed per replica, so a replica's noise does
not depend on how many replicas there are, on which lane it runs, on chunking or on the device,
and any replica can be replayed alone. Stock `jax.random` draws the same kind of bits, but lowers
them to a rolled loop that is several times slower on CPU.

The stream specification, frozen:

* stream key = threefry(seed, (replica, purpose));
* normals: the two words of threefry(stream key, (pair, j)) give the j-th normal of the even tick
  ``2 pair`` and of the odd tick ``2 pair + 1`` by Box-Muller;
* indices: the words of threefry(stream key, (tick, i)) give indices 2i and 2i + 1 of that tick;
* shuffles: likewise with the epoch in place of the tick, as the sort keys of the examples;
* labels: likewise, the first half of a tick's words for whether a label is replaced, the second
  for by which.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int, UInt32

from escapade.errors import InvalidArgument

NORMALS, INDICES, SHUFFLES, LABELS = 0, 1, 2, 3

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


class Stream(eqx.Module):
    """The random numbers of several replicas side by side; the replica is the last axis.

    Everything is written with that axis explicit and last, since it is the one the processor
    vectorises; a vectorising transformation would put it first and cost a factor of four.
    """

    seed: UInt32[Array, " 2"]
    replica: UInt32[Array, " lanes"]

    def _words(
        self, purpose: int, counter: UInt32[Array, "*times lanes"], count: int
    ) -> tuple[UInt32[Array, "*times count lanes"], UInt32[Array, "*times count lanes"]]:
        """`count` pairs of words for each counter."""
        key = threefry(self.seed[0], self.seed[1], self.replica, jnp.uint32(purpose))
        position = jnp.arange(count, dtype=jnp.uint32)[:, None]
        return threefry(*key, counter[..., None, :], position)

    def _words_in_line(
        self, purpose: int, counter: UInt32[Array, "*times lanes"], count: int
    ) -> UInt32[Array, "*times count lanes"]:
        """`count` words for each counter, both words of a pair used."""
        words = jnp.stack(self._words(purpose, counter, (count + 1) // 2), axis=-2)
        return words.reshape(*counter.shape[:-1], -1, counter.shape[-1])[..., :count, :]

    def normals(
        self, pair: UInt32[Array, "*times lanes"], count: int
    ) -> Complex[Array, "*times count lanes"]:
        """Normals of two successive ticks: real part for tick 2 pair, imaginary for 2 pair + 1.

        They carry 32 random bits: symmetric, reaching 6.6 standard deviations.
        """
        return jax.lax.complex(*_box_muller(*self._words(NORMALS, pair, count)))

    def uniform_index(
        self, tick: UInt32[Array, "*times lanes"], count: int, below: int
    ) -> Int[Array, "*times count lanes"]:
        """Independent indices in [0, below); each probability is exact to below / 2^32."""
        words = self._words_in_line(INDICES, tick, count)
        return scale_word(words, jnp.uint32(below)).astype(jnp.int32)

    def subset(
        self, tick: UInt32[Array, "*times lanes"], count: int, below: int
    ) -> Int[Array, "*times count lanes"]:
        """A uniformly random subset of distinct indices in [0, below) (Floyd's algorithm)."""
        words = jnp.moveaxis(self._words_in_line(INDICES, tick, count), -2, 0)

        def body(taken: Array, chosen: Array) -> Array:
            last = jnp.uint32(below - count) + taken.astype(jnp.uint32)
            candidate = scale_word(words[taken], last + 1).astype(jnp.int32)
            repeated = jnp.any(chosen == candidate, axis=0)
            return chosen.at[taken].set(jnp.where(repeated, last.astype(jnp.int32), candidate))

        chosen = jax.lax.fori_loop(0, count, body, jnp.full(words.shape, -1, jnp.int32))
        return jnp.moveaxis(chosen, 0, -2)

    def permutation(
        self, epoch: UInt32[Array, "*times lanes"], size: int
    ) -> Int[Array, "*times lanes size"]:
        """A uniformly random order of ``range(size)`` per epoch, along the last axis."""
        words = self._words_in_line(SHUFFLES, epoch, size)
        return jnp.argsort(jnp.moveaxis(words, -2, -1), axis=-1).astype(jnp.int32)

    def replacements(
        self,
        tick: UInt32[Array, "*times lanes"],
        count: int,
        classes: int,
        probability: float | Float[Array, ""],
    ) -> Int[Array, "*times count lanes"]:
        """Uniformly random classes, each with a probability (to 24 bits); -1 where there is none.

        The labels of one tick are replaced independently.
        """
        words = self._words_in_line(LABELS, tick, 2 * count)
        whether, which = words[..., :count, :], words[..., count:, :]
        replaced = (whether >> 8).astype(jnp.float32) * jnp.float32(2.0**-24) < probability
        return jnp.where(replaced, scale_word(which, jnp.uint32(classes)).astype(jnp.int32), -1)


def seed_words(key: object) -> UInt32[np.ndarray, " 2"]:
    """Two seed words from an integer or a JAX random key.

    Raises:
        InvalidArgument: when `key` is neither a non-negative integer below 2^64 nor a JAX key.
    """
    if isinstance(key, (int, np.integer)) and 0 <= int(key) < 2**64:
        return np.array([int(key) >> 32, int(key) & 0xFFFFFFFF], dtype=np.uint32)
    if isinstance(key, jax.Array):
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        words = np.asarray(jax.random.key_data(key) if typed else key)
        if words.dtype == np.uint32 and words.shape == (2,):
            return words
    raise InvalidArgument(
        f"key is {key!r}; give a non-negative integer below 2^64 or a key from jax.random.key"
    )


def threefry(k0: Array, k1: Array, c0: Array, c1: Array) -> tuple[Array, Array]:
    """Threefry-2x32, 20 rounds: two random words from two key words and two counter words."""
    keys = (k0, k1, k0 ^ k1 ^ jnp.uint32(0x1BD11BDA))
    x, y = c0 + keys[0], c1 + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = (y << jnp.uint32(rotation)) | (y >> jnp.uint32(32 - rotation))
            y = x ^ y
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return x, y


def scale_word(word: UInt32[Array, "..."], below: UInt32[Array, ""]) -> UInt32[Array, "..."]:
    """``floor(word * below / 2^32)`` in 32-bit arithmetic."""
    mask = jnp.uint32(0xFFFF)
    high, low = word >> 16, word & mask
    below_high, below_low = below >> 16, below & mask
    cross = high * below_low + (low * below_low >> 16)
    middle = low * below_high + (cross & mask)
    return high * below_high + (cross >> 16) + (middle >> 16)


def _box_muller(
    first: UInt32[Array, "..."], second: UInt32[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Two independent float32 normals from two words."""
    uniform = ((first >> 1).astype(jnp.int32).astype(jnp.float32) + 0.5) * jnp.float32(2.0**-31)
    radius = jnp.sqrt(-2.0 * jnp.log(uniform))
    # The top two bits choose the quadrant, the rest an angle in [-pi/4, pi/4), where short
    # polynomials (fdlibm's) replace the slow library sine and cosine.
    angle = (second << 2).astype(jnp.int32).astype(jnp.float32) * jnp.float32(np.pi / 2 / 2**32)
    square = angle * angle
    sine = angle * (
        1.0 + square * (-1.6666667e-1 + square * (8.3333310e-3 + square * -1.9839334e-4))
    )
    cosine = 1.0 + square * (
        -0.5 + square * (4.1666646e-2 + square * (-1.3888378e-3 + square * 2.4390449e-5))
    )
    swap = (second >> 30) & 1 == 1
    sign = jnp.where(second >> 31 == 1, jnp.float32(-1.0), jnp.float32(1.0))
    return (
        radius * sign * jnp.where(swap, -sine, cosine),
        radius * sign * jnp.where(swap, cosine, sine),
    )
