"""How the room is compiled: numba only at the first call, rules plain, no stale cache."""

from __future__ import annotations

import ast
import gc
import inspect
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastpipe import kernels
from fastpipe.kernels import rules, stamp
from fastpipe.kernels.compilers import can_link
from fastpipe.kernels.stamp import source_stamp

ROOM = Path(kernels.__file__).parent


def test_importing_the_room_does_not_import_numba() -> None:
    code = "import sys, fastpipe.kernels; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_room_imports_nothing_else_of_fastpipe() -> None:
    for path in ROOM.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert not name.startswith("fastpipe") or name.startswith("fastpipe.kernels"), (path, name)


def test_rules_are_plain_functions() -> None:
    made = [value for value in vars(rules).values() if getattr(value, "__module__", "") == rules.__name__]
    assert len(made) > 10 and all(inspect.isfunction(value) for value in made)


def test_rules_do_not_call_one_another() -> None:
    # A plain function that calls a plain function cannot be compiled for two targets.
    functions = {name for name, value in vars(rules).items() if inspect.isfunction(value)}
    for node in ast.walk(ast.parse(inspect.getsource(rules))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in functions


def test_compiled_rules_equal_the_plain_ones() -> None:
    from fastpipe.kernels.compiled import compiled

    rng = np.random.default_rng(5)
    gray, blend, lerp = compiled(rules.gray), compiled(rules.blend), compiled(rules.lerp)
    for _ in range(300):
        red, green, blue = (int(level) for level in rng.integers(0, 256, 3))
        assert gray(red, green, blue) == rules.gray(red, green, blue)
        degenerate, level, factor = np.float32(red), np.float32(green), np.float32(rng.uniform(-1, 3))
        assert blend(degenerate, level, factor) == rules.blend(degenerate, level, factor)
        weight = float(rng.random())
        assert lerp(red, green, weight) == rules.lerp(red, green, weight)


@pytest.mark.parametrize(
    ("degenerate", "level", "factor"), [(151, 11, 0.85), (221, 61, 1.35), (230, 130, 1.96)]
)
def test_the_blend_rounds_twice(degenerate: int, level: int, factor: float) -> None:
    """A fused multiply-add would round once, fall just below a whole number and truncate one level lower."""
    from fastpipe.kernels.compiled import compiled

    once = np.float32(degenerate + float(np.float32(factor)) * (level - degenerate))
    twice = np.float32(degenerate) + np.float32(factor) * np.float32(level - degenerate)
    assert int(twice) == int(once) + 1
    arguments = np.float32(degenerate), np.float32(level), np.float32(factor)
    assert rules.blend(*arguments) == compiled(rules.blend)(*arguments) == int(twice)


def test_the_cache_is_stamped_with_the_whole_room() -> None:
    from fastpipe.kernels.cpu.augment import augment_images

    cache_file = augment_images._cache._cache_file  # type: ignore[attr-defined]
    assert cache_file._source_stamp == source_stamp()


@pytest.mark.parametrize("changed", ["rules.py", "cpu/warp.py", "cuda/pixels.py"])
def test_the_stamp_changes_with_every_folder_of_the_room(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = shutil.copytree(ROOM, tmp_path / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(stamp, "__file__", str(room / "stamp.py"))
    before = source_stamp.__wrapped__()
    with (room / changed).open("a") as file:
        file.write("# changed")
    assert source_stamp.__wrapped__() != before


def test_without_a_writable_cache_it_compiles_and_warns_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from numba.core.dispatcher import Dispatcher

    from fastpipe.kernels.compiled import compiled

    def refuse(self: object) -> None:
        raise RuntimeError("cannot cache function 'gray': no locator available for file 'rules.py'")

    monkeypatch.setattr(Dispatcher, "enable_caching", refuse)
    with caplog.at_level("WARNING"):
        gray, _ = compiled(rules.gray), compiled(rules.gray)
    assert gray(1, 2, 3) == rules.gray(1, 2, 3)
    assert len(caplog.records) == 1
    assert "no locator available" in caplog.text and "NUMBA_CACHE_DIR" in caplog.text


def has_machine_code(function: Any) -> bool:
    function.compile("int64(int64)")
    (overload,) = function.overloads.values()
    return bool(overload.library._codegen._engine.is_symbol_defined(overload.fndesc.llvm_func_name))


@pytest.mark.skipif(not can_link(), reason="fastpipe.kernels.compilers was not tried with this numba")
def test_an_inner_function_is_made_machine_code_in_its_caller_only() -> None:
    from fastpipe.kernels.compiled import apart, compiled, inner

    def outer(level: int) -> int:
        return once(level) + never(level)

    once, never = inner(rules.invert_level), apart(rules.invert_level)
    assert not has_machine_code(once) and not has_machine_code(never)
    for function, kept in ((once, False), (never, True)):
        library = next(iter(function.overloads.values())).library  # type: ignore[attr-defined]
        assert ("noinline" in str(library._final_module)) == kept
    assert compiled(outer)(3) == 504


def test_where_numba_cannot_be_extended_it_compiles_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastpipe.kernels import compiled as module

    def outer(level: int) -> int:
        return once(level)

    monkeypatch.setattr(module, "can_link", lambda: False)
    once = module.inner(rules.invert_level)
    assert has_machine_code(once)
    assert module.compiled(outer)(3) == 252


def test_only_a_tried_numba_is_extended(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastpipe.kernels import compilers

    monkeypatch.setattr(compilers.numba, "__version__", "0.68.99")
    assert compilers.can_link()
    monkeypatch.setattr(compilers.numba, "__version__", "0.99.0")
    assert not compilers.can_link()


def test_the_garbage_collector_runs_again_after_an_error() -> None:
    from numba.core.errors import TypingError

    from fastpipe.kernels.compiled import compiled

    def wrong(level: int) -> int:
        paused.append(gc.isenabled())  # numba cannot know this list
        return level

    paused: list[bool] = []
    assert gc.isenabled()
    with pytest.raises(TypingError):
        compiled(wrong)(3)
    assert gc.isenabled()
