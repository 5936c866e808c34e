"""What a batch of runs keeps on disk: enough to go on after an interruption, bit for bit."""

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Int

from escapade.dynamics._base import halves, position
from escapade.errors import InvalidArgument
from escapade.exits.rare.branching import Generation, Pieces
from escapade.exits.rare.walkers import Problem, Walkers, noise_ahead, walkers_at

FORMAT = 2
"""Files of another format are taken for those of another calculation."""

Saved = tuple[Float[np.ndarray, " runs"], Generation, int, Pieces | None]


class Store:
    """The file of one batch in a folder; without a folder, nothing is kept."""

    def __init__(
        self,
        folder: str | Path | None,
        problem: Problem,
        plan: Any,
        names: Int[np.ndarray, " runs"],
        seed: int,
    ):
        self.path = None
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.path = Path(folder) / f"runs-{names[0]:05d}-{names[-1]:05d}.npz"
            nobody = np.zeros(2, np.uint32), np.zeros(1, np.int64)
            self.example = walkers_at(problem.state_at(problem.escape.start), *nobody, 1)
            self.identity = _identity(problem, plan, seed, self.example)

    def load(self) -> Saved | None:
        """What was saved, or None.

        Raises:
            InvalidArgument: when the file is of another calculation, or damaged.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            with np.load(self.path) as file:
                data = dict(file)
        except Exception as error:
            raise InvalidArgument(
                f"checkpoint file {self.path} cannot be read ({error}); delete it"
            ) from error
        if str(data["identity"]) != self.identity:
            raise InvalidArgument(
                f"checkpoint {self.path.parent} holds another calculation (another escape, key or "
                "option); give an empty folder"
            )
        now = Generation(
            self._walkers(data, "start"),
            data["end"],
            data["end_tick"],
            data["peak"],
            data["log_share"],
            data["next_replica"],
            int(data["iteration"]),
        )
        pieces = None
        if "pieces_run" in data:
            begun = self._walkers(data, "pieces")
            pieces = Pieces([data["pieces_run"]], [data["pieces_ancestor"]], [begun])
        return data["fluxes"], now, int(data["ticks"]), pieces

    def save(
        self,
        fluxes: Float[np.ndarray, " runs"],
        now: Generation,
        ticks: int,
        pieces: Pieces | None,
    ) -> None:
        """Replace the file at one stroke."""
        if self.path is None:
            return
        data = {
            "identity": np.array(self.identity),
            "fluxes": fluxes,
            "ticks": np.array(ticks),
            "end": now.end,
            "end_tick": now.end_tick,
            "peak": now.peak,
            "log_share": now.log_share,
            "next_replica": now.next_replica,
            "iteration": np.array(now.iteration),
        }
        data |= _named(now.start, "start")
        if pieces is not None:
            data["pieces_run"] = np.concatenate(pieces.run)
            data["pieces_ancestor"] = np.concatenate(pieces.ancestor)
            begun = jax.tree.map(lambda *parts: np.concatenate(parts, axis=-1), *pieces.start)
            data |= _named(begun, "pieces")
        unfinished = self.path.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.savez(file, allow_pickle=False, **data)
        os.replace(unfinished, self.path)

    def _walkers(self, data: dict[str, np.ndarray], prefix: str) -> Walkers[np.ndarray]:
        leaves = [data[name] for name in _named(self.example, prefix)]
        return jax.tree.unflatten(jax.tree.structure(self.example), leaves)


def _named(walkers: Walkers[np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Every array of some walkers by a name."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(walkers)
    return {prefix + jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _identity(problem: Problem, plan: Any, seed: int, example: Walkers[np.ndarray]) -> str:
    """Fingerprint of what decides the result: all numbers, and the program of one tick.

    Functions are compared by what they compute, written out by JAX with all constants: names would
    not tell two lambdas apart.
    """
    digest = hashlib.sha256(f"{FORMAT} {seed} {plan}".encode())
    for leaf in jax.tree.leaves(problem):
        if eqx.is_array(leaf) or isinstance(leaf, np.ndarray):
            _add(digest, leaf)

    def tick(walker: Walkers[Array]) -> Any:
        dynamics, landscape = problem.escape.dynamics, problem.escape.landscape
        pair = noise_ahead(dynamics, landscape, walker, walker.tick[None] // 2)
        even, _ = halves(jax.tree.map(lambda leaf: leaf[0], pair))
        moved, _ = jax.vmap(problem.tick, in_axes=-1, out_axes=-1)(walker.state, even)
        return moved, jax.vmap(problem.progress, in_axes=-1)(position(moved))

    program = jax.make_jaxpr(tick)(example)
    # Addresses of objects differ from process to process.
    digest.update(re.sub(r"0x[0-9a-f]+", "", str(program.jaxpr)).encode())
    for constant in program.consts:
        _add(digest, constant)
    return digest.hexdigest()


def _add(digest: Any, numbers: Any) -> None:
    array = np.ascontiguousarray(numbers)
    digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
