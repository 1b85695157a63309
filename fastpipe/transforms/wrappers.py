"""Classes of a script that wrap a pipeline and do nothing else, like torchvision's reference presets.

    class ClassificationPresetTrain:
        def __init__(self, ...): self.transforms = Compose([...])
        def __call__(self, img): return self.transforms(img)

Nothing is guessed: the instructions of the compiled `__call__` must be those of this one line, and the
attribute must be a plain one. Python's rules for attributes list everything that could make it something
else.
"""

from __future__ import annotations

import inspect
from types import CodeType, FunctionType
from typing import Any

import torchvision.transforms as v1
import torchvision.transforms.v2 as v2
from torch import nn

from fastpipe.transforms.read import NotKnown, check_plain

_PIPELINES = (v1.Compose, v2.Compose, nn.Sequential)


def _one_line(self: Any, image: Any) -> Any:
    return self.attribute(image)


_MODEL = _one_line.__code__
# These change a call; the place of the definition and its __future__ imports do not.
_FLAGS = (
    inspect.CO_VARARGS
    | inspect.CO_VARKEYWORDS
    | inspect.CO_GENERATOR
    | inspect.CO_COROUTINE
    | inspect.CO_ITERABLE_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
)
_ABSENT = object()
_OBSERVED = "_fastpipe_original"  # set by profiling/observe/recorder.py
_PLAIN = inspect.getattr_static(object, "__getattribute__")


def unwrap(transform: Any) -> Any | None:
    """The pipeline whose result on the image `transform` returns; None if that is not certain."""
    if _doubt(transform) is not None:
        return None
    inner = _attributes(transform)[_attribute(transform) or ""]
    return inner if type(inner) in _PIPELINES else None


def why_opaque(transform: Any) -> str | None:
    """Why an object with a pipeline is not opened; None if it has none, or is opened."""
    held = [name for name, value in _attributes(transform).items() if type(value) in _PIPELINES]
    doubt = _doubt(transform)
    return f"it has a pipeline in {held[0]!r}, but {doubt}" if held and doubt is not None else None


def _doubt(transform: Any) -> str | None:
    """Why a call of `transform` may be more than a call of one attribute, or None."""
    name = _attribute(transform)
    if name is None:
        method = "forward" if isinstance(transform, nn.Module) else "__call__"
        return f"its {method} is not the one line `return self.attribute(image)`"
    cls = type(transform)
    try:
        check_plain(transform)
    except NotKnown as reason:
        return str(reason)
    if inspect.getattr_static(cls, "__getattribute__") is not _PLAIN:
        return "its class defines __getattribute__"
    if inspect.getattr_static(cls, name, _ABSENT) is not _ABSENT:
        return f"{name!r} is also an attribute of its class"
    if name not in _attributes(transform):
        return f"{name!r} is not a plain attribute"
    return None


def _attribute(transform: Any) -> str | None:
    """The attribute that the transform's class calls, if that is all it does."""
    function = inspect.getattr_static(type(transform), "__call__", None)
    if isinstance(transform, nn.Module):
        call = inspect.getattr_static(type(transform), "__call__")
        if getattr(call, _OBSERVED, call) is not inspect.getattr_static(nn.Module, "__call__"):
            return None
        function = inspect.getattr_static(type(transform), "forward", None)
    # A temporary wrapper of `fastpipe-profile run` changes nothing but the time.
    function = getattr(function, _OBSERVED, function)
    if not isinstance(function, FunctionType) or not _same_instructions(function.__code__):
        return None
    return str(function.__code__.co_names[0])


def _same_instructions(code: CodeType) -> bool:
    """Whether the code differs from the model's only in names. It loads no constant, so none can differ."""
    return (
        code.co_code == _MODEL.co_code
        and not code.co_flags & _FLAGS
        and (code.co_argcount, code.co_kwonlyargcount, len(code.co_names)) == (2, 0, 1)
        and not code.co_exceptiontable
    )


def _attributes(transform: Any) -> dict[str, Any]:
    own: dict[str, Any] = getattr(transform, "__dict__", {})
    return {**own.get("_modules", {}), **own} if isinstance(transform, nn.Module) else own
