"""scripts/install with stand-ins for pip and apt: what is asked for, in which order, what a user reads."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RECORDER = '#!/bin/sh\necho "$(basename "$0") $*" >>"{log}"\n'


def _program(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def clone(tmp_path):
    """A clone whose .venv has a pip that writes down what it is asked for, and a PATH with such commands."""
    shutil.copytree(ROOT / "scripts", tmp_path / "clone" / "scripts")
    for name in ("pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, tmp_path / "clone")
    shutil.copytree(ROOT / "fastpipe/decode/native", tmp_path / "clone/fastpipe/decode/native")
    programs, log = tmp_path / "bin", tmp_path / "log"
    venv = tmp_path / "clone" / ".venv" / "bin"
    venv.mkdir(parents=True)
    programs.mkdir()
    series = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for name in ("python", series):
        _program(venv / name, f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    recorder = RECORDER.format(log=log)
    _program(venv / "pip", f"{recorder}# {venv}/\n")
    _program(programs / "apt-get", recorder)
    _program(programs / "pkg-config", "#!/bin/sh\nexit ${NO_LIBRARIES:-0}\n")
    return tmp_path / "clone", log


def _install(clone, extras, **environment):
    folder, log = clone
    path = f"{folder.parent / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["scripts/install"],
        cwd=folder,
        env={**os.environ, "PATH": path, "EXTRAS": extras, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    asked = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return done, asked


def test_the_demo_asks_for_neither_ffcv_nor_dali(clone):
    done, asked = _install(clone, "train,demo,dev")
    assert done.returncode == 0, done.stderr
    assert asked == ["pip install --editable .[train,demo,dev]"]


def test_ffcv_is_built_with_what_the_environment_has(clone):
    done, asked = _install(clone, "dev,ffcv,dali")
    assert done.returncode == 0, done.stderr
    first, second = (line for line in asked if line.startswith("pip"))
    assert {"numpy", "torch", "setuptools>=77", "pybind11>=2.13"} <= set(first.split())
    assert second == "pip install --no-build-isolation --editable .[dev,ffcv,dali]"


def test_what_was_installed_is_not_installed_again(clone):
    _install(clone, "train,demo,dev,dali")
    assert _install(clone, "train,demo,dev")[1] == []
    assert _install(clone, "dev,kornia")[1] == ["pip install --editable .[dev,kornia]"]


def test_it_is_installed_again_when_the_native_sources_change(clone):
    _install(clone, "dev")
    assert _install(clone, "dev")[1] == []
    source = clone[0] / "fastpipe/decode/native/status.h"
    source.write_text(source.read_text() + "// changed\n")
    assert _install(clone, "dev")[1] == ["pip install --editable .[dev]"]


def test_what_bears_the_old_name_leaves_first(clone):
    folder, _ = clone
    (folder / ".venv/lib/python3.11/site-packages/fastpipe-0.1.0.dist-info").mkdir(parents=True)
    done, asked = _install(clone, "dev")
    assert done.returncode == 0, done.stderr
    assert asked == ["pip uninstall --yes fastpipe", "pip install --editable .[dev]"]


def test_the_libraries_of_the_system_come_first(clone):
    folder, _ = clone
    _program(folder.parent / "bin" / "id", "#!/bin/sh\necho 0\n")
    done, asked = _install(clone, "dev,ffcv", NO_LIBRARIES="1")
    assert done.returncode == 0, done.stderr
    assert asked[0].startswith("apt-get update")
    assert "libopencv-dev" in asked[1] and "libturbojpeg0-dev" in asked[1] and "pkg-config" in asked[1]
    assert asked[2].startswith("pip install")


def test_without_root_the_commands_are_named_and_nothing_is_installed(clone):
    folder, _ = clone
    _program(folder.parent / "bin" / "id", "#!/bin/sh\necho 1000\n")
    done, asked = _install(clone, "dev,ffcv", NO_LIBRARIES="1")
    assert done.returncode != 0
    assert "sudo apt-get install pkg-config libopencv-dev libturbojpeg0-dev" in done.stderr
    assert "EXTRAS=train,demo,dev,dali,kornia make test" in done.stderr
    assert asked == []
