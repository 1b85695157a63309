"""The classifier of a model: what timm names so, the last linear layer or two of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from fastpipe.errors import ArgumentError


def classifier_names(model: nn.Module, need: str) -> tuple[str, ...]:
    """The modules that timm calls the classifier, such as `fc`; a distilled transformer has two.

    Raises ArgumentError for a model without one. need: what it is needed for, as the end of a sentence.
    """
    cfg: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    found = cfg.get("classifier") or ()
    names = (found,) if isinstance(found, str) else tuple(found)
    modules = dict(model.named_modules())
    if not names or any(name not in modules for name in names):
        raise ArgumentError(f"timm names no classifier of {type(model).__name__}, {need}")
    return names
