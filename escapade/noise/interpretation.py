"""Where in a step multiplicative noise is evaluated.

``dX = b dt + eps sigma(X at t + a dt) dW``, with sigma the symmetric root of C, has an Ito drift
that is larger by a term of order ``a eps^2``. SGD draws its minibatch at the current point, which
is Ito, ``a = 0``. The quasipotential does not depend on it, the prefactor does.
"""

from escapade.errors import InvalidArgument

INTERPRETATIONS = {"ito": 0.0, "stratonovich": 0.5, "anti_ito": 1.0}
"""Part a of a step after which the noise is evaluated, by name."""


def interpretation_weight(interpretation: str) -> float:
    """The part a of an interpretation given by the user.

    Raises:
        InvalidArgument: when it is none of `INTERPRETATIONS`.
    """
    if interpretation not in INTERPRETATIONS:
        raise InvalidArgument(
            f"interpretation is {interpretation!r}; choose one of {', '.join(INTERPRETATIONS)}"
        )
    return INTERPRETATIONS[interpretation]
