"""CPU quota and memory limit of this process's groups, on made-up /proc and /sys trees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastpipe.system.cgroups import cpu_quota, memory_limit, usable_cpus

_GIB = 1 << 30
V2 = {"proc/self/cgroup": "0::/pod/box\n", "sys/fs/cgroup/pod/box/cpu.max": "50000 100000\n"}
V1 = {
    "proc/self/cgroup": "9:name=systemd:/\n4:cpu,cpuacct:/pod/box\n",
    "sys/fs/cgroup/cpu,cpuacct/pod/box/cpu.cfs_quota_us": "50000\n",
    "sys/fs/cgroup/cpu,cpuacct/pod/box/cpu.cfs_period_us": "100000\n",
}


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(("files", "version"), [(V2, 2), (V1, 1)])
def test_the_quota_of_a_nested_group_counts_for_the_loader(
    tmp_path: Path, files: dict[str, str], version: int
) -> None:
    """num_workers="auto" and the profiler go by it; the top level alone has no file here."""
    assert cpu_quota(plant(tmp_path, files)) == (0.5, version)
    assert usable_cpus(tmp_path) == 0.5


def test_without_a_quota_affinity_counts(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == len(os.sched_getaffinity(0))
    plant(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "99900000 100000\n"})
    assert usable_cpus(tmp_path) == len(os.sched_getaffinity(0)), "a quota above it allows no more"


def test_the_lowest_quota_on_the_way_up_holds(tmp_path: Path) -> None:
    plant(
        tmp_path, {**V2, "sys/fs/cgroup/pod/cpu.max": "20000 100000\n", "sys/fs/cgroup/cpu.max": "max 100000"}
    )
    assert cpu_quota(tmp_path) == (0.2, 2)


def test_in_a_container_the_mount_itself_counts(tmp_path: Path) -> None:
    """The path in /proc is the host's and does not exist below the container's mount."""
    plant(tmp_path, {"proc/self/cgroup": "0::/../../host/pod\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"})
    assert cpu_quota(tmp_path) == (2.0, 2)


@pytest.mark.parametrize("content", ["max 100000\n", "", "-1\n", "100000\n", "5 0\n"])
def test_no_quota_and_nonsense_are_no_limit(tmp_path: Path, content: str) -> None:
    plant(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": content})
    assert cpu_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": f"{2 * _GIB}\n"}, (2 * _GIB, 2)),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, None),
        (
            {
                "proc/self/cgroup": "4:memory:/a\n",
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": f"{_GIB}\n",
            },
            (_GIB, 1),
        ),
        (  # no limit, as version 1 writes it
            {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            None,
        ),
    ],
)
def test_memory_limits(tmp_path: Path, files: dict[str, str], expected: tuple[int, int] | None) -> None:
    assert memory_limit(plant(tmp_path, files)) == expected
