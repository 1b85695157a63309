"""How numba compiles this room: functions that only others call are optimised once, with their callers.

numba optimises each function and makes machine code of it, links it into its caller, does both again there,
and so on outwards, although Python can call only the outermost. First call of every CPU kernel, in
CPU-seconds: plain numba 19.4, with EntryCompiler 16.9, with LinkedCompiler as well 13.0.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numba
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

_TRIED = "0.68."
_OVERRIDDEN = (
    "codegen",
    "finalize",
    "get_pointer_to_function",
    "_optimize_functions",
    "_optimize_final_module",
    "_finalize_final_module",
)


def can_link() -> bool:
    """Whether LinkedCompiler was tried with this numba: it overrides partly private code.

    Another numba may keep the names and change their meaning, so a check of names is not enough.
    """
    return numba.__version__.startswith(_TRIED) and all(hasattr(JITCodeLibrary, x) for x in _OVERRIDDEN)


class _NoEngine:
    """Replaces the engine that keeps Python objects for machine code; our code has and needs none."""

    def set_env(self, name: str, env: object) -> None:
        """Do nothing."""


class _LinkedLibrary(JITCodeLibrary):  # type: ignore[misc]
    """A function's code as it was lowered, for linking into others; not optimised, no machine code."""

    @property
    def codegen(self) -> Any:
        return _NoEngine()

    def get_pointer_to_function(self, name: str) -> int:
        self._ensure_finalized()
        return 0

    def _optimize_functions(self, ll_module: Any) -> None:
        # As numba's own method does first; modules of different layouts cannot be linked.
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True


class _ApartLibrary(_LinkedLibrary):
    def finalize(self) -> None:
        for function in self._final_module.functions:
            if not function.is_declaration:
                function.add_function_attribute("noinline")
        super().finalize()


class LinkedCompiler(Compiler):  # type: ignore[misc]
    """For functions that only compiled functions call."""

    library = _LinkedLibrary

    def define_pipelines(self) -> Any:
        """numba's own passes, filling our library."""
        self.state.library = self.library(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        return super().define_pipelines()


class ApartCompiler(LinkedCompiler):
    """The same for loops that LLVM vectorises only if they are not copied into their caller."""

    library = _ApartLibrary


class EntryCompiler(Compiler):  # type: ignore[misc]
    """For functions that Python calls: pauses the garbage collector, which saves an eighth of the time.

    Compiling makes millions of objects that stay alive or die by reference count; walking the objects of
    torch and numba each time finds almost nothing.
    """

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        """Compile `func` and what it calls."""
        enabled = gc.isenabled()
        gc.disable()
        try:
            return super().compile_extra(func)
        finally:
            if enabled:
                gc.enable()
