"""Derivatives around one point from graphs that are kept, as far as memory allows."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float

from escapade.landscape.torch.network import DTYPES, Network, computing

_WORKING = 2.0**26
"""Bytes of one chunk's graph: larger chunks leave the cache without being faster."""


class _Chunk:
    """The graph of ``sum_i u_i g_i`` on a chunk of the examples, at weights 1/N.

    Differentiating it once along v, in theta and in u, gives ``H v`` and ``g_i . v``.
    """

    def __init__(self, network: Network, theta: torch.Tensor, examples: slice):
        leaves = network.data.take(examples, theta.dtype)
        self.theta = theta
        self.losses = network.losses(theta, leaves)
        self.weights = torch.full_like(self.losses, 1 / network.data.count, requires_grad=True)
        total = (self.weights * self.losses).sum()
        self.gradient = torch.autograd.grad(
            total, theta, create_graph=True, materialize_grads=True
        )[0]


class Kept:
    """Losses of all examples around one point, in chunks.

    Attributes:
        theta: the point.
        precision: "float32" or "float64".
        kept: number of chunks whose graphs stay in memory; the others are computed anew.
        chunks: number of chunks.
    """

    def __init__(
        self, network: Network, theta: Float[np.ndarray, " dim"], precision: str, memory: float
    ):
        """Evaluate losses and gradient.

        Args:
            network: the network and its data.
            theta: the point.
            precision: of everything.
            memory: bytes that graphs may take.
        """
        self.precision = precision
        self.theta = np.array(theta, precision)
        self._network = network
        self._dtype = DTYPES[precision]
        network.prepare(self._dtype)
        count = network.data.count
        fixed, each = network.footprint(self._dtype)
        working = min(memory / 2, _WORKING)
        size = int(np.clip((working - fixed) / each, 1, count))
        self._slices = [slice(i, min(i + size, count)) for i in range(0, count, size)]
        self.chunks = len(self._slices)
        self.kept = 0
        if network.keeps_graphs:
            self.kept = int(min(self.chunks, memory // (fixed + each * size)))
        self._point = torch.from_numpy(self.theta).to(network.device).requires_grad_()
        self._graphs: list[_Chunk] = []
        losses, gradients = [], np.zeros(network.dim)
        for chunk in self._walk():
            losses.append(_host(chunk.losses))
            gradients += _host(chunk.gradient)
        self.example_losses: Float[np.ndarray, " examples"] = np.concatenate(losses)
        self.gradient: Float[np.ndarray, " dim"] = gradients.astype(precision)

    def hessian_product(self, vector: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " dim"]:
        """``H v``: one reverse pass over the graph of the gradient."""
        direction = self._tensor(vector)
        return self._summed(lambda chunk: _backward(chunk.gradient, chunk.theta, direction))

    def example_slopes(self, vector: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " examples"]:
        """``g_i . v``: the same graph, differentiated in the weights."""
        direction = self._tensor(vector)
        return self._joined(lambda chunk: _backward(chunk.gradient, chunk.weights, direction))

    def pull(self, weights: Float[np.ndarray, " examples"]) -> Float[np.ndarray, " dim"]:
        """``sum_i w_i g_i``: one reverse pass over the losses."""
        own = self._tensor(weights).split([s.stop - s.start for s in self._slices])
        parts = iter(own)
        return self._summed(lambda chunk: _backward(chunk.losses, chunk.theta, next(parts)))

    def example_curvatures(
        self, vector: Float[np.ndarray, " dim"]
    ) -> Float[np.ndarray, " examples"]:
        """``v^T H_i v``: derivative in the weights of ``v^T H v``."""
        direction = self._tensor(vector)

        def curvatures(chunk: _Chunk) -> torch.Tensor:
            product = _backward(chunk.gradient, chunk.theta, direction, create_graph=True)
            return _backward(product, chunk.weights, direction)

        return self._joined(curvatures)

    def _walk(self) -> Iterator[_Chunk]:
        for number, examples in enumerate(self._slices):
            with computing(self._dtype):
                if number < len(self._graphs):
                    chunk = self._graphs[number]
                else:
                    chunk = _Chunk(self._network, self._point, examples)
                    if number < self.kept:
                        self._graphs.append(chunk)
                yield chunk

    def _summed(self, part: Callable[[_Chunk], torch.Tensor]) -> np.ndarray:
        total = np.zeros(self._network.dim)
        for chunk in self._walk():
            total += _host(part(chunk))
        return total.astype(self.precision)

    def _joined(self, part: Callable[[_Chunk], torch.Tensor]) -> np.ndarray:
        return np.concatenate([_host(part(chunk)) for chunk in self._walk()])

    def _tensor(self, vector: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(vector, self.precision)).to(self._network.device)


def _backward(
    outputs: torch.Tensor, inputs: torch.Tensor, vector: torch.Tensor, create_graph: bool = False
) -> torch.Tensor:
    if not outputs.requires_grad:
        return torch.zeros_like(inputs)
    return torch.autograd.grad(
        outputs,
        inputs,
        vector,
        retain_graph=True,
        create_graph=create_graph,
        materialize_grads=True,
    )[0]


def _host(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
