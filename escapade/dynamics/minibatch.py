"""SGD as it is run: gradients of random minibatches."""

from jaxtyping import Array, Float, Int

from escapade.dynamics.gradients import Minibatches, require_examples, require_sampling
from escapade.dynamics.sampled import AbstractSampledDynamics
from escapade.landscape import AbstractLandscape
from escapade.landscape._base import positive_number


class MinibatchSGD(AbstractSampledDynamics):
    """``theta' = theta - eta * (mean gradient of a minibatch)`` on a loss over examples.

    `sampling` is one of

    * ``"with_replacement"``: independent examples;
    * ``"without_replacement"``: a fresh random subset at each step;
    * ``"shuffled_epochs"``: a new random order per epoch, walked through in batches; a last
      incomplete batch is dropped.
    """

    learning_rate: float
    batch_size: int
    sampling: str

    def __init__(self, learning_rate: float, batch_size: float, sampling: str = "with_replacement"):
        """Set learning rate, batch size (a whole number) and sampling.

        Raises:
            InvalidArgument: when a number is not positive, or the sampling is unknown.
        """
        self.learning_rate = positive_number(learning_rate, "learning_rate")
        self.batch_size = require_sampling(batch_size, sampling)
        self.sampling = sampling

    @property
    def gradients(self) -> Minibatches:
        """Minibatches."""
        return Minibatches(self.batch_size, self.sampling)

    @property
    def ticks_per_step(self) -> int:
        """One."""
        return 1

    @property
    def continuous(self) -> bool:
        """False: the state between steps does not exist."""
        return False

    def prepared(self, landscape: AbstractLandscape) -> "MinibatchSGD":
        """Itself, on a landscape with enough examples."""
        require_examples(landscape, self.gradients, "MinibatchSGD", "GaussianSGD")
        return self

    def finite_population_factor(self, landscape: AbstractLandscape) -> float:
        """Share of the variance left by drawing distinct examples, (N - B) / (N - 1); or one."""
        return self.gradients.finite_population_factor(landscape)

    def tick(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        draw: Int[Array, " batch"],
    ) -> Float[Array, " dim"]:
        """One step."""
        return theta - self.learning_rate * self.gradients.estimate(landscape, theta, draw)

    def __str__(self) -> str:
        return f"minibatch SGD ({self.sampling.replace('_', ' ')})"
