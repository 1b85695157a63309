"""Runs a script or a module as `python script.py` or `python -m module` would."""

from __future__ import annotations

import importlib.util
import io
import os
import sys
import types
from importlib.machinery import SourceFileLoader
from typing import Any

from fastpipe.errors import ArgumentError


class Program:
    """Code to run as __main__, with the values that Python sets for it. `path_entry` becomes sys.path[0].

    argv0: sys.argv[0], a script's name as typed or a module's file.
    """

    def __init__(
        self,
        code: types.CodeType,
        file: str,
        path_entry: str,
        spec: Any = None,
        *,
        argv0: str | None = None,
        loader: Any = None,
    ) -> None:
        self.code = code
        self.file = file
        self.path_entry = path_entry
        self.spec = spec
        self.argv0 = file if argv0 is None else argv0
        self.loader = loader


def find_script(path: str) -> Program:
    """Compile a script. ArgumentError if it cannot be read; a SyntaxError is the script's own.

    As in Python, its file is an absolute path from the start, because the script may change the folder.
    """
    whole = os.path.join(os.getcwd(), path)
    try:
        with io.open_code(whole) as file:
            source = file.read()
    except OSError as error:
        raise ArgumentError(
            f"script must be a Python file that can be read. Found: {path!r} ({error.strerror})"
        ) from error
    code = compile(source, whole, "exec", dont_inherit=True)
    loader = SourceFileLoader("__main__", whole)
    return Program(code, whole, os.path.dirname(os.path.realpath(path)), argv0=path, loader=loader)


def find_module(name: str) -> Program:
    """The code of a module, or of `name.__main__` for a package. ArgumentError if there is none."""
    sys.path.insert(0, os.getcwd())
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except (ImportError, ValueError):
        spec = None
    finally:
        sys.path.pop(0)
    get_code = getattr(getattr(spec, "loader", None), "get_code", None)
    code = None if spec is None or get_code is None else get_code(spec.name)
    if spec is None or code is None:
        raise ArgumentError(f"-m must name a Python module that can be run. Found: {name!r}")
    return Program(code, str(spec.origin), os.getcwd(), spec, loader=spec.loader)


def run_as_main(program: Program, arguments: list[str]) -> None:
    """Run it to its end in this process, and raise whatever it raises.

    The module stays in sys.modules: functions that the script registered with atexit or left in threads need
    it, and worker processes started by spawn look it up.
    """
    main = types.ModuleType("__main__")
    vars(main).update(
        __file__=program.file,
        __builtins__=__builtins__,
        __spec__=program.spec,
        __loader__=program.loader,
        __cached__=getattr(program.spec, "cached", None),
        __annotations__={},
        __package__=None if program.spec is None else program.spec.parent,
    )
    sys.modules["__main__"] = main
    sys.argv = [program.argv0, *arguments]
    if not sys.flags.safe_path:
        sys.path[0:1] = [program.path_entry]
    exec(program.code, vars(main))
