"""Finds the transforms of a data set, whoever wrote them: the callable objects that it holds."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

_DEEPEST = 8
_MOST_OBJECTS = 2_000
_MOST_ITEMS = 64  # for a list: lists of transforms are short, lists of samples are long
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, type)
_LEAVES = (str, bytes, int, float, complex, bool, torch.Tensor, torch.dtype, torch.device, type(None))


def transforms_of(dataset: Any) -> Iterator[Any]:
    """Every callable object reachable from `dataset` by attributes, lists, tuples and dicts of few items.

    Functions and lambdas do not have their own class, so their time counts for their caller.
    """
    seen: set[int] = set()
    todo: list[tuple[Any, int]] = [(dataset, 0)]
    while todo and len(seen) < _MOST_OBJECTS:
        found, depth = todo.pop()
        if id(found) in seen or isinstance(found, (*_LEAVES, *_FUNCTIONS)):
            continue
        seen.add(id(found))
        if depth > 0 and _is_transform(found):
            yield found
        if depth < _DEEPEST:
            todo.extend((part, depth + 1) for part in _parts(found))


def _is_transform(found: Any) -> bool:
    cls = type(found)
    if isinstance(found, Dataset | torch.jit.ScriptModule):
        return False
    # A class of the interpreter (partial, a built-in) cannot be observed, and its name is not informative.
    return callable(found) and cls.__module__ not in {"builtins", "functools"}


def _parts(found: Any) -> list[Any]:
    if isinstance(found, list | tuple):
        return list(found) if len(found) <= _MOST_ITEMS else []
    if isinstance(found, dict):
        return list(found.values()) if len(found) <= _MOST_ITEMS else []
    attributes = list(getattr(found, "__dict__", {}).values())
    if isinstance(found, nn.Module):
        attributes.extend(found._modules.values())
    return attributes
