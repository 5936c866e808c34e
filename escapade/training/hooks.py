"""Where training loops of other frameworks call a monitor."""

import importlib
from collections.abc import Callable
from typing import Any


def lightning_callback(
    before_step: Callable[[Any], None],
    after_step: Callable[[Any, Any, int], None],
    at_end: Callable[[], None],
) -> Any:
    """A callback of whichever Lightning is installed; without one, an object of the same methods.

    `before_step` takes the optimiser: at the end of a batch schedulers have already moved its
    learning rate. `after_step` takes the trainer, the module and the number of steps done.
    """
    bases: tuple[type, ...] = ()
    for name in ("lightning.pytorch", "pytorch_lightning"):
        try:
            bases = (importlib.import_module(name).Callback,)
            break
        except ImportError:
            continue

    class MonitorCallback(*bases):  # type: ignore[misc]
        """Records after each step of the optimiser; batches that only accumulate are none."""

        def __init__(self) -> None:
            super().__init__()
            self._done = 0

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            """What the step will be made with."""
            before_step(optimizer)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any, **__: Any) -> None:
            """One step, if the optimiser has made one."""
            step = int(trainer.global_step)
            if step != self._done:
                self._done = step
                after_step(trainer, pl_module, step)

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            """Finish the files."""
            at_end()

    return MonitorCallback()
