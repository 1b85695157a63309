"""Imports point one way: docs/README.md shows the ranks, this test holds them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("fastpipe", "kernels", "train", "profiling", "explore")
FACADE = "fastpipe/__init__.py"
NATIVE = "_turbo"  # missing where there was no compiler
# A module may import only equal or lower rank.
RANKS = {
    **dict.fromkeys(
        ("broken", "errors", "extras", "installed", "types", "rng", "system", "efficiency", "kernels"), 0
    ),
    "page": 0,
    NATIVE: 0,
    "storage": 1,
    **dict.fromkeys(("decode", "transforms", "augment"), 2),
    "batch": 3,
    "device": 4,
    "backends": 5,
    "choice": 6,
    # The facade, who makes it anew, and "": what `from fastpipe import x` gets.
    **dict.fromkeys(("loader", "integrations", ""), 7),
    **dict.fromkeys(("train", "profiling"), 8),
    "explore": 9,
}
APART = {"train": "profiling", "profiling": "train"}
KERNELS_KNOW = {"numpy", "numba", "torch", *sys.stdlib_module_names}
CUDA_LANGUAGE = (("numba", "cuda"), ("numba.cuda", "types"))
OPTIONAL = (
    *("ffcv", "nvidia", "kornia", "numba.cuda", "timm", "jsonargparse", "skimage", "sklearn", "plotly"),
    *("tensorboard", "torch.utils.tensorboard", "wandb", "torchmetrics", "mlflow", "safetensors"),
    *("onnx", "onnxscript"),
    *("accelerate", "lightning", "pyarrow", "datasets", f"fastpipe.{NATIVE}"),
)


class Import(NamedTuple):
    """One imported name: `module` is where it comes from, `name` what was taken ("" for `import m`)."""

    line: int
    module: str
    name: str
    deferred: bool
    typing_only: bool = False


def imports_of(tree: ast.AST, deferred: bool = False, typing_only: bool = False) -> Iterator[Import]:
    """Every import below `tree`; `deferred` ones do not run when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name, "", deferred, typing_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (
                Import(node.lineno, module, alias.name, deferred, typing_only) for alias in node.names
            )
        else:
            never = typing_only or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports_of(node, deferred or never or function, never)


