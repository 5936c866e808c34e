"""One run of the public experiment code, as that code runs.

A network ``x -> V relu(W x)`` without biases leaves a fresh random start. Before each step a batch
of inputs and, independently, one of labels are drawn; the loss is the mean Euclidean norm of
softmax minus one-hot label; its gradient is *added* to those of all earlier steps, since the public
code never zeroes them:

    g_n = g_(n-1) + grad L(theta_(n-1)),    theta_n = theta_(n-1) - eta g_n

which is the heavy ball with momentum 1, motion without friction. "SGLD" adds the gradients of the
eleven chunks of 1000 examples instead, divides the sum by 1000 and adds ``eta`` times a normal
number. The run ends when the sum over W and V of the distances from the start reaches the radius.

Source: the experiment code of H. Ibayashi and M. Imaizumi, repository ibayashi-hikaru/SGD_exit_time
(``exit_time/exit_time.py`` with its model file and configurations).
"""

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from escapade.data import Dataset
from escapade.landscape.networks import ACTIVATIONS
from escapade.reproduction.published.experiment import Experiment

CHUNK = 1000
"""Examples of one chunk of the full gradient, and what "SGLD" divides the sum by."""


class Weights(NamedTuple):
    """The two weight matrices, hidden units last: it is the long axis, and the fast one."""

    first: Float[Array | np.ndarray, "features width"]
    second: Float[Array | np.ndarray, "classes width"]


class Draw(NamedTuple):
    """All random numbers of one run: a function of a key and the number of the trial.

    ``rows`` and ``label_rows`` are empty for "sgld", whose normal numbers depend on `noise_seed`.
    """

    start: Weights
    rows: Int[np.ndarray, "steps batch"]
    label_rows: Int[np.ndarray, "steps batch"]
    noise_seed: int


class Outcome(NamedTuple):
    """How a run ended: after how many steps, and how far from the start."""

    steps: int
    distance: float


def draw(experiment: Experiment, dataset: Dataset, key: int, trial: int) -> Draw:
    """Draw the start and the batches of one run.

    The start is PyTorch's default for linear layers, uniform within ``1 / sqrt(inputs)``, before
    it is divided by ``sqrt(sharpness)``. So the same key gives the same run under every sharpness.
    """
    random = np.random.default_rng([key, trial])
    sizes = ((dataset.features, experiment.width), (dataset.classes, experiment.width))
    fans = (dataset.features, experiment.width)
    start = Weights(
        *(
            (2 * random.random(size, dtype=np.float32) - 1) / np.float32(np.sqrt(fan))
            for size, fan in zip(sizes, fans, strict=True)
        )
    )
    if experiment.optimiser == "sgld":
        none = np.empty((0, 0), np.int64)
        return Draw(start, none, none, int(random.integers(2**32)))
    shape = (experiment.max_steps, experiment.batch_size)
    rows = _distinct(random, dataset.examples, shape)
    paired = experiment.labels == "paired"
    return Draw(start, rows, rows if paired else _distinct(random, dataset.examples, shape), 0)


def _distinct(
    random: np.random.Generator, examples: int, shape: tuple[int, int]
) -> Int[np.ndarray, "steps batch"]:
    """Rows of distinct numbers: the beginnings of random permutations."""
    rows = random.integers(examples, size=shape)
    while True:
        ordered = np.sort(rows, axis=1)
        repeated = np.flatnonzero((np.diff(ordered, axis=1) == 0).any(axis=1))
        if not repeated.size:
            return rows
        rows[repeated] = random.integers(examples, size=(repeated.size, shape[1]))


def run(experiment: Experiment, dataset: Dataset, drawn: Draw) -> Outcome:
    """Run one trial in single precision, as the public code does."""
    inputs = dataset.inputs.astype(np.float32)
    targets = np.eye(dataset.classes, dtype=np.float32)[dataset.labels]
    root = jnp.float32(np.sqrt(experiment.sharpness))
    start = Weights(*(jnp.asarray(weight) / root for weight in drawn.start))
    rate = jnp.float32(experiment.learning_rate)
    limits = _Limits(jnp.float32(experiment.radius), jnp.int32(experiment.max_steps))
    loss = _Loss(root, experiment.activation)
    if experiment.optimiser == "sgd":
        batches = (jnp.asarray(inputs[drawn.rows]), jnp.asarray(targets[drawn.label_rows]))
        accumulated = experiment.gradients == "accumulated"
        steps, distance = _run_sgd(loss, start, batches, rate, limits, accumulated)
    else:
        examples = (jnp.asarray(inputs), jnp.asarray(targets))
        seed = jnp.uint32(drawn.noise_seed)
        steps, distance = _run_sgld(loss, start, examples, rate, limits, seed)
    return Outcome(int(steps), float(distance))


