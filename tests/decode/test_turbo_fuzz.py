"""Minutes of fuzzing under clang's sanitizers: what scripts/fuzz runs for hours."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.debian
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    not shutil.which("clang++"), reason="clang++ is missing: scripts/apt clang libclang-rt-14-dev"
)
@pytest.mark.parametrize("what", ("60", "threads"))
def test_no_finding(what):
    done = subprocess.run([ROOT / "scripts" / "fuzz", what], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    if what == "60":
        (executions,) = (
            line.split()[1] for line in done.stderr.splitlines() if "number_of_executed_units" in line
        )
        assert int(executions) > 5000
