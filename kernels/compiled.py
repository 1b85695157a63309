"""The access to numba on the CPU: typed decorators with the options that keep Pillow's arithmetic."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

from numba import njit

from fastpipe.kernels.compilers import ApartCompiler, EntryCompiler, LinkedCompiler, can_link
from fastpipe.kernels.stamp import source_stamp

_log = logging.getLogger(__name__)
_Function = TypeVar("_Function", bound=Callable[..., Any])


@cache
def _warn_once(reason: str) -> None:
    _log.warning("%s", reason)


# Without reference counts (_nrt) a kernel cannot make an array: scratch comes from outside. There are no
# array expressions for numba to rewrite. Together these options save a tenth of the compile time.
_OPTIONS = {
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
    "fastmath": False,
    "no_rewrites": True,
    "_nrt": False,
}
_NO_WRAPPERS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def inner(function: _Function) -> _Function:
    """`function` for use by `compiled` ones only: no entry from Python, no file, no code of its own."""
    return _linked(function, LinkedCompiler)


def apart(function: _Function) -> _Function:
    """As `inner`, but never copied into its caller: for loops that LLVM would not vectorise there."""
    return _linked(function, ApartCompiler)


def _linked(function: _Function, compiler: type[LinkedCompiler]) -> _Function:
    special = {"pipeline_class": compiler} if can_link() else {}
    if not special:
        _log.debug(
            "untried with this numba: %s is compiled separately, which takes longer", function.__name__
        )
    return cast(_Function, njit(**_NO_WRAPPERS, **_OPTIONS, **special)(function))


def inlined(function: _Function) -> _Function:
    """`function` copied into each `compiled` or `inner` one that calls it: for rules of a line or two.

    They mix integer types, and a separate function would be compiled for each combination of types.
    """
    return cast(_Function, njit(inline="always", **_OPTIONS)(function))


def compiled(function: _Function) -> _Function:
    """`function` compiled at its first call: serial, without the GIL, without fastmath, cached on disk."""
    dispatcher = njit(no_cfunc_wrapper=True, pipeline_class=EntryCompiler, **_OPTIONS)(function)
    try:
        dispatcher.enable_caching()
    except RuntimeError as error:
        # Neither the package's folder nor the user's cache folder can be written to.
        reason = str(error).split(":", 1)[-1].strip()
        _warn_once(f"Kernels are compiled again in every process ({reason}). Remedy: set NUMBA_CACHE_DIR.")
        return cast(_Function, dispatcher)
    # numba's cache checks only the age of the kernel's own file, so a changed rule in another file would go
    # unnoticed. Our stamp covers the whole room.
    cache_file: Any = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if hasattr(cache_file, "_source_stamp"):
        cache_file._source_stamp = source_stamp()
    else:
        _log.debug("numba has no cache stamp here: delete __pycache__/*.nbi after a change to the kernels")
    return cast(_Function, dispatcher)
