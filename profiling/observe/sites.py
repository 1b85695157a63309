"""The line of the script that made a loader, and a unique name derived from it."""

from __future__ import annotations

import ast
import linecache
import os
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from types import FrameType
from typing import Any, Final

import torch

import fastpipe
from fastpipe import profiling

_MOST = 6  # frames kept, since helpers may make loaders
_STANDARD: Final = os.path.realpath(sysconfig.get_paths()["stdlib"]) + os.sep
_INSTALLED: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A line of a file, and the position of the call in it."""

    file: str
    line: int
    column: int | None


def sites_of(loader: Any) -> tuple[Site, ...]:
    """The script's lines that led to this call, the innermost first.

    A library's own lines are left out if any line of the script is among them.
    """
    frames = [frame for frame in _frames(sys._getframe(1)) if not _is_ours(frame, loader)]
    own = [frame for frame in frames if not _is_library(frame.f_code.co_filename)]
    return tuple(_site(frame) for frame in (own or frames)[:_MOST])


def _is_library(file: str) -> bool:
    return file.startswith(_STANDARD) or any(part in file for part in _INSTALLED)


def _frames(frame: FrameType | None) -> list[FrameType]:
    found = []
    while frame is not None:
        # Frames of importlib and of code made on the fly have no line to show.
        if not frame.f_code.co_filename.startswith("<"):
            found.append(frame)
        frame = frame.f_back
    return found


@lru_cache(maxsize=1)
def _own_folders() -> tuple[str, ...]:
    """torch's, the loader's and the profiler's, as they are named in code objects."""
    return tuple(os.path.dirname(str(module.__file__)) + os.sep for module in (torch, fastpipe, profiling))


def _is_ours(frame: FrameType, loader: Any) -> bool:
    """A frame of torch, of fastpipe's loader, of this profiler, or of the loader's own subclass."""
    code = frame.f_code
    if code.co_name == "__init__" and code.co_argcount and frame.f_locals.get(code.co_varnames[0]) is loader:
        return True
    return code.co_filename.startswith(_own_folders())


def _site(frame: FrameType) -> Site:
    place = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), None)
    return Site(
        file=frame.f_code.co_filename, line=frame.f_lineno, column=None if place is None else place[2]
    )


def names_of(loaders: Sequence[Sequence[Site]], folder: str) -> list[str]:
    """A name for each: FILE:LINE and the assigned variable; with callers or a number if that is ambiguous.

    Files below `folder`, the script's folder, are named relative to it.
    """
    names = [_name(sites, 1, folder) for sites in loaders]
    for depth in range(2, _MOST + 1):
        double = {name for name in names if names.count(name) > 1}
        names = [
            _name(sites, depth, folder) if name in double else name
            for name, sites in zip(names, loaders, strict=True)
        ]
    seen: dict[str, int] = {}
    numbered = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        numbered.append(name if names.count(name) == 1 else f"{name} #{seen[name]}")
    return numbered


def _name(sites: Sequence[Site], depth: int, folder: str) -> str:
    if not sites:
        return "made elsewhere"
    shown = [f"{_short(site.file, folder)}:{site.line}" for site in sites[:depth]]
    target = target_of(sites)
    return " < ".join([shown[0] + (f" ({target})" if target else ""), *shown[1:]])


def _short(file: str, folder: str) -> str:
    inside = os.path.join(os.path.realpath(folder), "")
    whole = os.path.realpath(file)
    return whole.removeprefix(inside) if whole.startswith(inside) else file


def target_of(sites: Sequence[Site]) -> str:
    """The variable that the script assigns the loader to, as written; "" for anything else."""
    if not sites:
        return ""
    site = sites[0]
    try:
        tree = ast.parse("".join(linecache.getlines(site.file)))
    except (SyntaxError, ValueError, RecursionError):
        return ""
    around = [node for node in ast.walk(tree) if isinstance(node, ast.Assign) and _holds(node, site)]
    if not around:
        return ""
    return ast.unparse(max(around, key=lambda node: (node.lineno, node.col_offset)).targets[0])


def _holds(node: ast.Assign, site: Site) -> bool:
    value = node.value
    if not value.lineno <= site.line <= (value.end_lineno or value.lineno):
        return False
    if site.column is None or value.lineno != site.line:
        return True
    ends_here = value.end_lineno == site.line
    return value.col_offset <= site.column and (not ends_here or site.column < (value.end_col_offset or 0))
