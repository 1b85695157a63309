"""The CUDA kernels in numba's simulator: grids, indices, lists and layouts, on tiny images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastpipe.kernels.cuda_compile import missing_package

pytestmark = [
    pytest.mark.cuda_gates,
    pytest.mark.skipif(missing_package() is not None, reason="numba-cuda is not installed"),
]


@pytest.fixture(scope="module")
def cases() -> list[dict[str, Any]]:
    """What each case found. A process of its own: the simulator is chosen when numba is imported."""
    script = Path(__file__).parent / "cuda_simulator.py"
    done = subprocess.run(
        [sys.executable, "-P", str(script)],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_exact_operations_have_the_cpu_kernels_bytes(cases: list[dict[str, Any]]) -> None:
    exact = [case for case in cases if case["name"].startswith("exact")]
    assert len(exact) >= 27
    assert [case for case in exact if case["differ"]] == []


def test_bilinear_warps_keep_contract_6(cases: list[dict[str, Any]]) -> None:
    bilinear = [case for case in cases if case["name"].startswith("bilinear")]
    assert bilinear
    for case in bilinear:
        assert case["largest"] <= 1 and case["differ"] <= 5e-4 * case["of"], case
