"""A PyTorch network, its data and its loss, as losses of a flat vector of parameters."""

import contextlib
import copy
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch.nn.attention import SDPBackend, sdpa_kernel

from escapade.errors import InvalidArgument
from escapade.landscape.selection import Choice, chosen
from escapade.landscape.torch.examples import Examples
from escapade.landscape.torch.loss import Loss, example_loss

DTYPES = {"float32": torch.float32, "float64": torch.float64}

KINKED = (
    "ReLU",
    "ReLU6",
    "LeakyReLU",
    "PReLU",
    "RReLU",
    "Hardtanh",
    "Hardswish",
    "Hardsigmoid",
    "Hardshrink",
    "Softshrink",
    "Threshold",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
)
"""Modules whose derivative jumps."""


class Network:
    """Private copies of a module, its examples and its loss: nothing of the user's is touched.

    Compared by identity.

    Attributes:
        names: of the parameters that move, in the order of ``named_parameters()``; of parameters
            that are tied, the first name.
        shapes: theirs.
        data: the examples.
        keeps_graphs: whether a graph can be differentiated after another one was built.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        loss: Loss,
        data: Examples,
        only: Choice = None,
        evaluation: bool = False,
    ):
        """Copy the module as it is, or in evaluation mode.

        Raises:
            InvalidArgument: when no parameter moves, or the module or loss does not fit the data.
        """
        named = dict(model.named_parameters())
        free = [name for name, value in named.items() if value.requires_grad]
        if not free:
            raise InvalidArgument(
                "model has no parameter with requires_grad=True; unfreeze what shall move"
            )
        kept = chosen(free, only)
        self.names = [name for name, moves in zip(free, kept, strict=True) if moves]
        self.shapes = [tuple(named[name].shape) for name in self.names]
        if any(named[name].is_complex() for name in self.names):
            raise InvalidArgument("model has complex parameters; split them into real parts")
        self.sizes = [named[name].numel() for name in self.names]
        values = [named[name].detach().double().reshape(-1).cpu() for name in self.names]
        self.initial: Float[np.ndarray, " dim"] = torch.cat(values).numpy()
        self.data = data
        self.device = named[self.names[0]].device
        self._copy = _deep_copy(model)
        if evaluation:
            self._copy.eval()
        self._scripted = any(isinstance(m, torch.jit.ScriptModule) for m in model.modules())
        self.keeps_graphs = not self._scripted
        shared = {id(value): name for name, value in named.items()}
        self._places = [
            (name, shared[id(value)])
            for name, value in model.named_parameters(remove_duplicate=False)
            if shared[id(value)] in self.names
        ]
        self._modules: dict[torch.dtype, torch.nn.Module] = {}
        self._loss = loss
        self._losses: dict[torch.dtype, Any] = {}
        self._footprints: dict[torch.dtype, tuple[float, float]] = {}
        self._prepare(torch.float64)

    @property
    def dim(self) -> int:
        """Number of parameters that move."""
        return self.initial.size

    @property
    def title(self) -> str:
        """Name of the module's class."""
        return type(self._copy).__name__

    @property
    def kinks(self) -> list[str]:
        """Names of modules whose derivative jumps, such as ReLU."""
        modules = self._copy.named_modules()
        return [name for name, module in modules if type(module).__name__ in KINKED]

    @property
    def modules_of_batches(self) -> list[str]:
        """Names of modules that take statistics from each batch, whatever their mode."""
        kind = torch.nn.modules.batchnorm._NormBase
        modules = self._copy.named_modules()
        return [name for name, m in modules if isinstance(m, kind) and not m.track_running_stats]

    def on(self, index: Int[np.ndarray, " examples"]) -> "Network":
        """The same network on some of its examples, with copies of its own of the module."""
        other = copy.copy(self)
        rows = torch.from_numpy(np.asarray(index)).to(self.device)
        inputs, targets = self.data.arranged(self.data.take(rows, torch.float64))
        other.data = Examples(inputs, targets, self.device)
        other._modules, other._losses, other._footprints = {}, {}, {}
        return other

    def follow(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over buffers, and parameters that do not move, from the module's state by name."""
        moving = set(self.names)
        with torch.no_grad():
            for module in self._modules.values():
                for name, value in module.state_dict(keep_vars=True).items():
                    if name in state and name not in moving:
                        value.copy_(state[name])

    def named(self, theta: torch.Tensor) -> dict[str, torch.Tensor]:
        """The parameters by name, given as one flat vector."""
        parts = theta.split(self.sizes)
        return {
            name: part.view(shape)
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }

    def losses(self, theta: torch.Tensor, leaves: list[torch.Tensor]) -> torch.Tensor:
        """Loss of each of some examples, as taken from the data, in the precision of theta."""
        inputs, targets = self.data.arranged(leaves)
        loss = self._losses[theta.dtype]
        return loss(self._outputs(theta, inputs), targets)

    def prepare(self, dtype: torch.dtype) -> None:
        """Copies in a precision, before the first use of it."""
        if dtype not in self._losses:
            self._prepare(dtype)

    def footprint(self, dtype: torch.dtype) -> tuple[float, float]:
        """Bytes that the graph of a gradient keeps: in all, and for each example.

        Measured on two small batches.
        """
        if dtype not in self._footprints:
            self.prepare(dtype)
            few = min(4, self.data.count)
            small, large = self._graph_bytes(few, dtype), self._graph_bytes(2 * few, dtype)
            each = max((large - small) / few, 1.0)
            self._footprints[dtype] = max(small - few * each, 0.0), each
        return self._footprints[dtype]

    def _graph_bytes(self, count: int, dtype: torch.dtype, twice: bool = False) -> int:
        index = torch.arange(count, device=self.device).remainder(self.data.count)
        leaves = self.data.take(index, dtype)
        theta = torch.from_numpy(self.initial).to(self.device, dtype).requires_grad_()
        given = [theta, *leaves, *self._modules[dtype].parameters()]
        known = {tensor.untyped_storage().data_ptr() for tensor in given}
        held: dict[int, torch.UntypedStorage] = {}  # holding them keeps addresses from coming back

        def note(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in known:
                held[storage.data_ptr()] = storage
            return tensor

        keeping = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
        with computing(dtype), keeping:
            total = self.losses(theta, leaves).mean()
            if total.requires_grad:
                (slope,) = torch.autograd.grad(total, theta, create_graph=True)
                if twice and slope.requires_grad:
                    torch.autograd.grad(slope.sum(), theta)
        return sum(storage.nbytes() for storage in held.values())

    def _prepare(self, dtype: torch.dtype) -> None:
        self._modules[dtype] = _cast(_deep_copy(self._copy), dtype, not self._scripted)
        few = slice(0, min(4, self.data.count))
        inputs, targets = self.data.arranged(self.data.take(few, dtype))
        theta = torch.from_numpy(self.initial).to(self.device, dtype)
        with computing(dtype), torch.no_grad():
            try:
                outputs = self._outputs(theta, inputs)
            except Exception as error:
                raise InvalidArgument(
                    f"model does not accept the inputs of the data ({_first_line(error)})"
                ) from error
            self._losses[dtype] = example_loss(self._loss, outputs, targets, dtype)

    def check_derivatives(self) -> None:
        """Make sure that the losses of a few examples can be differentiated twice.

        Activations that are computed again (checkpoints) look for the parameters in the module;
        such networks are given theirs for good, one point at a time, and keep no graphs.

        Raises:
            InvalidArgument: when they cannot.
        """
        try:
            once = self._differentiable_once()
            if once is not None:
                raise RuntimeError(f"{once} is once_differentiable")
            self._graph_bytes(min(2, self.data.count), torch.float64, twice=True)
        except Exception as error:  # whatever the user's module raises
            if not self.keeps_graphs:
                raise InvalidArgument(
                    f"model cannot be differentiated twice ({_first_line(error)}); replace the "
                    "operation, or give its autograd.Function a differentiable backward"
                ) from error
            self.keeps_graphs = False
            self.check_derivatives()

    def _differentiable_once(self) -> str | None:
        """Name of a function in the graph whose second derivative PyTorch silently leaves out."""
        theta = torch.from_numpy(self.initial).to(self.device).requires_grad_()
        with computing(theta.dtype):
            total = self.losses(theta, self.data.take(slice(0, 1), theta.dtype)).sum()
        waiting, seen = [total.grad_fn], set()
        while waiting:
            node: Any = waiting.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            waiting.extend(following for following, _ in node.next_functions)
            function = getattr(node, "_forward_cls", None)
            if function is not None and function.backward.__code__ is _ONCE:
                return function.__name__
        return None

    def _outputs(self, theta: torch.Tensor, inputs: Any) -> Any:
        module, parameters = self._modules[theta.dtype], self.named(theta)
        args: tuple[Any, ...] = ()
        kwargs: dict[str, Any] = {}
        if isinstance(inputs, dict):
            kwargs = inputs
        else:
            args = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
        if not self.keeps_graphs:
            for place, name in self._places:
                _assign(module, place, parameters[name])
            return module(*args, **kwargs)
        return torch.func.functional_call(module, parameters, args, kwargs)


_ONCE = torch.autograd.function.once_differentiable(lambda ctx: None).__code__
_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def computing(dtype: torch.dtype) -> Iterator[None]:
    """Everything a forward pass creates in one precision, and differentiable to any order.

    These settings belong to the process, so threads take turns.
    """
    with _ONE_AT_A_TIME:
        before, fast = torch.get_default_dtype(), torch.backends.mha.get_fastpath_enabled()
        torch.set_default_dtype(dtype)
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            # Only the plain attention kernel can be differentiated twice.
            with sdpa_kernel(SDPBackend.MATH):
                yield
        finally:
            torch.set_default_dtype(before)
            torch.backends.mha.set_fastpath_enabled(fast)


def _deep_copy(model: torch.nn.Module) -> torch.nn.Module:
    # Weight normalisation leaves computed tensors in the module, which refuse to be copied.
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    with torch.no_grad():
        return copy.deepcopy(model, memo)


def _cast(model: torch.nn.Module, dtype: torch.dtype, freeze: bool) -> torch.nn.Module:
    model = model.to(dtype)
    for module in model.modules() if freeze else ():
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                vars(module)[name] = value.detach().to(dtype)
    if freeze:
        model.requires_grad_(False)
    return model


def _assign(module: torch.nn.Module, place: str, value: torch.Tensor) -> None:
    """Put a tensor that depends on others where a module has a parameter."""
    *path, leaf = place.split(".")
    for part in path:
        module = getattr(module, part)
    if isinstance(module, torch.jit.ScriptModule):
        module._c.setattr(leaf, value)
    else:
        module._parameters.pop(leaf, None)
        setattr(module, leaf, value)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