class _Limits(NamedTuple):
    radius: Float[Array, ""]
    max_steps: Int[Array, ""]


class _Loss(eqx.Module):
    root: Float[Array, ""]
    activation: str = eqx.field(static=True)

    def __call__(
        self,
        weights: Weights,
        inputs: Float[Array, "batch features"],
        targets: Float[Array, "batch classes"],
    ) -> Float[Array, ""]:
        """Mean Euclidean norm of softmax minus target, at sqrt(k) times the weights."""
        hidden = ACTIVATIONS[self.activation](self.root * (inputs @ weights.first))
        scores = self.root * (hidden @ weights.second.T)
        return jnp.mean(_norm(jax.nn.softmax(scores) - targets))


def _norm(rows: Float[Array, "batch classes"]) -> Float[Array, " batch"]:
    """Euclidean norms whose derivative at zero is zero, as PyTorch has it."""
    squared = jnp.sum(rows**2, axis=-1)
    safe = jnp.where(squared > 0, squared, 1.0)
    return jnp.where(squared > 0, jnp.sqrt(safe), 0.0)


def _distance(weights: Weights, start: Weights) -> Float[Array, ""]:
    """Sum over the weight matrices of the Frobenius norms, as the public code has it."""
    first, second = (
        jnp.sqrt(jnp.sum((moved - before) ** 2))
        for moved, before in zip(weights, start, strict=True)
    )
    return first + second


_State = tuple[Weights, Weights, Array, Array]


def _inside(limits: _Limits, state: _State) -> Array:
    """Whether to go on; false at a distance that is no number, which ends the public loop too."""
    *_, distance, step = state
    return (distance < limits.radius) & (step < limits.max_steps)


def _initial(start: Weights) -> _State:
    return start, jax.tree.map(jnp.zeros_like, start), jnp.float32(0), jnp.int32(0)


@eqx.filter_jit
def _run_sgd(
    loss: _Loss,
    start: Weights,
    batches: tuple[Float[Array, "steps batch features"], Float[Array, "steps batch classes"]],
    rate: Float[Array, ""],
    limits: _Limits,
    accumulated: bool,
) -> tuple[Array, Array]:
    inputs, targets = batches

    def step(state: _State) -> _State:
        weights, total, _, at = state
        gradient = jax.grad(loss)(weights, inputs[at], targets[at])
        total = jax.tree.map(jnp.add, total, gradient) if accumulated else gradient
        weights = jax.tree.map(lambda weight, one: weight - rate * one, weights, total)
        return weights, total, _distance(weights, start), at + 1

    *_, distance, steps = jax.lax.while_loop(partial(_inside, limits), step, _initial(start))
    return steps, distance


@eqx.filter_jit
def _run_sgld(
    loss: _Loss,
    start: Weights,
    examples: tuple[Float[Array, "examples features"], Float[Array, "examples classes"]],
    rate: Float[Array, ""],
    limits: _Limits,
    seed: Array,
) -> tuple[Array, Array]:
    def step(state: _State) -> _State:
        weights, total, _, at = state
        total = jax.tree.map(jnp.add, total, _chunked_gradient(loss, weights, examples))
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), at), len(weights))
        weights = Weights(
            *(
                weight - (rate / CHUNK) * one - rate * jax.random.normal(key, weight.shape)
                for weight, one, key in zip(weights, total, keys, strict=True)
            )
        )
        return weights, total, _distance(weights, start), at + 1

    *_, distance, steps = jax.lax.while_loop(partial(_inside, limits), step, _initial(start))
    return steps, distance


def _chunked_gradient(
    loss: _Loss,
    weights: Weights,
    examples: tuple[Float[Array, "examples features"], Float[Array, "examples classes"]],
) -> Weights:
    """Sum over chunks of the gradient of the chunk's mean loss; the last chunk may be short."""
    whole = len(examples[0]) // CHUNK * CHUNK
    inputs, targets = (jnp.reshape(part[:whole], (-1, CHUNK, part.shape[1])) for part in examples)

    def add(total: Weights, chunk: tuple[Array, Array]) -> tuple[Weights, None]:
        return jax.tree.map(jnp.add, total, jax.grad(loss)(weights, *chunk)), None

    total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, weights), (inputs, targets))
    if whole < len(examples[0]):
        rest = jax.grad(loss)(weights, *(part[whole:] for part in examples))
        total = jax.tree.map(jnp.add, total, rest)
    return total
