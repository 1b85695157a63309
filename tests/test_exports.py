"""The public surface is a list, here and in every module."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import fastpipe

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    path
    for room in ("fastpipe", "kernels", "train", "profiling")
    for path in (ROOT / room).rglob("*.py")
    if path.name == "__init__.py" or not path.name.startswith("_")
)


def test_fastpipe_exports_what_is_promised() -> None:
    assert fastpipe.__all__ == [
        "ArgumentError",
        "BackendError",
        "DataError",
        "DataLoader",
        "DefaultDeviceError",
        "DistributedEvalSampler",
        "DistributedSampler",
        "EmptyDatasetError",
        "FastpipeError",
        "FolderDataset",
        "MissingExtraError",
        "NameClashError",
        "PageLocalSampler",
        "RepeatAugSampler",
        "SampleError",
        "StateError",
        "__version__",
        "augment",
    ]
    assert fastpipe.__all__ == sorted(fastpipe.__all__)
    assert not [name for name in fastpipe.__all__ if not hasattr(fastpipe, name)]


def defined_in(tree: ast.Module) -> tuple[set[str], set[str]]:
    """The functions and classes that a module defines at its top, and every name bound there."""
    made = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    bound = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    imported = {
        (alias.asname or alias.name).split(".")[0]
        for n in tree.body
        if isinstance(n, ast.Import | ast.ImportFrom)
        for alias in n.names
    }
    return made, made | bound | imported


def listed_in(tree: ast.Module) -> list[str] | None:
    """The names in `__all__`, or None where a module has none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return None


# That the list is sorted is ruff's RUF022, in `make check`.
@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_all_lists_every_public_function_and_class(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    made, bound = defined_in(tree)
    listed = listed_in(tree)
    public = {name for name in made if not name.startswith("_")}
    if listed is None:
        assert not public, f"{path.name} has public names but no __all__"
        return
    assert len(listed) == len(set(listed))
    assert public <= set(listed), "add to __all__, or name with a leading underscore"
    assert not unbound(listed, bound, tree), "listed but not defined"


def unbound(listed: list[str], bound: set[str], tree: ast.Module) -> set[str]:
    """Listed names that nothing binds; a module-level `__getattr__` may make them on use."""
    lazy = any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body)
    return set() if lazy else set(listed) - bound
