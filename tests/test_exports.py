"""The public surface is a list; `__all__` of a module holds the names that another room uses, no others."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

import fastpipe

ROOT = Path(__file__).parent.parent
ROOMS = ("fastpipe", "kernels", "train", "profiling", "explore")
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
# `from fastpipe import augment` is this module: what it lists is for scripts.
FOR_SCRIPTS = ("fastpipe/transforms/specs.py",)


def test_fastpipe_exports_what_is_promised() -> None:
    assert fastpipe.__all__ == [
        "ArgumentError",
        "ArrayDataset",
        "BackendError",
        "DataError",
        "DataLoader",
        "DefaultDeviceError",
        "DistributedEvalSampler",
        "DistributedSampler",
        "EmptyDatasetError",
        "FastpipeError",
        "FolderDataset",
        "ImageList",
        "LiftError",
        "LiftWarning",
        "MissingExtraError",
        "NameClashError",
        "PageLocalSampler",
        "RepeatAugSampler",
        "SampleError",
        "StateError",
        "__version__",
        "augment",
        "from_csv",
        "from_hugging_face",
    ]
    assert fastpipe.__all__ == sorted(fastpipe.__all__)
    assert not [name for name in fastpipe.__all__ if not hasattr(fastpipe, name)]


def dotted(path: Path) -> str:
    """The name under which a module is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts if parts[0] == "fastpipe" else ("fastpipe", *parts))


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@cache
def trees() -> dict[str, tuple[Path, ast.Module]]:
    return {dotted(path): (path, ast.parse(path.read_text(encoding="utf-8"))) for path in MODULES}


def from_imports(module: str) -> dict[str, str]:
    """Modules that `module` has by a name, and the names that it takes out of others, as `module.name`."""
    found = {}
    for node in ast.walk(trees()[module][1]):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    return found


@cache
def used_elsewhere() -> dict[str, set[str]]:
    """By module, its names that another room uses, its own `__init__` hands on, or a command starts with."""
    found: dict[str, set[str]] = defaultdict(set)
    for user, (path, tree) in trees().items():
        hands_on = path.name == "__init__.py"
        for bound, source in from_imports(user).items():
            if source in trees():
                attributes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
                names = {node.attr for node in attributes if ast.unparse(node.value) == bound}
                if room_of(source) != room_of(user):
                    found[source] |= names
            else:
                module, _, name = source.rpartition(".")
                if module in trees() and (hands_on or room_of(module) != room_of(user)):
                    found[module].add(name)
        if hands_on:  # a lazy package names the homes of what it hands on
            for name, home in re.findall(
                r'"(\w+)": "(fastpipe\.[\w.]+)"', ast.unparse(tree).replace("'", '"')
            ):
                found[home].add(name)
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    for entry in scripts.values():
        module, _, name = entry.partition(":")
        found[module].add(name)
    return found


def bound_in(tree: ast.Module) -> set[str]:
    """Functions, classes and values that a module makes at its top."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        found |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return found


def listed_in(tree: ast.Module) -> list[str]:
    """The names in `__all__`; none without one."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


# That the list is sorted is ruff's RUF022, in `make check`.
@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_all_lists_what_another_room_uses_and_no_more(path: Path) -> None:
    tree = trees()[dotted(path)][1]
    listed = listed_in(tree)
    assert len(listed) == len(set(listed))
    if path.name == "__init__.py":
        handed_on = {*from_imports(dotted(path)), *bound_in(tree)}
        lazy = "__getattr__" in handed_on
        assert lazy or set(listed) <= handed_on, "listed but not there"
    elif path.relative_to(ROOT).as_posix() not in FOR_SCRIPTS:
        used = {name for name in used_elsewhere()[dotted(path)] & bound_in(tree) if not name.startswith("_")}
        assert set(listed) - used == set(), "used only inside its room: take it off the list"
        assert used - set(listed) == set(), "another room uses it: list it"


def test_a_name_that_nobody_else_uses_is_seen() -> None:
    used = used_elsewhere()["fastpipe.rng"]
    assert "uniforms" in used and "_subkey" not in used
