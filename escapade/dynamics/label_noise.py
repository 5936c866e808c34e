"""SGD whose labels are drawn anew at each step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt32

from escapade.dynamics.gradients import Minibatches, require_examples, require_sampling
from escapade.dynamics.optimiser import require_number
from escapade.dynamics.sampled import AbstractSampledDynamics
from escapade.dynamics.streams import Stream
from escapade.errors import InvalidArgument, Unsupported
from escapade.landscape import AbstractLandscape, Empirical
from escapade.landscape._base import positive_number
from escapade.precision import in_float64


class LabelNoiseSGD(AbstractSampledDynamics):
    """Minibatch SGD whose targets carry noise that is drawn anew at each step.

    * `deviation` s, for real targets: independent Gaussian noise of this standard deviation is
      added to every number of a target. With the square loss the gradient stays unbiased, and the
      covariance of one example's gradient gains ``s^2 E[J^T J]``, J the derivative of the outputs:
      at a minimum that interpolates the targets ``C = s^2 E[J^T J] = s^2 H``, though the
      minibatches alone make no noise there (Blanc, Gupta, Valiant and Valiant, COLT 2020).
    * `replaced` p, for classes: every label is replaced, with this probability, by a class drawn
      uniformly (the same one included). SGD then descends the mean of the loss over the labels,
      ``(1 - p) l(y) + p mean_c l(c)``, which is not the landscape's.

    Runs on networks of the JAX world; `sampling` is that of `MinibatchSGD`.
    """

    learning_rate: float
    batch_size: int
    deviation: float | None
    replaced: float | None
    classes: int | None
    sampling: str

    def __init__(
        self,
        learning_rate: float,
        batch_size: float,
        *,
        deviation: float | None = None,
        replaced: float | None = None,
        classes: int | None = None,
        sampling: str = "with_replacement",
    ):
        """Set learning rate, batch size (a whole number), one kind of label noise, and sampling.

        Args:
            learning_rate: eta.
            batch_size: B.
            deviation: standard deviation of the noise of real targets, in their units.
            replaced: probability with which a label is replaced.
            classes: number of classes; the largest label of the data plus one unless given.
            sampling: of the minibatches.

        Raises:
            InvalidArgument: when a number is out of range, not exactly one kind of noise is given,
                or the sampling is unknown.
        """
        self.learning_rate = positive_number(learning_rate, "learning_rate")
        self.batch_size = require_sampling(batch_size, sampling)
        self.sampling = sampling
        if (deviation is None) == (replaced is None):
            raise InvalidArgument(
                f"deviation is {deviation} and replaced is {replaced}; give one of them: deviation "
                "for real targets, replaced for classes"
            )
        self.deviation = None if deviation is None else positive_number(deviation, "deviation")
        self.replaced = None if replaced is None else require_number(replaced, "replaced", 0.0, 1.0)
        if classes is not None and (replaced is None or not _is_count(classes)):
            raise InvalidArgument(
                f"classes is {classes!r}; give a whole number of at least 2, with replaced= only"
            )
        self.classes = classes

    @property
    def gradients(self) -> "NoisyLabels":
        """Minibatches with noisy targets."""
        return NoisyLabels(
            self.batch_size, self.sampling, self.deviation, self.replaced, self.classes
        )

    @property
    def ticks_per_step(self) -> int:
        """One."""
        return 1

    @property
    def continuous(self) -> bool:
        """False: the state between steps does not exist."""
        return False

    def prepared(self, landscape: AbstractLandscape) -> "LabelNoiseSGD":
        """With the number of classes, on a landscape with enough examples and fitting targets."""
        if not isinstance(landscape, Empirical):
            raise Unsupported(
                f"LabelNoiseSGD draws new targets for landscapes.Empirical, but the landscape is "
                f"{type(landscape).__name__} (a PyTorch network keeps the targets it was built "
                "with); write the network in JAX, or use GaussianSGD with "
                "noise.Constant(deviation**2 * hessian)"
            )
        require_examples(landscape, self.gradients, "LabelNoiseSGD", "GaussianSGD")
        targets = _targets(landscape.data)
        whole = np.issubdtype(targets.dtype, np.integer)
        if whole != (self.replaced is not None):
            kind, given = ("integer labels", "deviation") if whole else ("real targets", "replaced")
            raise InvalidArgument(
                f"{given} is given but the data hold {kind} ({targets.dtype}); give "
                f"{'replaced' if whole else 'deviation'}= instead"
            )
        if not whole:
            return self
        least = int(targets.max()) + 1
        if self.classes is not None and self.classes < least:
            raise InvalidArgument(f"classes is {self.classes} but the labels run to {least - 1}")
        return LabelNoiseSGD(
            self.learning_rate,
            self.batch_size,
            replaced=self.replaced,
            classes=self.classes or least,
            sampling=self.sampling,
        )

    def noise_covariance(
        self, landscape: AbstractLandscape, theta: Float[np.ndarray, " dim"]
    ) -> Float[np.ndarray, "dim dim"]:
        """Covariance of one example's gradient, the noise of its target included.

        Exact where the gradient is linear in the target, as for the square loss, else to first
        order in the squared deviation.

        Raises:
            Unsupported: where labels are replaced, as the gradient is not the landscape's then, and
                for shuffled epochs, where one step's covariance does not tell the noise.
        """
        if self.replaced is not None:
            raise Unsupported(
                "no theory applies where labels are replaced: SGD descends the mean of the loss "
                "over the labels drawn, whose minimum is not that of the landscape; simulate or "
                "split"
            )
        if self.sampling == "shuffled_epochs":
            raise Unsupported(
                "no theory applies to shuffled epochs: the noise of successive steps is "
                "anti-correlated within an epoch; simulate, or sample with or without replacement"
            )
        return self.gradients.covariance(landscape, theta)

    def tick(
        self, landscape: AbstractLandscape, theta: Float[Array, " dim"], draw: Any
    ) -> Float[Array, " dim"]:
        """One step."""
        return theta - self.learning_rate * self.gradients.estimate(landscape, theta, draw)

    def __str__(self) -> str:
        noise = f"deviation {self.deviation}"
        if self.replaced is not None:
            noise = f"{100 * self.replaced:g} % of the labels replaced"
        return f"label-noise SGD ({noise}, {self.sampling.replace('_', ' ')})"


class NoisyLabels(Minibatches):
    """Mean gradients of random minibatches whose targets are noisy; see `LabelNoiseSGD`."""

    deviation: float | None
    replaced: float | None
    classes: int | None

    def covariance(
        self, landscape: AbstractLandscape, theta: Float[np.ndarray, " dim"]
    ) -> Float[np.ndarray, "dim dim"]:
        """Covariance of one example's gradient under Gaussian noise of its target."""
        assert isinstance(landscape, Empirical)
        assert self.deviation is not None
        by_labels = in_float64(_spread_by_targets, landscape, theta)
        return super().covariance(landscape, theta) + self.deviation**2 * by_labels

    def draw_pairs(
        self, landscape: AbstractLandscape, stream: Stream, pair: UInt32[Array, "pairs lanes"]
    ) -> PyTree[Array]:
        """Indices of two minibatches per pair, and what happens to their targets."""
        assert isinstance(landscape, Empirical)
        index = super().draw_pairs(landscape, stream, pair)
        count = self.batch_size * int(np.prod(_targets(landscape.data).shape[1:]))
        if self.replaced is None:
            return index, stream.normals(pair, count)
        assert self.classes is not None
        tick = 2 * pair[:, None, :] + jnp.arange(2, dtype=jnp.uint32)[:, None]
        return index, stream.replacements(tick, count, self.classes, self.replaced)

    def estimate(
        self, landscape: AbstractLandscape, theta: Float[Array, " dim"], draw: Any
    ) -> Float[Array, " dim"]:
        """Mean gradient over the minibatch with its targets changed."""
        assert isinstance(landscape, Empirical)
        index, change = draw
        inputs, targets = jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], landscape.data)
        change = change.reshape(targets.shape)
        if self.deviation is not None:
            targets = targets.astype(theta.dtype) + self.deviation * change.astype(theta.dtype)
        else:
            targets = jnp.where(change < 0, targets, change.astype(targets.dtype))
        changed = (inputs, targets)
        return jax.grad(lambda point: jnp.mean(landscape.losses_on(point, changed)))(theta)


