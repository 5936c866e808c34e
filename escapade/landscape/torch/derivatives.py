"""Losses of examples and their derivatives of any order, for one replica or many."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from escapade.landscape.torch.kept import Kept
from escapade.landscape.torch.network import Network, computing
from escapade.landscape.torch.tracing import record

MEMORY = 2.0**28
"""Bytes that one pass over examples and replicas may hold."""

TOGETHER = 2**15
"""Largest number of parameters at which replicas are computed side by side: above, one network
keeps a core busy, and stacked weights only leave its cache."""


RECORDED = 8
"""Replicas from which on a minibatch step is recorded: recording takes as long as many steps."""


class Derivatives:
    """The operator behind every value that the engine asks of a network.

    With the losses l_i, weights w and directions v_1 .. v_k it gives one of

    * by example: ``D^k l_i [v_1, .., v_k]`` for each i;
    * else: ``sum_i w_i D^(k+1) l_i [v_1, .., v_k, .]``, a vector of `dim` numbers.

    These are closed under differentiation and transposition. Every operand has a leading axis of
    replicas, of length one where all replicas share it.
    """

    def __init__(self, network: Network):
        self.network = network
        self._recorded: dict[Any, Callable[..., torch.Tensor] | None] = {}
        self._side_by_side: dict[torch.dtype, bool] = {}
        self._kept: Kept | None = None

    def __call__(
        self,
        by_example: bool,
        theta: Float[np.ndarray, "#lanes dim"],
        index: Int[np.ndarray, "#lanes batch"] | None,
        weights: Float[np.ndarray, "#lanes batch"] | None,
        directions: Sequence[Float[np.ndarray, "#lanes dim"]],
    ) -> Float[np.ndarray, "lanes result"]:
        """One value for each replica; all examples without an index."""
        operands = [theta, index, weights, *directions]
        lanes = max(len(operand) for operand in operands if operand is not None)
        precision = str(theta.dtype)
        whole = index is None
        if whole and lanes == 1 and len(directions) == 1 and _equal(weights):
            kept = self._around(theta[0], precision)
            if by_example:
                return kept.example_slopes(directions[0][0])[None]
            share = weights[0, 0] * weights.shape[1] if weights is not None else 1.0
            return (share * kept.hessian_product(directions[0][0]))[None].astype(theta.dtype)
        point = self._tensor(theta)
        self.network.prepare(point.dtype)
        if lanes == len(theta) >= RECORDED and not directions and _equal(weights):
            result = self._replay(by_example, point, None if index is None else self._tensor(index))
            if result is not None:
                if weights is not None and not by_example:
                    result = result * (float(weights[0, 0]) * weights.shape[1])
                return result.cpu().numpy()
        with computing(point.dtype):
            result = self._pass(
                by_example,
                lanes,
                point,
                None if index is None else self._tensor(index),
                None if weights is None else self._tensor(weights),
                [self._tensor(direction) for direction in directions],
            )
        return result.detach().cpu().numpy()

    def _around(self, theta: Float[np.ndarray, " dim"], precision: str) -> Kept:
        """The last point asked for is kept: linear solvers ask for many products at one."""
        kept = self._kept
        if kept is None or kept.precision != precision or not np.array_equal(kept.theta, theta):
            self._kept = None  # give its memory back first
            self._kept = kept = Kept(self.network, theta, precision, MEMORY)
        return kept

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(array)).to(self.network.device)

    def _pass(
        self,
        by_example: bool,
        lanes: int,
        theta: torch.Tensor,
        index: torch.Tensor | None,
        weights: torch.Tensor | None,
        directions: list[torch.Tensor],
    ) -> torch.Tensor:
        """In groups of replicas and chunks of examples that fit the memory."""
        network = self.network
        moving = len(theta) > 1 or (index is not None and len(index) > 1)
        together = moving and lanes > 1 and self._stacks(theta.dtype)
        count = network.data.count if index is None else index.shape[1]
        fixed, each = network.footprint(theta.dtype)
        chunk = count if index is not None else int(np.clip(MEMORY / each, 1, count))
        width = 1
        if together:
            width = int(np.clip(MEMORY / (each * chunk + fixed), 1, lanes))
        elif not moving:
            width = lanes
        results = []
        for first in range(0, lanes, width):
            group = slice(first, min(first + width, lanes))
            part = [_lanes_of(operand, group) for operand in (theta, index, weights, *directions)]
            total: torch.Tensor | None = None
            pieces = []
            for start in range(0, count, chunk):
                examples = slice(start, min(start + chunk, count))
                value = self._one(by_example, group, count, examples, part, together)
                if by_example:
                    pieces.append(value)
                else:
                    total = value if total is None else total.add_(value)
            results.append(torch.cat(pieces, 1) if total is None else total)
        return torch.cat(results) if len(results) > 1 else results[0]

    def _one(
        self,
        by_example: bool,
        group: slice,
        count: int,
        examples: slice,
        operands: list[Any],
        together: bool,
    ) -> torch.Tensor:
        """One group of replicas on one chunk of examples."""
        theta, index, weights, *directions = operands
        lanes = group.stop - group.start
        dtype, device = theta.dtype, theta.device
        leaves = self.network.data.take(examples if index is None else index, dtype)
        if weights is None:
            weights = torch.full((1, count), 1 / count, dtype=dtype, device=device)
        weights = weights[:, examples]
        shared = index is None or len(index) == 1
        if index is not None and shared:
            leaves = [leaf[0] for leaf in leaves]
        if together:
            axis = None if shared else 0
            stacked = theta.expand(lanes, -1)
            losses = torch.func.vmap(self.network.losses, in_dims=(0, axis))
            return _differentiated(
                by_example, lambda t: losses(t, leaves), stacked, weights, directions
            )
        if not shared:
            leaves = [leaf[0] for leaf in leaves]

        def single(point: torch.Tensor) -> torch.Tensor:
            return self.network.losses(point[0], leaves)[None]

        return _differentiated(by_example, single, theta, weights, directions)

    def _stacks(self, dtype: torch.dtype) -> bool:
        """Whether replicas can be computed side by side, found by trying it on two."""
        if dtype not in self._side_by_side:
            network = self.network
            fits = network.dim <= TOGETHER
            self._side_by_side[dtype] = fits and _agrees_stacked(network, dtype)
        return self._side_by_side[dtype]

    def _replay(
        self, by_example: bool, theta: torch.Tensor, index: torch.Tensor | None
    ) -> torch.Tensor | None:
        """Losses or mean gradients of many replicas: the hot path of every ensemble.

        None where it cannot be recorded, or does not fit the memory in one piece.
        """
        fixed, each = self.network.footprint(theta.dtype)
        key = (by_example, theta.dtype, theta.shape, None if index is None else index.shape)
        if key not in self._recorded:
            self._recorded[key] = None
            size = self.network.data.count if index is None else index.shape[1]
            fits = len(theta) * (fixed + each * size) <= MEMORY
            if fits and self._stacks(theta.dtype):
                arguments = [theta] if index is None else [theta, index]
                with computing(theta.dtype):
                    self._recorded[key] = _recorded(
                        lambda *given: self._stacked(by_example, *given), arguments
                    )
        recording = self._recorded[key]
        if recording is None:
            return None
        with torch.no_grad():
            return recording(theta) if index is None else recording(theta, index)

    def _stacked(
        self, by_example: bool, theta: torch.Tensor, index: torch.Tensor | None = None
    ) -> torch.Tensor:
        leaves = self.network.data.take(slice(None) if index is None else index, theta.dtype)
        losses = torch.func.vmap(self.network.losses, in_dims=(0, None if index is None else 0))
        if by_example:
            return losses(theta, leaves)
        theta = theta.detach().requires_grad_()
        values = losses(theta, leaves)
        if not values.requires_grad:
            return torch.zeros_like(theta)
        # Made of sizes alone, so that a recording sees a constant.
        lanes, size = values.shape
        weights = torch.full((lanes, size), 1 / size, dtype=values.dtype, device=values.device)
        return torch.autograd.grad(values, theta, weights, materialize_grads=True)[0]


def _differentiated(
    by_example: bool,
    losses: Callable[[torch.Tensor], torch.Tensor],
    theta: torch.Tensor,
    weights: torch.Tensor,
    directions: list[torch.Tensor],
) -> torch.Tensor:
    """Repeated reverse passes: replicas do not interact, so their sum serves them all.

    Where theta is shared and only weights or directions differ, one graph serves every replica.
    """
    if by_example and not directions:
        with torch.no_grad():
            return losses(theta)
    theta = theta.detach().requires_grad_()
    values = losses(theta)
    lanes = max(len(weights), *(len(v) for v in directions), len(values))
    if by_example:
        weights = torch.ones_like(values, requires_grad=True)
    target = weights if by_example else theta
    if lanes == len(values):
        return _reverse((weights * values).sum(), theta, target, directions)
    fixed = [v for v in directions if len(v) == 1]
    varying = [v for v in directions if len(v) > 1]
    rows = []
    shared = (weights * values).sum() if len(weights) == 1 else None
    if shared is not None:
        for direction in fixed:
            shared = (_slope(shared, theta) * direction).sum()
        fixed = []
        slope = _slope(shared, theta) if varying else None
    for lane in range(lanes):
        along = fixed + [v[lane : lane + 1] for v in varying]
        if shared is None:
            total = (weights[lane] * values[0]).sum()
        elif slope is None:
            total = shared
        else:
            total, along = (slope * along[0]).sum(), along[1:]
        rows.append(_reverse(total, theta, target, along))
    return torch.cat(rows)


def _reverse(
    total: torch.Tensor, theta: torch.Tensor, target: torch.Tensor, directions: list[torch.Tensor]
) -> torch.Tensor:
    for direction in directions:
        total = (_slope(total, theta) * direction).sum()
    if not total.requires_grad:
        return torch.zeros_like(target)
    gradient = torch.autograd.grad(total, target, retain_graph=True, materialize_grads=True)[0]
    return gradient.detach()


def _slope(total: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """Gradient that can be differentiated again; zero where the loss is linear."""
    if not total.requires_grad:
        return torch.zeros_like(theta)
    return torch.autograd.grad(total, theta, create_graph=True, materialize_grads=True)[0]


def _agrees_stacked(network: Network, dtype: torch.dtype) -> bool:
    """Whether two stacked replicas give what each gives alone."""
    generator = torch.Generator().manual_seed(0)
    start = torch.from_numpy(network.initial)
    kick = torch.randn(2, network.dim, generator=generator, dtype=torch.float64)
    theta = (start + 1e-2 * kick).to(network.device, dtype)
    index = torch.arange(4).remainder(network.data.count).view(2, 2).to(network.device)
    leaves = network.data.take(index, dtype)
    weights = torch.ones((2, 2), dtype=dtype, device=network.device)

    def alone(lane: int) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda t: network.losses(t[0], [leaf[lane] for leaf in leaves])[None]

    stacked = torch.func.vmap(network.losses)
    for by_example in (True, False):
        try:
            both = _differentiated(by_example, lambda t: stacked(t, leaves), theta, weights, [])
        except Exception:  # whatever a user's module raises under vmap
            return False
        for lane in range(2):
            own = slice(lane, lane + 1)
            one = _differentiated(by_example, alone(lane), theta[own], weights[own], [])
            if not _close(both[own], one):
                return False
    return True


def _recorded(
    run: Callable[..., torch.Tensor], arguments: list[torch.Tensor]
) -> Callable[..., torch.Tensor] | None:
    """A recording that agrees with the function on other parameters and examples, or None."""
    theta, *index = arguments
    others = [1.01 * theta, *(chosen.flip(0) for chosen in index)]
    try:
        recording = record(run, arguments)
        with torch.no_grad():
            replayed = recording(*others)
    except Exception:  # what cannot be recorded is computed without
        return None
    return recording if _close(replayed, run(*others)) else None


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    scale = float(b[torch.isfinite(b)].abs().max()) if torch.isfinite(b).any() else 0.0
    slack = 1e-4 if b.dtype == torch.float32 else 1e-10
    return torch.allclose(a, b, rtol=slack, atol=slack * scale, equal_nan=True)


def _lanes_of(operand: torch.Tensor | None, group: slice) -> torch.Tensor | None:
    return operand if operand is None or len(operand) == 1 else operand[group]


def _equal(weights: Float[np.ndarray, "#lanes batch"] | None) -> bool:
    return weights is None or bool(np.all(weights == weights[0, 0]))
