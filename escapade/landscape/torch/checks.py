"""Whether a network gives each example one loss, the same each time and whoever is beside it."""

import torch

from escapade.errors import InvalidArgument
from escapade.landscape.torch.network import Network, computing

_PROBED = 8


def refuse_training_mode(model: torch.nn.Module) -> None:
    """Make sure that no module draws at random or takes its statistics from the batch.

    Raises:
        InvalidArgument: when one does, naming it.
    """
    random = [name for name, module in model.named_modules() if _differs_in_training(module)]
    if random:
        raise InvalidArgument(
            f"model is in training mode, in which {_listed(random)} would make the loss random or "
            "dependent on the batch; call model.eval() first, or give frozen_statistics=True to "
            "evaluate a copy in that mode"
        )


def probe(network: Network) -> None:
    """Compute a few losses twice, together and apart.

    Raises:
        InvalidArgument: when they differ, or are not finite.
    """
    count = network.data.count
    few = torch.arange(min(_PROBED, count), device=network.device)
    together, again = _losses(network, few), _losses(network, few)
    if not torch.equal(together.isfinite(), torch.ones_like(together, dtype=torch.bool)):
        bad = (~together.isfinite()).nonzero()[:, 0].tolist()
        raise InvalidArgument(
            f"loss is NaN or infinite at the model's parameters for examples {bad}; load the "
            "trained checkpoint, or check these inputs and targets"
        )
    if not torch.equal(together, again):
        raise InvalidArgument(
            "model gives the same batch two different losses; something in it is random "
            "(functional.dropout without training=self.training?): switch it off"
        )
    # Half of them, in reverse: batch statistics do not notice an order alone.
    half = few[: (len(few) + 1) // 2].flip(0)
    apart = _losses(network, half)
    if not torch.allclose(apart, together[half], rtol=1e-6, atol=1e-9):
        batched = network.modules_of_batches
        named = f" ({_listed(batched)})" if batched else ""
        raise InvalidArgument(
            "model gives an example another loss in another batch, so its losses are no mean over "
            f"examples; something in it uses statistics of the batch{named}: use running "
            "statistics (track_running_stats=True and model.eval()), or normalise over channels"
        )


def _losses(network: Network, index: torch.Tensor) -> torch.Tensor:
    theta = torch.from_numpy(network.initial).to(network.device)
    with computing(torch.float64), torch.no_grad():
        return network.losses(theta, network.data.take(index, torch.float64))


def _differs_in_training(module: torch.nn.Module) -> bool:
    if not module.training:
        return False
    if isinstance(module, torch.nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, (torch.nn.modules.rnn.RNNBase, torch.nn.MultiheadAttention)):
        return module.dropout > 0
    if isinstance(module, torch.nn.modules.instancenorm._InstanceNorm):
        return module.track_running_stats
    return isinstance(module, (torch.nn.modules.batchnorm._BatchNorm, torch.nn.RReLU))


def _listed(names: list[str]) -> str:
    shown = ", ".join(name or "the model itself" for name in names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