def _targets(data: PyTree) -> Any:
    """The targets of data (inputs, targets)."""
    if not (isinstance(data, tuple | list) and len(data) == 2 and hasattr(data[1], "dtype")):
        raise InvalidArgument(
            f"data is a {type(data).__name__}; label noise needs the pair (inputs, targets), the "
            "targets one array, as network_landscape makes it"
        )
    return data[1]


def _spread_by_targets(
    landscape: Empirical, theta: Float[Array, " dim"]
) -> Float[Array, "dim dim"]:
    """``E[M^T M]`` with M the derivative of an example's gradient by its target."""

    def one(example: PyTree) -> Float[Array, "dim dim"]:
        inputs, target = jax.tree.map(lambda leaf: leaf[None], example)

        def gradient(target: Array) -> Float[Array, " dim"]:
            return jax.grad(lambda at: landscape.losses_on(at, (inputs, target))[0])(theta)

        by_target = jax.jacrev(gradient)(target).reshape(theta.size, -1)
        return by_target @ by_target.T

    data = jax.tree.map(jnp.asarray, landscape.data)
    inputs, targets = data
    pair = (inputs, targets.astype(theta.dtype))
    return jnp.mean(jax.lax.map(one, pair), axis=0)


def _is_count(classes: int) -> bool:
    return isinstance(classes, int) and not isinstance(classes, bool) and classes >= 2
