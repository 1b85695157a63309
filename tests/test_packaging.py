"""A wheel built from a clean copy holds `fastpipe` and nothing else, and works away from the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
ROOMS = {
    "fastpipe": "fastpipe",
    "kernels": "fastpipe/kernels",
    "train": "fastpipe/train",
    "profiling": "fastpipe/profiling",
    "explore": "fastpipe/explore",
}
COMMANDS = ("fastpipe-train", "fastpipe-preview", "fastpipe-profile", "fastpipe-write", "fastpipe-explore")
NOT_IN_A_CLONE = (".git", ".venv", "build", "dist", "runs", "*.egg-info", "__pycache__", ".*_cache", "*.so")
PROBE = """
from fastpipe.backends.registry import load
from fastpipe.system.machine import this_machine
found = load("turbo").probe(this_machine())
assert not found.ok
print(found.reason, found.remedy)
"""
IMPORT_ALL = """
import importlib.metadata, json, sys
import fastpipe, fastpipe.kernels, fastpipe.train, fastpipe.profiling, fastpipe.profiling.observe.cli
import fastpipe.explore, fastpipe._turbo
points = importlib.metadata.distribution("fastpipe-vision").entry_points.select(group="console_scripts")
for point in points:
    assert callable(point.load()), point
files = {name: module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "fastpipe"}
print(json.dumps({"files": files, "commands": sorted(point.name for point in points)}))
"""


def built(folder: Path, kind: str, pattern: str, **environment: str) -> Path:
    """What `build` makes of a copy without build products: a stale build/lib puts deleted modules into it."""
    shutil.copytree(ROOT, folder / "clone", ignore=shutil.ignore_patterns(*NOT_IN_A_CLONE))
    command = [sys.executable, "-P", "-m", "build", kind, "--no-isolation", "--outdir", str(folder)]
    ran = subprocess.run(
        [*command, str(folder / "clone")], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (found,) = folder.glob(pattern)
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, with the native module."""
    return built(tmp_path_factory.mktemp("wheel"), "--wheel", "*.whl")


@pytest.fixture(scope="module")
def without_compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a machine whose compiler does not work."""
    folder = tmp_path_factory.mktemp("without")
    return built(folder, "--wheel", "*.whl", CC="/bin/false", CXX="/bin/false")


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel."""
    return environment_of(wheel, tmp_path_factory.mktemp("elsewhere"))


def environment_of(wheel: Path, folder: Path) -> Path:
    """A virtual environment in `folder`; torch and the like are borrowed from the running one.

    A .pth file adds a folder to the search without running the .pth files there: the editable install is out
    of sight.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    install = [sys.executable, "-P", "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    subprocess.run([*install, "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    borrowed = Path(torch.__file__).parents[1]
    Path(paths["purelib"], "borrowed.pth").write_text(f"{borrowed}\n", encoding="utf-8")
    return folder


def run_in(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the environment in `folder`, from a directory that holds nothing of ours."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    program = str(folder / "bin" / command[0])
    return subprocess.run(
        [program, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def test_only_top_level_name_is_fastpipe(wheel: Path) -> None:
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"fastpipe"}
    assert len(names) == 2


def test_wheel_holds_every_module_and_recipe(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, target in ROOMS.items()
        for pattern in ("*.py", "*.pyi", "*.yaml", "*.json", "*.csv", "*.js", "*.css", "py.typed")
        for path in (ROOT / folder).rglob(pattern)
    }
    assert {"fastpipe/py.typed", "fastpipe/train/recipes/mild.yaml"} <= wanted
    found = {name for name in packed if name.startswith("fastpipe/")}
    assert wanted == {name for name in found if not name.endswith(".so")}
    assert [name.split(".")[0] for name in found - wanted] == ["fastpipe/_turbo"]


def test_the_source_archive_holds_what_the_native_module_is_built_from(tmp_path: Path) -> None:
    with tarfile.open(built(tmp_path, "--sdist", "*.tar.gz")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    native = {path.relative_to(ROOT).as_posix() for path in (ROOT / "fastpipe/decode/native").iterdir()}
    assert len(native) > 10 and {path.rpartition(".")[2] for path in native} == {"cpp", "h"}
    assert native - names == set()


def test_without_a_compiler_the_installation_succeeds_and_says_so(
    without_compiler: Path, tmp_path: Path
) -> None:
    assert not [name for name in zipfile.ZipFile(without_compiler).namelist() if name.endswith(".so")]
    folder = environment_of(without_compiler, tmp_path / "elsewhere")
    ran = run_in(folder, "python", "-c", PROBE)
    assert ran.returncode == 0, ran.stderr
    assert "was not built" in ran.stdout and "C++ compiler" in ran.stdout


def test_wheel_works_away_from_the_repository(elsewhere: Path) -> None:
    ran = run_in(elsewhere, "python", "-c", IMPORT_ALL)
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert len(report["files"]) >= 4
    assert all(Path(file).is_relative_to(elsewhere) for file in report["files"].values()), report["files"]
    assert report["commands"] == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_installed_commands_print_their_help(elsewhere: Path, command: str) -> None:
    ran = run_in(elsewhere, command, "--help")
    assert ran.returncode == 0, ran.stderr
    assert command in ran.stdout


def test_another_project_of_the_name_in_the_same_place_is_refused(elsewhere: Path, tmp_path: Path) -> None:
    shutil.copytree(elsewhere, tmp_path / "both", symlinks=True)
    (site,) = (tmp_path / "both").rglob("site-packages")
    theirs = site / "fastpipe-0.0.1.dist-info"
    theirs.mkdir()
    (theirs / "METADATA").write_text("Metadata-Version: 2.4\nName: fastpipe\nVersion: 0.0.1\n", "utf-8")
    python = str(tmp_path / "both" / "bin" / "python")
    ran = run_in(tmp_path / "both", python, "-c", "import fastpipe")
    assert ran.returncode == 1 and "fastpipe.errors.NameClashError" in ran.stderr
    assert "'fastpipe' 0.0.1" in ran.stderr and "pip uninstall fastpipe fastpipe-vision" in ran.stderr
    # Theirs came last: `import fastpipe` is out of our hands, the commands are not.
    (site / "fastpipe" / "__init__.py").write_text("", encoding="utf-8")
    for module in (
        "fastpipe.train.cli",
        "fastpipe.profiling.cli",
        "fastpipe.storage.beton.cli",
        "fastpipe.explore.cli",
    ):
        ran = run_in(tmp_path / "both", python, "-c", f"import {module}")
        assert ran.returncode == 1 and "fastpipe.errors.NameClashError" in ran.stderr, module


def test_every_folder_with_code_is_a_package() -> None:
    # Without it the wheel works and the editable install does not: a trap.
    folders = {path.parent for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert len(folders) >= len(ROOMS)
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []
