"""`import fastpipe` costs torch and torchvision, and nothing that is optional or slow to start."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# numba alone takes as long as half of torch; rich is needed only by those who print.
UNWANTED = {
    *("numba", "llvmlite", "timm", "jsonargparse", "skimage", "sklearn", "scipy", "plotly", "tensorboard"),
    *("ffcv", "kornia", "nvidia.dali", "rich"),
}
LIST_MODULES = "import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"


def loaded_by(module: str) -> set[str]:
    """Names of all modules that a fresh interpreter holds after importing `module`."""
    command = [sys.executable, "-P", "-c", LIST_MODULES.format(module=module)]
    return set(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def test_import_fastpipe_loads_nothing_optional() -> None:
    assert not loaded_by("fastpipe") & UNWANTED


@pytest.mark.parametrize("module", ["fastpipe.train", "fastpipe.profiling"])
def test_the_commands_start_without_their_extras(module: str) -> None:
    assert not loaded_by(module) & (UNWANTED - {"numba", "llvmlite", "rich"})


def test_the_probe_sees_a_loaded_module() -> None:
    assert "numba" in loaded_by("numba") & UNWANTED
