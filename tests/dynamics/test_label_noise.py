"""Label noise: drawn gradients against enumeration, the loss it raises near interpolation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import escapade as esc
from escapade.dynamics import SAMPLINGS, LabelNoiseSGD
from escapade.dynamics._base import halves
from escapade.dynamics.streams import Stream, seed_words
from escapade.errors import InvalidArgument, Unsupported

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.standard_normal((5, 3))
TARGETS = RANDOM.standard_normal((5, 2))
LABELS = np.array([0, 2, 1, 1, 0])
NETWORK = esc.landscapes.MLP((3, 2, 2), key=1)
REGRESSION = esc.landscapes.network_landscape(
    NETWORK, (INPUTS, TARGETS), weight_decay=0.02, loss="square"
)
CLASSIFIER = esc.landscapes.network_landscape(
    esc.landscapes.MLP((3, 2, 3), key=2), (INPUTS, LABELS), weight_decay=0.02
)


def drawn_gradients(dynamics, landscape, theta, lanes=8192):
    """Gradients of two steps of many replicas."""
    stream = Stream(jnp.asarray(seed_words(7)), jnp.arange(lanes, dtype=jnp.uint32))
    pair = jnp.zeros((1, lanes), jnp.uint32)
    draws = dynamics.gradients.draw_pairs(landscape, stream, pair)

    @jax.jit
    def estimate(draw):
        def one(draw):
            return dynamics.gradients.estimate(landscape, jnp.asarray(theta), draw)

        return jax.vmap(one, in_axes=-1)(draw)

    both = halves(jax.tree.map(lambda leaf: leaf[0], draws))
    return np.concatenate([np.asarray(estimate(draw), np.float64) for draw in both])


def agree(found, mean, covariance):
    """Mean and covariance of samples, within 4.5 standard errors entry by entry."""
    deviation = np.sqrt(np.diag(covariance) / len(found))
    np.testing.assert_array_less(np.abs(found.mean(axis=0) - mean), 4.5 * deviation + 1e-6)
    centred = found - mean
    products = np.einsum("si,sj->sij", centred, centred)
    error = products.std(axis=0) / np.sqrt(len(found))
    np.testing.assert_array_less(np.abs(products.mean(axis=0) - covariance), 4.5 * error + 1e-7)


def outputs(theta, inputs):
    return jax.vmap(REGRESSION.model(theta))(inputs)


@pytest.mark.parametrize(
    "sampling", [pytest.param(SAMPLINGS[0], marks=pytest.mark.slow), SAMPLINGS[1]]
)
def test_gaussian_noise_of_the_targets(sampling):
    """``s^2 E[J^T J]`` by the network's own Jacobian, beside the minibatches' covariance."""
    dynamics = LabelNoiseSGD(0.1, 2, deviation=0.6, sampling=sampling).prepared(REGRESSION)
    theta = REGRESSION.initial
    jacobian = np.asarray(jax.jacfwd(outputs)(jnp.asarray(theta), jnp.asarray(INPUTS)))
    by_targets = np.einsum("ntp,ntq->pq", jacobian, jacobian) / len(INPUTS)
    plain = esc.MinibatchSGD(0.1, 2, sampling).noise_covariance(REGRESSION, theta)
    expected = plain + 0.36 * by_targets
    covariance = dynamics.noise_covariance(REGRESSION, theta)
    np.testing.assert_allclose(covariance, expected, rtol=1e-5, atol=1e-6)
    found = drawn_gradients(dynamics, REGRESSION, theta)
    agree(found, REGRESSION.gradient(theta), covariance / 2)


def test_replaced_labels():
    """Every label of every example, enumerated."""
    dynamics = LabelNoiseSGD(0.1, 2, replaced=0.3).prepared(CLASSIFIER)
    theta = CLASSIFIER.initial

    def losses(at):
        scores = jax.vmap(CLASSIFIER.model(at))(INPUTS)
        return -jax.nn.log_softmax(scores) + 0.01 * at @ at

    gradients = np.asarray(jax.jacrev(losses)(jnp.asarray(theta)), np.float64)
    weights = (0.1 + 0.7 * np.eye(3)[LABELS]) / len(LABELS)
    mean = np.einsum("nc,ncp->p", weights, gradients)
    covariance = np.einsum("nc,ncp,ncq->pq", weights, gradients, gradients) - np.outer(mean, mean)
    agree(drawn_gradients(dynamics, CLASSIFIER, theta), mean, covariance / 2)
    assert np.linalg.norm(mean - CLASSIFIER.gradient(theta)) > 0.01


@pytest.mark.parametrize(
    "sampling",
    [*(pytest.param(one, marks=pytest.mark.slow) for one in SAMPLINGS[:2]), SAMPLINGS[2]],
)
def test_no_label_replaced_is_plain_sgd_on_the_same_minibatches(sampling):
    minimum = esc.find_minimum(CLASSIFIER, near=CLASSIFIER.initial).theta
    plain = esc.MinibatchSGD(0.2, 2, sampling)
    noisy = LabelNoiseSGD(0.2, 2, replaced=0.0, sampling=sampling)
    paths = [
        list(esc.iterates(esc.Escape(CLASSIFIER, one, esc.Ball(50.0), minimum=minimum), 20, 3))
        for one in (plain, noisy)
    ]
    np.testing.assert_allclose(*paths, atol=1e-6)


def test_every_label_replaced_forgets_the_labels():
    dynamics = LabelNoiseSGD(0.1, 4, replaced=1.0, classes=3)
    stream = Stream(jnp.asarray(seed_words(1)), jnp.arange(1000, dtype=jnp.uint32))
    tick = jnp.zeros((1, 1000), jnp.uint32)
    labels = np.asarray(stream.replacements(tick, 4, 3, dynamics.replaced))
    counts = np.bincount(labels.ravel(), minlength=3)
    assert labels.min() == 0
    assert labels.max() == 2
    np.testing.assert_array_less(np.abs(counts - 4000 / 3), 4 * np.sqrt(4000 * 2 / 9))


@pytest.mark.slow
def test_split_follows_the_labels_drawn_for_an_epoch():
    """Splitting against simulation where a tick holds indices and normals, an epoch at a time."""
    minimum = esc.find_minimum(REGRESSION, near=REGRESSION.initial).theta
    dynamics = LabelNoiseSGD(0.2, 2, deviation=1.0, sampling="shuffled_epochs")
    escape = esc.Escape(REGRESSION, dynamics, esc.Sublevel(0.25), minimum=minimum)
    sample = esc.simulate(escape, 1000, 10**5, key=5)
    assert not sample.censored.any()
    split = esc.split(escape, key=6)
    low, high = split.interval
    assert 0.8 * low < sample.mean < 1.25 * high


@pytest.mark.slow
def test_loss_near_interpolation():
    """Targets that the network meets: the loss rises as the linear chain with C = s^2 H says."""
    network = esc.landscapes.MLP((3, 6, 1), key=4)
    targets = np.asarray(jax.vmap(network)(INPUTS), np.float64)
    landscape = esc.landscapes.network_landscape(
        network, (INPUTS, targets), weight_decay=0.0, loss="square"
    )
    theta, rate, deviation, replicas = landscape.initial, 0.1, 0.03, 2048
    assert landscape.loss(theta) < 1e-12
    assert np.linalg.norm(esc.MinibatchSGD(rate, 2).noise_covariance(landscape, theta)) < 1e-10
    dynamics = LabelNoiseSGD(rate, 2, deviation=deviation)
    escape = esc.Escape(landscape, dynamics, esc.Ball(10.0), minimum=theta)
    curvatures = np.linalg.eigvalsh(jax.hessian(landscape._loss)(jnp.asarray(theta)))
    curvatures = curvatures[curvatures > 1e-5].astype(float)
    assert len(curvatures) == len(INPUTS)
    for steps in (3, 40):
        sample = esc.simulate(escape, replicas, steps, key=2)
        assert sample.censored.all()
        left = (1 - rate * curvatures) ** (2 * steps)
        variance = rate / 2 * deviation**2 / (2 - rate * curvatures) * (1 - left)
        losses = np.asarray(jax.vmap(landscape._loss)(jnp.asarray(sample.exit_points)), float)
        error = losses.std() / np.sqrt(len(losses))
        expected = np.sum(curvatures * variance) / 2
        assert error < 0.05 * expected
        assert abs(losses.mean() - expected) < 3.5 * error


def test_what_does_not_apply():
    theta = CLASSIFIER.initial
    with pytest.raises(Unsupported, match="whose minimum is not"):
        LabelNoiseSGD(0.1, 2, replaced=0.1).noise_covariance(CLASSIFIER, theta)
    shuffled = LabelNoiseSGD(0.1, 2, deviation=0.1, sampling="shuffled_epochs")
    with pytest.raises(Unsupported, match="anti-correlated"):
        shuffled.noise_covariance(REGRESSION, theta)
    with pytest.raises(Unsupported, match=r"landscapes\.Empirical"):
        LabelNoiseSGD(0.1, 2, deviation=0.1).prepared(esc.landscapes.Quadratic([1.0]))


def test_networks_of_pytorch_are_refused():
    torch = pytest.importorskip("torch")
    landscape = esc.landscapes.network_landscape(
        torch.nn.Linear(3, 2),
        (INPUTS.astype(np.float32), TARGETS.astype(np.float32)),
        loss="square",
    )
    with pytest.raises(Unsupported, match="PyTorch network keeps the targets"):
        LabelNoiseSGD(0.1, 2, deviation=0.1).prepared(landscape)


@pytest.mark.parametrize(
    ("build", "argument"),
    [
        (lambda: LabelNoiseSGD(0.1, 2), "give one of them"),
        (lambda: LabelNoiseSGD(0.1, 2, deviation=0.1, replaced=0.1), "give one of them"),
        (lambda: LabelNoiseSGD(0.1, 2, deviation=0.0), "deviation is"),
        (lambda: LabelNoiseSGD(0.1, 2, replaced=1.5), "replaced is"),
        (lambda: LabelNoiseSGD(0.1, 2, deviation=0.1, classes=3), "classes is"),
        (lambda: LabelNoiseSGD(0.1, 2, replaced=0.1, classes=1), "classes is"),
        (lambda: LabelNoiseSGD(0.1, 2.5, replaced=0.1), "batch_size"),
        (lambda: LabelNoiseSGD(0.1, 2, deviation=0.1).prepared(CLASSIFIER), "give replaced="),
        (lambda: LabelNoiseSGD(0.1, 2, replaced=0.1).prepared(REGRESSION), "give deviation="),
        (
            lambda: LabelNoiseSGD(0.1, 2, replaced=0.1, classes=2).prepared(CLASSIFIER),
            "labels run to 2",
        ),
        (
            lambda: LabelNoiseSGD(0.1, 2, deviation=0.1).prepared(
                esc.landscapes.Empirical(lambda w, x: jnp.sum((w - x) ** 2), np.zeros(3), INPUTS)
            ),
            r"pair \(inputs, targets\)",
        ),
    ],
)
def test_bad_arguments(build, argument):
    with pytest.raises(InvalidArgument, match=argument):
        build()
