"""Names of backends and their modules. A backend is imported only when it is requested."""

from __future__ import annotations

import importlib
from typing import cast

from fastpipe.backends.base import Backend
from fastpipe.errors import ArgumentError

__all__ = ["BACKENDS", "load"]

BACKENDS: dict[str, str] = {
    "torchvision": "fastpipe.backends.torchvision:TorchvisionBackend",
    "turbo": "fastpipe.backends.turbo.backend:TurboBackend",
    "ffcv": "fastpipe.backends.ffcv.backend:FfcvBackend",
    "dali": "fastpipe.backends.dali.backend:DaliBackend",
}


def load(name: str) -> Backend:
    """The backend of this name. An ArgumentError lists the known names."""
    if name not in BACKENDS:
        allowed = ", ".join(repr(known) for known in BACKENDS)
        raise ArgumentError(f"backend must be 'auto', 'torch' or one of {allowed}. Found: {name!r}")
    module, attribute = BACKENDS[name].split(":")
    return cast("Backend", getattr(importlib.import_module(module), attribute)())
