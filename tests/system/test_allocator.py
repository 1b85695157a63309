"""Memory that a step frees is there for the next one, without the kernel clearing it again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from fastpipe.system.allocator import keep_freed_memory
changed = keep_freed_memory() if {keep} else False
def step():
    tensors = [torch.ones(12 << 20) for _ in range(4)]  # 48 MiB each, above what glibc keeps by itself
    return sum(float(tensor[0]) for tensor in tensors)
step(), step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(changed, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*, keep: bool, **variables: str) -> tuple[bool, int]:
    """Whether malloc was changed, and the pages that five equal steps asked the kernel for."""
    program, environment = PROGRAM.format(keep=keep), {**os.environ, **variables}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    changed, count = done.stdout.split()
    return changed == "True", int(count)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have another malloc")
def test_steps_after_the_first_take_no_new_pages() -> None:
    changed, count = faults(keep=True)
    _, without = faults(keep=False)
    # Not 0: a kernel that reclaims idle memory takes some pages back in between.
    assert changed and count < without / 4


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_settings_of_the_users_own_stay(name: str) -> None:
    value = "glibc.malloc.trim_threshold=131072" if name == "GLIBC_TUNABLES" else "131072"
    assert faults(keep=True, **{name: value})[0] is False
