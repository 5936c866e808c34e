"""What the paper's description leaves open, and what is chosen here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Opening:
    """A question that the text does not answer.

    Attributes:
        question: what is open.
        choice: what this reproduction does.
        reason: why.
    """

    question: str
    choice: str
    reason: str


OPENINGS = (
    Opening(
        "size of the network",
        "10-8-2, 96 parameters",
        "its Hessian, noise covariance and stationary law can be computed exactly, so each exit "
        "can be predicted; with the 600 000 parameters of the public code none of them fits in "
        "memory, and the minimum could not be verified",
    ),
    Opening(
        "activation and biases",
        "tanh, no biases",
        "the theory needs Lipschitz gradients and a Hessian, which rectifiers do not have",
    ),
    Opening(
        "labels and outputs",
        "parity of the copyist's letter, two outputs, half the squared distance to the one-hot "
        "label",
        "as in the data file of the public code",
    ),
    Opening(
        "coefficient of the l2 term",
        "1e-3 |theta|^2 / 2, inside the loss that is rescaled",
        "large enough that no direction is flat, small enough that the data decide",
    ),
    Opening(
        "when the training has reached a minimum",
        "SGD, then Newton steps on the full loss to a gradient norm below 1e-9",
        "a long training by full gradients stops at no definite point; this is one",
    ),
    Opening(
        "learning rate, batch size and radius",
        "0.1 to 0.2, 10 to 29, 0.4 to 0.8; sharpness times 1 to 2",
        "the factors of the public experiment's scans, from a base point where runs leave within "
        "some hundreds of steps",
    ),
    Opening(
        "distance of the ball",
        "Euclidean, over all parameters together",
        "it is the theory's; the public code sums the distances of the weight matrices",
    ),
    Opening(
        "how minibatches are drawn",
        "with replacement, inputs with their own labels",
        "steps are then independent, which the theory assumes",
    ),
    Opening(
        "start under a changed sharpness",
        "the minimum divided by sqrt(alpha)",
        "it is the minimum of L(sqrt(alpha) theta)",
    ),
    Opening(
        "runs that do not leave",
        "censored at 50 000 steps, and treated as censored",
        "the text names no cap",
    ),
)
