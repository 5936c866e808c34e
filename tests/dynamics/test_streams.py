"""The random streams: the generator, the frozen specification, and the laws of what is drawn.

Statistical tests have fixed seeds; their tolerances are stated in standard errors or as p-values.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.extend.random import threefry_2x32
from scipy import stats

from escapade.dynamics import MinibatchSGD
from escapade.dynamics.streams import Stream, scale_word, seed_words, threefry
from escapade.errors import InvalidArgument
from escapade.landscape import Empirical

NORMALS, INDICES, SHUFFLES = 0, 1, 2
WORD = st.integers(0, 2**32 - 1)


def numpy_threefry(key, counter):
    """Threefry-2x32-20 written from the paper, in Python integers."""
    mask = 2**32 - 1
    keys = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    x, y = (counter[0] + keys[0]) & mask, (counter[1] + keys[1]) & mask
    rotations = (13, 15, 26, 6, 17, 29, 16, 24)
    for turn in range(20):
        x = (x + y) & mask
        rotation = rotations[turn % 8]
        y = (y << rotation | y >> (32 - rotation)) & mask
        y ^= x
        if turn % 4 == 3:
            step = turn // 4 + 1
            x = (x + keys[step % 3]) & mask
            y = (y + keys[(step + 1) % 3] + step) & mask
    return x, y


def numpy_words(seed, replica, purpose, counter, position):
    stream_key = numpy_threefry((seed >> 32, seed & 0xFFFFFFFF), (replica, purpose))
    return numpy_threefry(stream_key, (counter, position))


def numpy_normals(seed, replica, pair, position):
    """The two normals of a pair: uniform and angle in float32, the rest in float64."""
    first, second = numpy_words(seed, replica, NORMALS, pair, position)
    uniform = (np.float32(first >> 1) + np.float32(0.5)) * np.float32(2.0**-31)
    within = np.uint32(second << 2 & 0xFFFFFFFF).astype(np.int32).astype(np.float32)
    angle = float(within) * np.pi / 2 / 2**32 + (second >> 30) * np.pi / 2
    radius = np.sqrt(-2 * np.log(np.float64(uniform)))
    return radius * np.cos(angle), radius * np.sin(angle)


def stream_of(seed, replicas):
    return Stream(jnp.asarray(seed_words(seed)), jnp.asarray(replicas, jnp.uint32))


def words(*values):
    return jnp.asarray(np.array(values, np.uint32))


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [  # Random123, kat_vectors, threefry2x32 20
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers_of_threefry(key, counter, expected):
    got = threefry(*words(*key), *words(*counter))
    assert tuple(int(word) for word in got) == expected
    assert numpy_threefry(key, counter) == expected


def test_threefry_is_the_one_of_jax():
    generator = np.random.default_rng(0)
    key = generator.integers(0, 2**32, 2, dtype=np.uint32)
    counter = generator.integers(0, 2**32, 1000, dtype=np.uint32)
    expected = threefry_2x32(jnp.asarray(key), jnp.asarray(counter))
    got = threefry(*words(*key), jnp.asarray(counter[:500]), jnp.asarray(counter[500:]))
    np.testing.assert_array_equal(np.concatenate(got), expected)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(word=WORD, below=st.one_of(WORD, st.sampled_from([1, 2, 2**16 - 1, 2**16, 2**31])))
def test_scale_word_is_exact(word, below):
    assert int(scale_word(*words(word, below))) == word * below >> 32


def test_the_stream_is_the_specified_one():
    seed, replicas, pairs = (5 << 32) + 17, [0, 3, 2**31], [0, 1, 2**31 - 1]
    stream = stream_of(seed, replicas)
    drawn = stream.normals(jnp.asarray(np.array(pairs, np.uint32))[:, None], 3)
    assert (drawn.shape, drawn.dtype) == ((3, 3, 3), jnp.complex64)
    for (i, pair), position, (j, replica) in itertools.product(
        enumerate(pairs), range(3), enumerate(replicas)
    ):
        even, odd = numpy_normals(seed, replica, pair, position)
        assert complex(drawn[i, position, j]) == pytest.approx(complex(even, odd), abs=2e-6)


def test_frozen_values():
    # These numbers belong to published results: they must never change.
    stream = stream_of(2024, [0, 1])
    drawn = np.asarray(stream.normals(words(0, 0), 2))
    even = [[1.0419634, 0.0260702], [0.2593258, -0.3989295]]
    odd = [[-0.0665688, -0.2522183], [0.8278447, 0.7624309]]
    np.testing.assert_allclose(drawn.real, even, atol=2e-6)
    np.testing.assert_allclose(drawn.imag, odd, atol=2e-6)
    indices = stream.uniform_index(words(7, 7), 5, 1000)
    assert indices.T.tolist() == [[638, 334, 511, 923, 340], [436, 589, 922, 60, 42]]
    subsets = stream.subset(words(7, 7), 4, 9)
    assert subsets.T.tolist() == [[3, 2, 4, 8], [2, 4, 7, 0]]
    orders = stream.permutation(words(7, 7), 8)
    assert orders.tolist() == [[2, 4, 0, 7, 6, 3, 5, 1], [1, 7, 3, 4, 5, 6, 0, 2]]


def test_indices_subsets_and_orders_follow_from_the_words():
    seed, replica, tick = 99, 4, 1234567
    stream = stream_of(seed, [replica])
    counter = words(tick)
    line = [
        word
        for position in range(4)
        for word in numpy_words(seed, replica, INDICES, tick, position)
    ]
    indices = stream.uniform_index(counter, 7, 10)
    assert indices[:, 0].tolist() == [word * 10 >> 32 for word in line[:7]]

    chosen = []
    for taken, word in enumerate(line[:7]):  # Floyd's algorithm
        last = 10 - 7 + taken
        candidate = word * (last + 1) >> 32
        chosen.append(last if candidate in chosen else candidate)
    assert stream.subset(counter, 7, 10)[:, 0].tolist() == chosen

    keys = [
        word
        for position in range(4)
        for word in numpy_words(seed, replica, SHUFFLES, tick, position)
    ]
    assert stream.permutation(counter, 7)[0].tolist() == np.argsort(keys[:7]).tolist()


@pytest.fixture(scope="module")
def many_normals():
    """2^20 pairs of normals: (pairs, positions, replicas)."""
    draw = jax.jit(lambda stream, pair: stream.normals(pair, 4))
    pairs = jnp.arange(512, dtype=jnp.uint32)[:, None]
    return np.asarray(draw(stream_of(1, np.arange(512)), pairs))


def test_normals_have_the_moments_of_a_normal(many_normals):
    for part in (many_normals.real, many_normals.imag):
        z = part.ravel().astype(np.float64)
        # E z^k and the variance of its sample mean, (E z^2k - (E z^k)^2) / n; within 4 errors.
        for power, moment, square in (
            (1, 0, 1),
            (2, 1, 3),
            (3, 0, 15),
            (4, 3, 105),
            (6, 15, 10395),
        ):
            error = np.sqrt((square - moment**2) / z.size)
            assert abs((z**power).mean() - moment) < 4 * error, power


def test_normals_have_the_distribution_of_a_normal(many_normals):
    for part in (many_normals.real, many_normals.imag):
        z = part.ravel().astype(np.float64)
        assert stats.kstest(z, "norm").pvalue > 0.01
        for threshold in (3.0, 4.0, 4.5):
            for tail in (z > threshold, z < -threshold):
                expected = stats.norm.sf(threshold) * z.size
                assert abs(tail.sum() - expected) < 4 * np.sqrt(expected)


def test_normals_are_independent_of_each_other(many_normals):
    even, odd = many_normals.real.astype(np.float64), many_normals.imag.astype(np.float64)
    neighbours = {
        "the two ticks of a pair": (even, odd),
        "successive pairs": (odd[:-1], even[1:]),
        "positions": (even[:, :-1], even[:, 1:]),
        "replicas": (even[..., :-1], even[..., 1:]),
    }
    for name, (a, b) in neighbours.items():
        for f in (np.asarray, np.square, np.abs):
            correlation = np.corrcoef(f(a).ravel(), f(b).ravel())[0, 1]
            assert abs(correlation) < 4 / np.sqrt(a.size), name
    # A pair of independent normals has a uniform angle, in every octant.
    octant = np.floor(np.angle(many_normals.ravel()) / (np.pi / 4)).astype(int) % 8
    assert stats.chisquare(np.bincount(octant)).pvalue > 0.01


def test_normals_reach_far_and_symmetrically():
    from escapade.dynamics.streams import _box_muller

    largest = np.sqrt(-2 * np.log(2.0**-32))
    quadrants = words(0, 1 << 30, 2 << 30, 3 << 30)
    even, odd = _box_muller(words(0, 0, 0, 0), quadrants)
    np.testing.assert_allclose(even, largest * np.array([1, 0, -1, 0]), atol=1e-6)
    np.testing.assert_allclose(odd, largest * np.array([0, 1, 0, -1]), atol=1e-6)
    still = _box_muller(words(2**32 - 1), words(0))
    assert np.isfinite(np.array(still)).all()


def counts_of(rows):
    found = [tuple(row) for row in rows.tolist()]
    return np.array([found.count(each) for each in sorted(set(found))])


def test_indices_are_uniform():
    stream = stream_of(3, np.arange(5000))
    indices = stream.uniform_index(jnp.zeros(5000, jnp.uint32), 6, 10)
    assert indices.dtype == jnp.int32
    counts = np.bincount(np.ravel(indices), minlength=10)
    assert counts.size == 10
    assert stats.chisquare(counts).pvalue > 0.01
    pairs = np.bincount(np.ravel(indices[0] * 10 + indices[1]), minlength=100)
    assert stats.chisquare(pairs).pvalue > 0.01


def test_subsets_are_uniform():
    stream = stream_of(4, np.arange(6000))
    subsets = np.sort(np.asarray(stream.subset(jnp.zeros(6000, jnp.uint32), 3, 6)).T)
    assert (np.diff(subsets) > 0).all()
    counts = counts_of(subsets)
    assert counts.size == 20
    assert stats.chisquare(counts).pvalue > 0.01
    everything = np.sort(np.asarray(stream.subset(jnp.zeros(6000, jnp.uint32), 4, 4)), axis=0)
    assert (everything == np.arange(4)[:, None]).all()


def test_orders_are_uniform():
    stream = stream_of(6, np.arange(6000))
    counts = counts_of(np.asarray(stream.permutation(jnp.zeros(6000, jnp.uint32), 4)))
    assert counts.size == 24
    assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize(("examples", "batch"), [(7, 2), (6, 1), (5, 5)])
def test_an_epoch_visits_every_example_once_whatever_the_block(examples, batch):
    landscape = Empirical(lambda p, x: p[0] * x, np.zeros(1), np.arange(1.0, examples + 1))
    dynamics = MinibatchSGD(0.1, batch, sampling="shuffled_epochs")
    stream, batches, pairs, behind = stream_of(8, [0, 41]), examples // batch, 9, 3
    draw = jax.jit(lambda pair: dynamics.draw_pairs(landscape, stream, pair))

    def batches_in_blocks_of(size):  # the second lane runs three pairs ahead of the first
        first = np.arange(0, pairs, size)[:, None, None] + np.array([0, behind])
        blocks = [draw(jnp.asarray(f + np.arange(size)[:, None], jnp.uint32)) for f in first]
        return np.concatenate(blocks).reshape(2 * pairs, batch, 2)

    one_by_one = batches_in_blocks_of(1)
    np.testing.assert_array_equal(batches_in_blocks_of(3), one_by_one)
    np.testing.assert_array_equal(batches_in_blocks_of(9), one_by_one)
    epochs = np.tile(np.arange(30, dtype=np.uint32)[:, None], 2)
    orders = np.asarray(stream.permutation(jnp.asarray(epochs), examples))
    for lane in (0, 1):
        line = orders[:, lane, : batches * batch].reshape(-1, batch)
        ticks = slice(2 * behind * lane, 2 * behind * lane + 2 * pairs)
        np.testing.assert_array_equal(one_by_one[..., lane], line[ticks])
        for epoch in line[: 3 * batches].reshape(3, -1):
            assert len(set(epoch.tolist())) == batches * batch


def test_seeds():
    np.testing.assert_array_equal(seed_words(5), [0, 5])
    np.testing.assert_array_equal(seed_words(2**40 + 1), [2**8, 1])
    np.testing.assert_array_equal(seed_words(jax.random.key(5)), [0, 5])
    np.testing.assert_array_equal(seed_words(jax.random.PRNGKey(5)), [0, 5])
    split = jax.random.split(jax.random.key(5))[1]
    np.testing.assert_array_equal(seed_words(split), jax.random.key_data(split))


@pytest.mark.parametrize("key", [-1, 2**64, 1.5, "seed", None, jax.random.key(0, impl="rbg")])
def test_bad_keys_are_refused(key):
    with pytest.raises(InvalidArgument, match="key"):
        seed_words(key)
