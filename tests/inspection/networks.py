"""Small networks at their minima, shared by the tests of inspections."""

import functools

import numpy as np

import escapade as esc


@functools.cache
def breast_cancer():
    """A network of 128 parameters on 569 examples, at a minimum."""
    data = esc.data.breast_cancer()
    network = esc.landscapes.MLP((30, 4, 2), key=1)
    landscape = esc.landscapes.network_landscape(network, data, weight_decay=1e-2)
    return landscape.at_minimum(esc.train(landscape, steps=2000).theta)


@functools.cache
def digits():
    """Softmax regression of the ten digits: 640 parameters, 1797 examples, at its minimum."""
    data = esc.data.digits()
    landscape = esc.landscapes.network_landscape(
        esc.landscapes.logistic_regression(64, 10, bias=False), data, weight_decay=1e-2
    )
    return landscape.at_minimum(esc.train(landscape, steps=500).theta)


@functools.cache
def digits_perceptron():
    """A perceptron of 740 parameters, too many to be measured whole, at a minimum on 100 digits."""
    data = esc.data.digits().subset(100)
    network = esc.landscapes.MLP((64, 10, 10), key=1)
    landscape = esc.landscapes.network_landscape(network, data, weight_decay=1e-2)
    return landscape.at_minimum(esc.train(landscape, steps=500).theta)


@functools.cache
def avila(archive):
    """A network of 96 parameters on 10 430 examples, at a minimum; `archive` holds the data."""
    data = esc.data.load("avila", path=str(archive))
    network = esc.landscapes.MLP((10, 8, 2), key=0)
    landscape = esc.landscapes.network_landscape(network, data, weight_decay=1e-3)
    return landscape.at_minimum(esc.find_minimum(landscape).theta)


@functools.cache
def untrained():
    """The network on breast cancer as it is drawn."""
    data = esc.data.breast_cancer()
    network = esc.landscapes.MLP((30, 4, 2), key=2)
    return esc.landscapes.network_landscape(network, data, weight_decay=1e-2)


@functools.cache
def spectrum(name):
    """Hessian eigenvalues and vectors, sharpest first, and the noise covariance, dense."""
    landscape = {"breast_cancer": breast_cancer, "digits": digits}[name]()
    theta = landscape.minima[0]
    expansion = landscape.expand(theta)
    hessian = np.stack([expansion.hessian_product(row) for row in np.eye(landscape.dim)])
    values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
    covariance = esc.noise.Empirical().covariance(landscape, theta)
    return values[::-1], vectors[:, ::-1], covariance


def offset_of(name, barrier, learning_rate, batch_size, direction=0):
    """Half-width of a slab across an eigenvector with a given barrier (scalar Gaussian chain)."""
    values, vectors, covariance = spectrum(name)
    rate, normal = values[direction], vectors[:, direction]
    variance = normal @ covariance @ normal / (2 * rate - learning_rate * rate**2)
    return normal, float(np.sqrt(2 * barrier * learning_rate / batch_size * variance))


def descended(landscape, steps, learning_rate):
    """A point on the way down: gradient descent from the initial parameters."""
    theta = landscape.initial
    for _ in range(steps):
        theta = theta - learning_rate * np.asarray(landscape.gradient(theta))
    return theta


__all__ = [
    "breast_cancer",
    "descended",
    "digits",
    "digits_perceptron",
    "offset_of",
    "spectrum",
    "untrained",
]
