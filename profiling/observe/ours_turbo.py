"""Hooks for the native calls of the backend turbo, which say themselves how long they read and resized."""

from __future__ import annotations

import sys
from typing import Any

from fastpipe.profiling.observe.calls import current, marked, raw
from fastpipe.profiling.observe.patches import Patches

_CALLS = ("_native", "_image")  # a chunk of images, and one image


def hook_turbo(patches: Patches) -> None:
    """Observe the backend's native calls, if a loader uses it: one call becomes three stages."""
    assembly = getattr(sys.modules.get("fastpipe.backends.turbo.batch"), "Assembly", None)
    for name in _CALLS if assembly is not None else ():
        original = getattr(assembly, name)
        if raw(original) is original:
            patches.set(assembly, name, marked(_split(original), original))


def _split(original: Any) -> Any:
    """Decoding includes the horizontal pass of the resize, which runs while rows arrive."""

    def observed(assembly: Any, *args: Any) -> Any:
        calls = current()
        if calls is None:
            return original(assembly, *args)
        assembly.worker.seconds()  # of calls before this one
        made = calls.measure("decode", original, (assembly, *args), {})
        read, _, resize = assembly.worker.seconds()
        calls.move("decode", {"read": read, "crop+resize": resize})
        return made

    return observed