def graph_of(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Which module imports which, imports inside functions included; those for type checkers are not run."""
    modules = {module_of(path): source for path, source in sources.items()}
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for name, source in modules.items():
        for found in imports_of(ast.parse(source)):
            inner = f"{found.module}.{found.name}"
            target = inner if inner in modules else found.module
            if target in modules and not found.typing_only:
                graph[name].add(target)
    return graph


def module_of(path: str) -> str:
    """The name under which `path` (relative to the repository) is imported."""
    parts = path.removesuffix(".py").removesuffix("/__init__").split("/")
    return ".".join(parts if parts[0] == "fastpipe" else ("fastpipe", *parts))


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """A shortest circle through each module that lies on one, each circle once."""
    found: dict[frozenset[str], list[str]] = {}
    for start in graph:
        ways, seen = [[start]], {start}
        while ways:
            way = ways.pop(0)
            if start in graph[way[-1]]:
                found.setdefault(frozenset(way), way)
                break
            ways += [[*way, name] for name in sorted(graph[way[-1]] - seen)]
            seen |= graph[way[-1]]
    return list(found.values())


def room_of(found: Import) -> str:
    """The room of fastpipe that an import reaches; "" for a name of fastpipe itself."""
    parts = [*found.module.split("."), found.name]
    return parts[1] if parts[1] in RANKS or len(parts) > 2 else ""


def complaints(path: str, source: str) -> Iterator[str]:
    """Each rule that `source` breaks, were it the file `path` (relative to the repository)."""
    folder, _, rest = path.partition("/")
    own = folder if folder != "fastpipe" else "" if path == FACADE else rest.split("/")[0].removesuffix(".py")
    if own not in RANKS:
        yield f"{path}:1: {own} has no rank: give it one in tests/test_architecture.py"
        return
    found_here = list(imports_of(ast.parse(source)))
    if path.startswith("kernels/cuda/"):
        # CUDA kernels are numba-cuda's own language; nothing imports them but a deferred import.
        found_here = [found for found in found_here if (found.module, found.name) not in CUDA_LANGUAGE]
    problems = ((found.line, _problem(own, found)) for found in found_here)
    yield from dict.fromkeys(f"{path}:{line}: {problem}" for line, problem in problems if problem)


def _problem(own: str, found: Import) -> str:
    top = found.module.split(".")[0]
    dotted = f"{found.module}.{found.name}".rstrip(".")
    if found.module.startswith("."):
        return "relative import: write the full name"
    if top in ("kernels", "train", "profiling", "explore"):
        return f"import fastpipe.{top}: a bare `{top}` is another package"
    if not found.deferred and any(f"{dotted}.".startswith(f"{name}.") for name in OPTIONAL):
        return f"{dotted} is optional: import it inside the function that needs it"
    if own == "kernels" and top not in KERNELS_KNOW and not dotted.startswith("fastpipe.kernels"):
        return f"kernels may not import {top}: it knows numpy, numba and torch"
    return _rank_problem(own, found, dotted) if top == "fastpipe" else ""


def _rank_problem(own: str, found: Import, dotted: str) -> str:
    other = room_of(found)
    if other not in RANKS:
        return f"{other} has no rank: give it one in tests/test_architecture.py"
    if RANKS[other] > RANKS[own]:
        return f"{own or 'fastpipe'} [{RANKS[own]}] may not import {other or 'fastpipe'} [{RANKS[other]}]"
    if APART.get(own) == other and found.module not in ("fastpipe", f"fastpipe.{other}"):
        return f"{own} may use only what fastpipe.{other} itself exports, not {found.module}"
    private = [part for part in dotted.split(".") if part.startswith("_") and not part.endswith("__")]
    if private and other not in (own, NATIVE):
        return f"{private[0]} is private to {other or 'fastpipe'}"
    return ""


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    """The text of every module, by its path relative to the repository."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for folder in ROOMS
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def test_imports_point_one_way(sources: dict[str, str]) -> None:
    found = [complaint for path, source in sources.items() for complaint in complaints(path, source)]
    assert not found, "\n" + "\n".join(found)


def test_no_imports_go_in_circles(sources: dict[str, str]) -> None:
    found = [" -> ".join([*circle, circle[0]]) for circle in circles(graph_of(sources))]
    assert not found, "\n" + "\n".join(found)


def test_a_circle_is_found_also_inside_functions() -> None:
    sources = {
        "train/a.py": "from fastpipe.train.b import x",
        "train/b.py": "def f():\n    from fastpipe.train import c",
        "train/c.py": "import fastpipe.train.a",
        "train/d.py": "from fastpipe.train.a import x\nif TYPE_CHECKING:\n    import fastpipe.train.e",
        "train/e.py": "import fastpipe.train.d",
    }
    (circle,) = circles(graph_of(sources))
    assert set(circle) == {"fastpipe.train.a", "fastpipe.train.b", "fastpipe.train.c"}


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        (
            "fastpipe/batch/collate.py",
            "\n" * 6 + "import fastpipe.device",
            "collate.py:7: batch [3] may not import device [4]",
        ),
        ("fastpipe/batch/a.py", "from fastpipe import device", "batch [3] may not import device [4]"),
        ("fastpipe/batch/a.py", "import fastpipe.device.stage", "batch [3] may not import device [4]"),
        ("fastpipe/batch/a.py", "from fastpipe import DataLoader", "batch [3] may not import fastpipe [7]"),
        ("fastpipe/batch/a.py", "import fastpipe", "batch [3] may not import fastpipe [7]"),
        (
            "fastpipe/rng.py",
            "def f():\n    import fastpipe.storage",
            "rng.py:2: rng [0] may not import storage [1]",
        ),
        (
            "fastpipe/loader/state.py",
            "if TYPE_CHECKING:\n    import fastpipe.train",
            "may not import train [8]",
        ),
        ("fastpipe/__init__.py", "import fastpipe.train", "fastpipe [7] may not import train [8]"),
        ("kernels/flip.py", "from fastpipe.types import Spec", "kernels may not import fastpipe"),
        ("kernels/flip.py", "import PIL", "kernels may not import PIL"),
        (
            "train/loop.py",
            "from fastpipe.profiling.measure.stages import x",
            "only what fastpipe.profiling itself exports",
        ),
        ("train/loop.py", "from fastpipe.batch.order import _x", "_x is private to batch"),
        ("train/loop.py", "from profiling import x", "a bare `profiling` is another package"),
        ("train/loop.py", "from .schedule import x", "relative import"),
        (
            "train/loop.py",
            "try:\n    import timm.data\nexcept ImportError:\n    pass",
            "timm.data is optional",
        ),
        ("train/loop.py", "from torch.utils import tensorboard", "torch.utils.tensorboard is optional"),
        ("kernels/flip.py", "from numba import cuda", "numba.cuda is optional"),
        ("fastpipe/backends/a.py", "from fastpipe import _turbo", "fastpipe._turbo is optional"),
        ("fastpipe/utils.py", "", "utils has no rank"),
        ("fastpipe/loader/dataloader.py", "from fastpipe.utils import x", "utils has no rank"),
    ],
)
def test_a_bad_import_is_named(path: str, source: str, complaint: str) -> None:
    (found,) = complaints(path, source)
    assert found.startswith(f"{path}:") and complaint in found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("fastpipe/device/stage.py", "from fastpipe.kernels.flip import flip\nfrom fastpipe.rng import draw"),
        ("fastpipe/__init__.py", "from fastpipe.loader import DataLoader\nfrom fastpipe import augment"),
        ("kernels/flip.py", "import math\nimport numpy as np\nfrom fastpipe.kernels.blend import blend"),
        ("kernels/flip.py", "def compiled():\n    from numba import cuda"),
        ("kernels/cuda/flip.py", "from numba import cuda"),
        ("train/loop.py", "from fastpipe import DataLoader\nfrom fastpipe.profiling import Clock"),
        ("train/model.py", "def build():\n    import timm"),
        ("train/loop.py", "from fastpipe.train.schedule import _cosine"),
    ],
)
def test_a_good_import_passes(path: str, source: str) -> None:
    assert list(complaints(path, source)) == []
