"""The loop of a DataLoader worker with the hooks around it: for fork, forkserver and spawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.data._utils import worker as torch_worker

from fastpipe.profiling.observe.recorder import Control, Recorder
from fastpipe.profiling.observe.stages import StageHooks

# Of this process: what a forked worker inherits from the main process, with hooks already in place.
_inherited: list[StageHooks] = []
_WORKER_ID = 10  # position among the arguments of torch's _worker_loop


class ObservedLoop:
    """Replaces torch's `_worker_loop`. Pickled by value, so that a spawned worker gets its fields."""

    def __init__(self, folder: Path, spans: bool, original: Any) -> None:
        self.folder = folder
        self.spans = spans
        self.loader = -1
        # torch's function is pickled by its name, and the name leads to the original in a spawned process.
        self._original = original

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "spans": self.spans, "loader": self.loader}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _original=torch_worker._worker_loop)

    def __call__(self, *args: Any) -> None:
        """Run torch's loop with torch's arguments, observed."""
        hooks = self._hooks(args)
        try:
            self._original(*args)
        finally:
            if hooks is not None:
                hooks.undo()

    def _hooks(self, args: tuple[Any, ...]) -> StageHooks | None:
        try:
            control = Control(self.folder)
            worker = int(args[_WORKER_ID])
            recorder = Recorder(self.folder, control, loader=self.loader, worker=worker, spans=self.spans)
        except (OSError, ValueError):
            return None  # the folder is gone: the run is over, and the worker continues unobserved
        if _inherited:
            hooks = _inherited[0]
            hooks.recorder = recorder
        else:
            hooks = StageHooks(recorder)
        hooks.hook_pickling()
        return hooks


def inherit(hooks: StageHooks) -> None:
    """Let workers forked from now on use `hooks`."""
    _inherited[:] = [hooks]


def disinherit() -> None:
    """Workers forked from now on find no hooks."""
    _inherited.clear()
