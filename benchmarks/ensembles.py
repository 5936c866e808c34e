"""Ensembles of small networks beside the loop a user writes, in PyTorch and in JAX.

    python benchmarks/ensembles.py [--replicas 2048] [--steps 1000] [--rounds 7]

A perceptron 10-H-2 without biases on 10430 rows (600 parameters for H = 50), minibatches of B drawn
with replacement, and at every step the test whether the parameters have left a ball. The ensemble
is `simulate`; its time is divided by the replica-steps it has run. The loops run one replica: that
of PyTorch with autograd and torch.optim.SGD, that of JAX calls a compiled step. All run on one
thread; times are CPU times of the process, and the runs take turns so that a busy machine treats
them alike. Ratios are to the loop of PyTorch (what the authors of such studies run) and, for JAX,
to that of JAX too.
"""

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NPROC", "1")

import jax
import jax.numpy as jnp
import numpy as np
import torch

import escapade as esc

ROWS, FEATURES, CLASSES = 10430, 10, 2
LEARNING_RATE, WEIGHT_DECAY = 0.05, 1e-2


def data():
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((ROWS, FEATURES)).astype(np.float32)
    teacher = generator.standard_normal((FEATURES, CLASSES))
    labels = np.argmax(np.tanh(inputs @ teacher) + generator.gumbel(size=(ROWS, CLASSES)), axis=1)
    return inputs, labels


def weights(hidden):
    generator = np.random.default_rng(1)
    first = generator.standard_normal((hidden, FEATURES)) / np.sqrt(FEATURES)
    second = generator.standard_normal((CLASSES, hidden)) / np.sqrt(hidden)
    return first.astype(np.float32), second.astype(np.float32)


def torch_model(hidden):
    model = torch.nn.Sequential(
        torch.nn.Linear(FEATURES, hidden, bias=False),
        torch.nn.Tanh(),
        torch.nn.Linear(hidden, CLASSES, bias=False),
    )
    with torch.no_grad():
        for layer, value in zip((model[0], model[2]), weights(hidden), strict=True):
            layer.weight.copy_(torch.from_numpy(value))
    return model


def torch_loop(hidden, batch_size, radius):
    """What a user of PyTorch writes: one replica, autograd, an optimiser, the test at each step."""
    inputs, labels = (torch.from_numpy(part) for part in data())
    model, loss = torch_model(hidden), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    start = [value.detach().clone() for value in model.parameters()]

    def run(steps):
        for step in range(steps):
            index = torch.randint(len(inputs), (batch_size,))
            optimizer.zero_grad()
            loss(model(inputs[index]), labels[index]).backward()
            optimizer.step()
            with torch.no_grad():
                moved = sum(
                    ((now - then) ** 2).sum()
                    for now, then in zip(model.parameters(), start, strict=True)
                )
                if moved >= radius**2:
                    return step + 1
        return steps

    return run


def jax_network(parameters, row):
    first, second = parameters
    return second @ jnp.tanh(first @ row)


def jax_loop(hidden, batch_size, radius):
    """What a user of JAX writes: a compiled step, called in a Python loop that tests its result."""
    inputs, labels = map(jnp.asarray, data())
    start = tuple(map(jnp.asarray, weights(hidden)))

    def loss(parameters, rows, targets):
        scores = jax.vmap(jax_network, (None, 0))(parameters, rows)
        taken = jnp.take_along_axis(jax.nn.log_softmax(scores), targets[:, None], 1)
        decay = sum(jnp.sum(value**2) for value in parameters)
        return -jnp.mean(taken) + 0.5 * WEIGHT_DECAY * decay

    @jax.jit
    def step(parameters, key):
        key, draw = jax.random.split(key)
        index = jax.random.randint(draw, (batch_size,), 0, len(inputs))
        slopes = jax.grad(loss)(parameters, inputs[index], labels[index])
        moved = jax.tree.map(lambda value, slope: value - LEARNING_RATE * slope, parameters, slopes)
        squares = [jnp.sum((now - then) ** 2) for now, then in zip(moved, start, strict=True)]
        return moved, key, sum(squares) >= radius**2

    def run(steps):
        parameters, key = start, jax.random.key(0)
        for number in range(steps):
            parameters, key, left = step(parameters, key)
            if left:
                return number + 1
        return steps

    return run


def ensemble(network, hidden, batch_size, radius, replicas, lanes, minimum):
    landscape = landscape_of(network, hidden)
    escape = esc.Escape(
        landscape, esc.MinibatchSGD(LEARNING_RATE, batch_size), esc.Ball(radius), minimum, minimum
    )

    def run(steps):
        sample = esc.simulate(escape, replicas, steps, key=0, lanes=lanes)
        run.engine = sample.engine
        return int(np.sum(sample.times))

    return run


def landscape_of(network, hidden):
    given = {"weight_decay": WEIGHT_DECAY}
    if network == "torch":
        return esc.landscapes.network_landscape(torch_model(hidden).eval(), data(), **given)
    return esc.landscapes.network_landscape(
        jax_network, data(), parameters=weights(hidden), **given
    )


def cpu_per_step(run, steps):
    began = time.process_time()
    done = run(steps)
    return (time.process_time() - began) / done


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicas", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=1000, help="of each replica, at most")
    parser.add_argument("--hidden", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--radius", type=float, default=1e3)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--lanes", type=int, nargs="*", default=[0], help="0: chosen by simulate")
    parser.add_argument("--networks", nargs="*", default=["torch", "jax"])
    options = parser.parse_args()
    torch.set_num_threads(1)

    minimum = esc.find_minimum(landscape_of("jax", options.hidden)).theta
    sizes = options.hidden, options.batch_size, options.radius
    print(f"{(FEATURES + CLASSES) * options.hidden} parameters, batches of {options.batch_size}")
    loops = {"PyTorch loop": torch_loop(*sizes), "JAX loop": jax_loop(*sizes)}
    for network in options.networks:
        runs = {
            lanes: ensemble(network, *sizes, options.replicas, lanes or None, minimum)
            for lanes in options.lanes
        }
        compare(network, loops, runs, options.steps, options.rounds)


def compare(network, loops, runs, steps, rounds):
    """Run loops and ensembles in turn, forwards and backwards, and print their ratios."""
    everything = {**loops, **runs}
    for run in everything.values():
        run(steps)
    taken = {name: [] for name in everything}
    for number in range(rounds):
        for name in list(everything)[:: 1 if number % 2 == 0 else -1]:
            taken[name].append(1e6 * cpu_per_step(everything[name], steps))
    times = {name: np.array(values) for name, values in taken.items()}
    for name in loops:
        print(f"{network}: {name} {np.median(times[name]):.0f} us per step")
    for name, run in runs.items():
        print(f"  {run.engine}: {np.median(times[name]):.2f} us per replica-step", end="")
        for loop in loops:
            low, middle = np.percentile(times[loop] / times[name], [25, 50])
            print(f"; {middle:.0f} times less than the {loop} (25 %: {low:.0f})", end="")
        print(flush=True)


if __name__ == "__main__":
    main()
